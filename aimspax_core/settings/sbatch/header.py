"""The options of a Slurm job as users write them: lines that begin with `#SBATCH`.

Source: sbatch's manual, and what sbatch of Slurm 22.05 does with such lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from aimspax_core.settings.sbatch.known_options import (
    ALIASES,
    ALLOWED,
    COUNTS,
    GPUS,
    HAS_VALUE,
    HETJOB,
    NAMES,
    NO_VALUE,
    REFUSED,
    SHORT,
    SIZES,
    TIMES,
)
from aimspax_core.settings.sbatch.quantities import (
    count,
    gpus,
    gpus_in_resources,
    is_unlimited,
    megabytes,
    seconds,
)
from aimspax_core.text import nearest_name

_CLOSE = 0.8
"""A name that is so much like a known one is misspelt; others may be of a plugin of the site."""

_PLAIN = re.compile(r"[\w@%+=:,./\[\]{}()~*?!|&-]*", re.ASCII)

_MEMORIES = ("mem", "mem-per-cpu", "mem-per-gpu")
"""Of these sbatch takes one."""


@dataclass(frozen=True)
class Directive:
    """One option of sbatch.

    Attributes:
        name: Its long name without dashes; one that sbatch itself does not have is kept, since
            sites add options by plugins.
        value: None for an option without one, such as `--exclusive`.
        line: Its line in the text, from 1; 0 if it was added.
    """

    name: str
    value: str | None
    line: int

    def __str__(self) -> str:
        if self.value is None:
            return f"--{self.name}"
        if _PLAIN.fullmatch(self.value):
            return f"--{self.name}={self.value}"
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'--{self.name}="{escaped}"'


@dataclass(frozen=True)
class JobHeader:
    """The options of a job.

    Attributes:
        directives: In the order in which they are written; of an option the last one holds.
        notes: What was read in another way than sbatch would, or may not be meant.
    """

    directives: tuple[Directive, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    hints: ClassVar[Mapping[str, str]] = {
        "cores": "#SBATCH --ntasks-per-node=<cores of a node>",
        "memory": "#SBATCH --mem=<MB of a node>",
        "disk": "#SBATCH --tmp=<MB of a node>",
        "gpus": "--gres=gpu:1",
        "time": "--time",
    }

    @classmethod
    def parse(cls, text: str, said: Mapping[str, tuple[str, int]] | None = None) -> JobHeader:
        """Read lines with `#SBATCH`, comments and blank lines.

        Args:
            text: The lines.
            said: Options that other keys say too, with key and value: what is in the lines has to
                be the same, and what is not is added.

        Raises:
            ValueError: Its text has a line for each mistake, which begins with the line's number.
        """
        said = said or {}
        reader = _Reader(said)
        for number, line in enumerate(text.splitlines(), 1):
            reader.read(number, line)
        reader.look_for_repeats()
        reader.look_for_two_memories()
        if reader.mistakes:
            raise ValueError("\n".join(reader.mistakes))
        header = cls(tuple(reader.directives), tuple(reader.notes))
        for name, (_, value) in said.items():
            header = header if header.has(name) else header.having(name, str(value))
        return header

    def get(self, name: str) -> str | None:
        """Return the value that holds of an option; None if it has none or is not there."""
        return next((one.value for one in reversed(self.directives) if one.name == name), None)

    def has(self, name: str) -> bool:
        """Tell whether an option is there."""
        return any(one.name == name for one in self.directives)

    def having(self, name: str, value: str) -> JobHeader:
        """Return the same options with one more, or with another value of it."""
        others = tuple(one for one in self.directives if one.name != name)
        return JobHeader((*others, Directive(name, value, 0)), self.notes)

    def named(self, name: str) -> JobHeader:
        """Return the same options for jobs of this name."""
        return self.having("job-name", name)

    def lines(self) -> tuple[str, ...]:
        """Return what follows `#SBATCH ` in the lines of a job script, an option a line."""
        return tuple(map(str, self.directives))

    @property
    def job_name(self) -> str | None:
        """Name of the job; None if the options have none."""
        return self.get("job-name")

    @property
    def has_limit(self) -> bool:
        """Whether there is a time limit among the options, be it that there is none."""
        return self.has("time")

    @property
    def walltime_s(self) -> float | None:
        """Shortest time limit (s) that Slurm may set, in whole minutes as Slurm does; else None."""
        limits = (seconds(self.get(name)) for name in TIMES)
        shortest = min((limit for limit in limits if limit is not None), default=None)
        return None if shortest is None else 60.0 * math.ceil(shortest / 60)

    @property
    def cores_per_node(self) -> int | None:
        """Cores of the job on each of its nodes; None if the options do not say it."""
        tasks, each = self._tasks_per_node, count(self.get("cpus-per-task"))
        per_gpu = count(self.get("cpus-per-gpu"))
        said = [
            (tasks or 1) * (each or 1) if tasks or each else None,
            count(self.get("mincpus")),
            per_gpu * self.gpus_per_node if per_gpu else None,
        ]
        return max((cores for cores in said if cores), default=None)

    @property
    def memory_per_node_mb(self) -> float | None:
        """Memory of the job on each of its nodes; None if the options do not say it."""
        all_of_it = megabytes(self.get("mem"))
        if self.has("mem"):
            return all_of_it or None  # 0 is all that a node has
        each, number = megabytes(self.get("mem-per-cpu")), self.cores_per_node
        if each is None:
            each, number = megabytes(self.get("mem-per-gpu")), self.gpus_per_node
        return each * number or None if each is not None and number else None

    @property
    def disk_per_node_mb(self) -> float | None:
        """Temporary disk of each node; None if the options do not say it."""
        return megabytes(self.get("tmp")) or None

    @property
    def gpus_per_node(self) -> int:
        """GPUs of the job on each of its nodes; 0 if the options ask for none."""
        tasks = self._tasks_per_node or 1
        sockets = count(self.get("sockets-per-node")) or 1
        said = [
            gpus_in_resources(self.get("gres")),
            gpus_in_resources(self.get("tres-per-node")),
            gpus_in_resources(self.get("tres-per-task")) * tasks,
            gpus(self.get("gpus-per-node")),
            gpus(self.get("gpus-per-task")) * tasks,
            gpus(self.get("gpus-per-socket")) * sockets,
            gpus(self.get("gpus")) // self._nodes,
        ]
        return max(said)

    @property
    def _nodes(self) -> int:
        return count(self.get("nodes")) or 1

    @property
    def _tasks_per_node(self) -> int | None:
        ntasks = count(self.get("ntasks"))
        spread = max(1, ntasks // self._nodes) if ntasks else None
        return count(self.get("ntasks-per-node")) or spread


def read_options(text: str, nodes: int, tasks_per_node: int | None = None) -> JobHeader:
    """Read the options of a job; see `ReadOptions` in the table of schedulers."""
    said = {"nodes": ("nodes_per_block", nodes)}
    if tasks_per_node is not None:
        said["ntasks-per-node"] = ("tasks_per_node", tasks_per_node)
    return JobHeader.parse(text, said)


class _Reader:
    """Reads one line after the other."""

    def __init__(self, said: Mapping[str, tuple[str, int]]) -> None:
        self._said = said
        self.directives: list[Directive] = []
        self.mistakes: list[str] = []
        self.notes: list[str] = []
        self._line = 0

    def read(self, number: int, line: str) -> None:
        """Read a line; sbatch reads one only if `#SBATCH` is at its very beginning."""
        self._line, text = number, line.strip()
        if text.startswith("#SBATCH"):
            self._options(text.removeprefix("#SBATCH"))
            if not line.startswith("#"):
                self._note("is read, though sbatch reads only what begins with #SBATCH")
        elif text.startswith(("#PBS", "#BSUB")):
            self._mistake(f"found {text!r}; write it for Slurm, with #SBATCH")
        elif re.match(r"#\s*SBATCH\s+-", text, re.IGNORECASE):
            self._note("is a comment to sbatch; an option begins with #SBATCH")
        elif text and not text.startswith("#"):
            self._mistake(f"found {text!r}; a shell line belongs into worker_str")

    def look_for_repeats(self) -> None:
        """Note options that are there twice with different values."""
        before: dict[str, Directive] = {}
        for one in self.directives:
            first = before.get(one.name)
            if first is not None and first.value != one.value and one.name in NAMES:
                self._line = one.line
                self._note(f"{one} holds, not {first} of line {first.line}")
            before[one.name] = one

    def _options(self, text: str) -> None:
        try:
            words = list(_words(text))
        except ValueError as error:
            self._mistake(str(error))
            return
        if words[:1] in (["hetjob"], ["packjob"]):
            self._mistake(f"found {words[0]!r}; {HETJOB}")
            return
        while words:
            word = words.pop(0)
            if word.startswith("--") and len(word) > 2:
                self._long(word.removeprefix("--"), words)
            elif word.startswith("-") and len(word) > 1 and word != "--":
                self._short(word.removeprefix("-"), words)
            else:
                self._mistake(f"found {word!r}; allowed: options such as --time=60 or -t 60")

    def _long(self, word: str, words: list[str]) -> None:
        written, equals, given = word.partition("=")
        found = [written] if written in NAMES else sorted(_begun_by(written))
        value = given if equals else None
        if len(found) != 1 and value is None and words and not words[0].startswith("-"):
            value = words.pop(0)  # whatever it is, its value is no option
        if len(found) > 1:
            self._mistake(f"--{written} may be --{' or --'.join(found)}; write it in full")
            return
        if not found:
            self._unknown(written, value)
            return
        name = ALIASES.get(found[0], found[0])
        if name in HAS_VALUE and value is None:
            value = words.pop(0) if words else None
            if value is None:
                self._mistake(f"--{name} needs a value")
                return
        if name in NO_VALUE and value is not None:
            self._mistake(f"--{name} has no value; found {value!r}")
            return
        self._add(name, value)

    def _unknown(self, name: str, value: str | None) -> None:
        """Keep an option that a plugin of the site may have; a misspelt one is a mistake."""
        close = nearest_name(name, NAMES, least=_CLOSE)
        if close:
            self._mistake(f"--{name} is no option of sbatch; did you mean --{close}?")
            return
        self._note(f"--{name} is no option of sbatch itself; a plugin of the site has to have it")
        self.directives.append(Directive(name, value, self._line))

    def _short(self, letters: str, words: list[str]) -> None:
        meant = letters.partition("=")[0]
        if meant in NAMES:
            self._mistake(f"found -{letters}; a long option has two dashes: --{letters}")
            return
        while letters:
            letter, letters = letters[0], letters[1:]
            name = SHORT.get(letter)
            if name is None:
                self._mistake(f"-{letter} is no option of sbatch")
                return
            if name in NO_VALUE:
                self._add(name, None)
                continue
            if name in HAS_VALUE and not letters and not words:
                self._mistake(f"-{letter} (--{name}) needs a value")
                return
            if not letters and name in HAS_VALUE:
                letters = words.pop(0)
            self._add(name, letters or None)
            return

    def _add(self, name: str, value: str | None) -> None:
        if name in REFUSED:
            self._mistake(f"--{name} cannot be used here: {REFUSED[name]}")
        elif name in ALLOWED and not _readable(name, value):
            self._mistake(f"--{name}: found {value!r}; allowed: {ALLOWED[name]}")
        elif name in self._said and value != str(self._said[name][1]):
            key, number = self._said[name]
            self._mistake(f"--{name}: found {value!r}, but {key} is {number}; allowed: the same")
        else:
            self.directives.append(Directive(name, value, self._line))

    def look_for_two_memories(self) -> None:
        """Note options for memory that exclude each other: sbatch takes the last, or refuses."""
        asked = [one for one in self.directives if one.name in _MEMORIES]
        names = list(dict.fromkeys(one.name for one in asked))
        if len(names) > 1:
            self._line = asked[-1].line
            both = " and ".join(f"--{name}" for name in names)
            self._note(f"{both} exclude each other; one is usual")

    def _mistake(self, text: str) -> None:
        self.mistakes.append(f"line {self._line}: {text}")

    def _note(self, text: str) -> None:
        self.notes.append(f"line {self._line}: {text}")


def _words(text: str) -> Iterator[str]:
    r"""Yield the words of a line as sbatch does: quotes, `\` before any letter, `#` ends it."""
    word, quote, escaped, begun = "", "", False, False
    for letter in text:
        if letter.isspace() and not quote:  # after a backslash too
            if begun:
                yield word
            word, escaped, begun = "", False, False
        elif escaped:
            word, escaped, begun = word + letter, False, True
        elif letter == "\\":
            escaped = True
        elif letter == quote:
            quote = ""
        elif quote:
            word += letter
        elif letter in "\"'":
            quote, begun = letter, True
        elif letter == "#":
            break
        elif letter == ":" and not begun:
            raise ValueError(f"found `:` between options; {HETJOB}")
        else:
            word, begun = word + letter, True
    if quote:
        raise ValueError(f"found {text.strip()!r}; a quote ({quote}) is not closed")
    if begun:
        yield word


def _begun_by(text: str) -> set[str]:
    """Return the options that a name is the beginning of; sbatch reads it if there is one."""
    names = {ALIASES.get(name, name) for name in NAMES if name.startswith(text)}
    return names if text else set()


def _readable(name: str, value: str | None) -> bool:
    if name in COUNTS:
        return count(value) is not None
    if name in GPUS:
        return bool(re.fullmatch(r"([^:,\s]+:)?\d+(,([^:,\s]+:)?\d+)*", value or ""))
    if name in SIZES:
        return megabytes(value) is not None
    return is_unlimited(value or "") or seconds(value) is not None
