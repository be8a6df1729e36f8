"""What the site has beside the pages of docs/: files of the repository, equations, the API.

Pages link to files of the repository as GitHub shows them (`../examples/slurm`). The site has these
files too, under their paths in the repository, and links lead there. Equations (fenced as `math`,
which GitHub shows) become MathML, so that no page loads anything from elsewhere.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
PACKAGE = "aimspax_core"
BESIDE = "modules"

_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^(\s*)(```+|~~~+).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
_BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", *(
    path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("examples/*/README.md"))
))  # fmt: skip


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let fences named `math` be equations, and put the pages of the API into the menu."""
    superfences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    superfences["custom_fences"] = [{"name": "math", "class": "math", "format": _equation}]
    assert config.nav is not None
    _with_api(config.nav)
    return config


def _with_api(menu: list[Any]) -> None:
    """Make of the page of the API a part of the menu that has its rooms, too."""
    for entry in menu:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if below == "api.md":
                entry[title] = [below, *(name for name, _ in _api_pages())]
            elif isinstance(below, list):
                _with_api(below)


def _equation(source: str, *_: Any, **__: Any) -> str:
    return f'<div class="math">{convert(source, display="block")}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/, the files that any page links to, and the pages of the API."""
    wanted = [*_BESIDE]
    pages = [ROOT / DOCS / one.src_uri for one in files.documentation_pages()]
    for page in (*pages, *(ROOT / name for name in _BESIDE)):
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        wanted += [_of_repository(page, target) for _, target, _ in _LINK.findall(text)]
    for name in dict.fromkeys(wanted):
        beside = not name.startswith((f"{DOCS}/", "../")) and (ROOT / name).is_file()
        if beside and files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, text in _api_pages():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to where the site has them."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    here = posixpath.dirname(page.file.src_uri) or "."

    def led(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        name = _of_repository(Path(source), target)
        on_site = name.removeprefix(f"{DOCS}/") if name.startswith(f"{DOCS}/") else name
        if files.get_file_from_path(on_site) is None:
            return found.group()  # MkDocs tells that there is no such page
        return f"{before}{posixpath.relpath(on_site, here)}{after}"

    table = f"\n{_rooms_table()}" if page.file.src_uri == "api.md" else ""
    return _outside_fences(markdown, led) + table


def _outside_fences(markdown: str, led: Callable[[re.Match[str]], str]) -> str:
    """Replace links, but for those that stand in fenced blocks."""
    done, at = [], 0
    for fence in _FENCE.finditer(markdown):
        done += [_LINK.sub(led, markdown[at : fence.start()]), fence.group()]
        at = fence.end()
    return "".join([*done, _LINK.sub(led, markdown[at:])])


def _of_repository(page: Path, target: str) -> str:
    """Return what a page's link leads to, from the root of the repository; of a folder its page."""
    path = Path(posixpath.normpath(page.parent / target))
    if path.is_dir():
        path /= "README.md"
    return posixpath.relpath(path, ROOT)


def _rooms() -> list[Path]:
    """Return the packages that lie on top of the package, by name."""
    return sorted(path.parent for path in (ROOT / PACKAGE).glob("*/__init__.py"))


def _beside() -> list[Path]:
    """Return the modules that lie beside them."""
    return sorted((ROOT / PACKAGE).glob("[!_]*.py"))


def _with_code(files: Iterable[Path]) -> list[Path]:
    """Return the files that have more than a docstring."""
    return [file for file in files if ast.parse(file.read_text(encoding="utf-8")).body[1:]]


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _api_pages() -> list[tuple[str, str]]:
    """Return a page for each room, and one for what lies beside them: name and text."""
    pages = [
        _api_page(room.name, [f"# `{_dotted(room)}`", "", _first_line(room)], room.rglob("*.py"))
        for room in _rooms()
    ]
    return [*pages, _api_page(BESIDE, ["# Modules beside the rooms"], _beside())]


def _api_page(name: str, head: list[str], files: Iterable[Path]) -> tuple[str, str]:
    lines = [*head, ""]
    for file in _with_code(sorted(files)):
        lines += [f"## `{_dotted(file)}`", "", f"::: {_dotted(file)}", ""]
    return f"api/{name}.md", "\n".join(lines)


def _rooms_table() -> str:
    rows = [f"| [`{_dotted(one)}`](api/{one.name}.md) | {_first_line(one)} |" for one in _rooms()]
    names = ", ".join(f"`{one.stem}`" for one in _beside())
    rows.append(f"| [beside them](api/{BESIDE}.md) | {names} |")
    return "\n".join(["| room | what is in it |", "| --- | --- |", *rows])


def _first_line(room: Path) -> str:
    source = room if room.is_file() else room / "__init__.py"
    said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return said.partition("\n")[0]
