"""Engines are made anew where a run begins, and kept on workers."""

from __future__ import annotations

from pathlib import Path

from aimspax_core.reference.registry import KEPT, build_reference, make_reference
from aimspax_core.reference.tblite.section import TbliteReference

CONTROLS = ("xc pbe\n", "xc pbesol\n")


def test_an_engine_that_is_made_takes_its_files_as_they_are_now(tmp_path: Path) -> None:
    from aimspax_core.reference.aims.section import AimsReference

    species = Path(__file__).parents[1] / "aims" / "species"
    section = AimsReference(engine="aims", species_dir=species, launch_str="aims.x")
    identities = []
    for text in CONTROLS:
        (tmp_path / "control.in").write_text(text)
        identities.append(make_reference(section, tmp_path).identity()["control"])
    assert identities[0] != identities[1]


def test_a_worker_keeps_only_so_many_engines(tmp_path: Path) -> None:
    sections = [TbliteReference(engine="tblite", charge=charge) for charge in range(KEPT + 1)]
    first = build_reference(sections[0], tmp_path)
    assert build_reference(sections[0], tmp_path) is first
    for section in sections[1:]:
        build_reference(section, tmp_path)
    assert build_reference(sections[0], tmp_path) is not first
