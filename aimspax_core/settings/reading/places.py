"""Where the keys of a settings file stand, for messages that are made once the file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Places:
    """The name of a settings file as the user has it, and the lines of its keys.

    Attributes:
        file: The file's name.
        lines: Line by key (section and keys inside it, with dots between).
        overridden: Who says a key in place of the file: `environment`, `override` and the like.
    """

    file: str
    lines: Mapping[str, int] = field(default_factory=dict)
    overridden: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: str) -> str:
        """Return place and key, as a mistake begins: `aimsPAX.yml:12  MD.friction`.

        A key that the file does not have is where the nearest section around it is.
        """
        parts = key.split(".")
        around = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        origin = next((self.overridden[one] for one in around if one in self.overridden), None)
        if origin is not None:
            return f"{origin}  {key}"
        line = next((self.lines[one] for one in around if one in self.lines), None)
        return f"{self.file}{'' if line is None else f':{line}'}  {key}"
