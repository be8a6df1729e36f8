"""The table of reference engines, and the settings section that is one of theirs.

A row names the `Kind` of an engine as `module:NAME`. It is a text rather than an import, because
the settings are made of the sections that engines bring along, while engines are made from
settings: the module of a row must not import `settings.project`, nor a package that takes long.
"""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from aimspax_core.settings.engines import EngineSection

KINDS = (
    "aimspax_core.reference.tblite.kind:TBLITE",
    "aimspax_core.reference.aims.kind:AIMS",
    "aimspax_core.reference.pyscf.kind:PYSCF",
    "aimspax_core.reference.ase.kind:ASE",
    "aimspax_core.reference.mace.kind:MACE",
    "aimspax_core.reference.mace.kind:MACE_MP",
    "aimspax_core.reference.so3lr.kind:SO3LR",
)


def _loaded(row: str) -> Any:
    module, _, name = row.partition(":")
    return getattr(import_module(module), name)


LOADED: tuple[Any, ...] = tuple(map(_loaded, KINDS))
"""The `Kind` of each row; `reference.registry` hands them on with their type."""

SECTIONS: tuple[type[EngineSection], ...] = tuple(kind.section for kind in LOADED)
"""The settings section of each row."""

if TYPE_CHECKING:
    EngineSettings: TypeAlias = EngineSection
    EngineName: TypeAlias = str
else:
    EngineSettings = Annotated[reduce(or_, SECTIONS), Field(discriminator="engine")]
    EngineName = Literal[tuple(section.engine_name() for section in SECTIONS)]
