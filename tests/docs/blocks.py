"""The fenced blocks of README, docs and the examples' pages, and what is not run of them.

A comment right before a block says what is done with it where that is not plain:

    <!-- not run here: REASON -->            what a machine like this has not
    <!-- run by: tests/FILE.py::TEST -->     the test that runs it

`python -m tests.docs.blocks` lists what is not run, with the reasons.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:^[ ]*<!--(?P<remark>(?:(?!-->).)*)-->\n)?"
    r"^(?P<indent>[ ]*)(?P<ticks>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)

SHELL = ("console", "bash", "sh")
"""Languages of commands; in a console they are the lines that begin with `$ `."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Its file, from the root of the repository.
        line: Where it begins, from 1.
        info: What stands behind the fence: the language, and perhaps more.
        text: What is in it, without common indentation.
        remark: The comment before it; empty if there is none.
    """

    page: str
    line: int
    info: str
    text: str
    remark: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def why_not_run(self) -> str | None:
        kind, _, reason = self.remark.partition(":")
        return reason.strip() if kind == "not run here" else None

    @property
    def run_by(self) -> str | None:
        kind, _, test = self.remark.partition(":")
        return test.strip() if kind == "run by" else None

    @property
    def for_a_copy(self) -> bool:
        """Whether it is of a page of docs/extending, whose test runs it in a copy of the code."""
        return bool(re.search(r"\b(file|row)=", self.info))


def pages() -> list[Path]:
    """Return the pages for users and developers."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return [*found, *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages, perhaps of some languages only."""
    found = [block for page in pages() for block in blocks_of(page)]
    return [one for one in found if not languages or one.language in languages]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    content = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            content.count("\n", 0, match.start("ticks")) + 1,
            match["info"].strip(),
            textwrap.dedent(match["text"]),
            (match["remark"] or "").strip(),
        )
        for match in _FENCE.finditer(content)
    ]


@dataclass(frozen=True)
class Command:
    """A command of a block: its words, without variables that are set before them."""

    block: Block
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def commands() -> list[Command]:
    """Return the commands of all pages, one by one."""
    return [
        Command(block, words)
        for block in blocks(*SHELL)
        for line in _lines(block)
        for words in split(line)
    ]


def _lines(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return lines


def split(line: str) -> list[tuple[str, ...]]:
    """Return the words of each command in a line of a shell, those of `$(…)` too."""
    inner = [words for part in re.findall(r"\$\(([^()]*)\)", line) for words in split(part)]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= set(";|&"):
            found.append([])
        elif set(word) <= set("<>&"):
            redirected = True
        elif redirected:
            redirected = False
        elif found[-1] or not re.fullmatch(r"[A-Za-z_]\w*=.*", word, re.DOTALL):
            found[-1].append(word)
    return [tuple(words) for words in found if words] + inner


def not_run() -> list[Block]:
    """Return the blocks that cannot run on a machine like this."""
    return [block for block in blocks() if block.why_not_run is not None]


if __name__ == "__main__":
    print("Blocks of the documentation that are read by tests, and not run:")
    for one in not_run():
        print(f"  {one.place}: {one.why_not_run}")
