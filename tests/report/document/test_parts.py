"""Parts of the report: frames, pools' use, citations, settings, thinning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from aimspax_core.reference.mace.section import MaceMpReference
from aimspax_core.report.document.charts import thinned
from aimspax_core.report.document.citations import bibtex, citations
from aimspax_core.report.document.costs import use
from aimspax_core.report.document.frames import FRAMES, density, read, temperature
from aimspax_core.report.document.labels import evenly
from aimspax_core.report.document.methods import methods, written
from aimspax_core.report.document.story import Work
from aimspax_core.report.document.viewer import bonds
from aimspax_core.sampling.snapshots import Snapshot, write_snapshots
from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.ensembles import ENSEMBLES
from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.known_engines import SECTIONS
from tests.report.document.test_report import source


def frames_file(path: Path, number: int) -> tuple[Path, list[Snapshot]]:
    """A file of frames such as campaigns write, and what is in it."""
    rng = np.random.default_rng(1)
    found = []
    for step in range(number):
        atoms = bulk("Si", cubic=True)
        atoms.set_cell(atoms.cell * (1 + 0.001 * step), scale_atoms=True)
        thermalize_momenta(atoms, 300 + step, rng=rng)
        found.append(Snapshot(atoms, 10 * step, -40.0 - step, np.zeros((len(atoms), 3))))
    write_snapshots(path, found, {"trajectory": 0, "geometry": 1, "rollbacks": 0})
    return path, found


def test_frames_are_read_as_ase_reads_them(tmp_path: Path) -> None:
    path, written_ = frames_file(tmp_path / "trajectory_0.extxyz", 5)
    frames = list(read(path, 10_000))
    assert [frame.step for frame in frames] == [one.step for one in written_]
    for frame, one in zip(frames, written_, strict=True):
        atoms = one.atoms
        assert temperature(frame, 3 * len(atoms)) == pytest.approx(
            2 * atoms.get_kinetic_energy() / (3 * len(atoms) * units.kB), rel=1e-4
        )
        assert frame.volume == pytest.approx(atoms.get_volume(), rel=1e-6)
        assert (frame.energy, frame.geometry) == (one.energy, 1)


def test_of_many_frames_evenly_spaced_ones_are_read(tmp_path: Path) -> None:
    path, all_ = frames_file(tmp_path / "trajectory_0.extxyz", 3 * FRAMES)
    frames = list(read(path, 10**9))
    steps = [frame.step for frame in frames]
    assert steps == sorted(steps)
    assert 0.9 * FRAMES <= len(steps) <= FRAMES
    assert np.diff(steps).max() <= 6 * 10
    assert len(list(read(path, 10 * len(all_[0].atoms)))) <= 10


def test_frame_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path, _ = frames_file(tmp_path / "trajectory_0.extxyz", 2)
    path.write_bytes(path.read_bytes()[:-100])
    assert [frame.step for frame in read(path, 1000)] == [0]
    path.write_bytes(b"nothing of ours\n")
    assert not list(read(path, 1000))


def test_density_of_silicon() -> None:
    atoms = bulk("Si", cubic=True)
    assert density(atoms.get_masses().sum(), atoms.get_volume()) == pytest.approx(2.33, abs=0.01)


def test_task_counts_in_each_span_in_which_it_ran() -> None:
    found = use([Work("MD", 60.0, 45.0), Work("training", 30.0, 30.0)], 60.0)
    middles, busy = np.array(found).T
    assert busy.sum() * 60.0 / len(busy) == pytest.approx(75.0)
    seconds = 3600 * middles
    assert busy[seconds < 15] == pytest.approx(1.0)
    assert busy[(seconds > 15) & (seconds < 30)] == pytest.approx(2.0)
    assert busy[seconds > 30] == pytest.approx(1.0)


def test_every_kind_names_citations_that_there_are() -> None:
    known = citations()
    for row in (*FAMILIES, *ENSEMBLES):
        assert row.cites
        assert set(row.cites) <= known.keys()
    for row in FAMILIES:
        assert set(row.foundation_cites) <= known.keys()
        assert set(row.told_keys) <= row.architecture.model_fields.keys()
    for section in SECTIONS:
        given = {
            "engine": section.engine_name(),
            "xc": "pbe",
            "basis": "sto-3g",
            "dispersion": "d4",
        }
        keys = {name: value for name, value in given.items() if name in section.model_fields}
        assert set(section.model_construct(**keys).cites) <= known.keys()


def test_every_citation_has_what_finds_it() -> None:
    for one in citations().values():
        assert one.fields["author"]
        assert one.fields["title"]
        assert one.url is not None
        assert one.text.endswith(".")
        assert one.kind in ("article", "inproceedings", "misc")


def test_bibtex_has_balanced_braces_and_an_entry_a_key() -> None:
    text = bibtex(citations())
    assert text.count("{") == text.count("}")
    assert text.count("\n@") + 1 == len(citations())


def test_citations_are_numbered_in_the_order_in_which_they_come() -> None:
    found = written("Here [[larsen2017, henkes2025]] and 5 % there [[henkes2025]] [[prefect]] .")
    assert found.text == "Here [1, 2] and 5 % there [2] [3]."
    assert found.latex == (
        "Here~\\cite{larsen2017,henkes2025} and 5 \\% there~\\cite{henkes2025}~\\cite{prefect}."
    )
    assert [one.key for one in found.references] == ["larsen2017", "henkes2025", "prefect"]


def test_latex_has_no_sign_that_it_takes_for_something_else() -> None:
    found = written(r"a \ ~ ^ & % $ # _ { } b: 10–20°, ω, 3 meV/Å")
    spelt = r"\textbackslash{} \textasciitilde{} \textasciicircum{}"
    assert found.latex.startswith(f"a {spelt} " + r"\& \% \$ \# \_ \{ \} b")
    assert found.latex.isascii()


def test_methods_name_files_without_the_folders_of_a_disk() -> None:
    found = written("from /home/me/my.model, '../a/b.model' and models/c.model, by 3 eV/Å")
    assert found.text == "from my.model, 'b.model' and models/c.model, by 3 eV/Å"


def test_only_models_that_are_known_by_name_are_cited() -> None:
    for section in (FoundationalModel(), FoundationalModel(mace_model="medium-mpa-0")):
        assert section.is_published("mace-mp")
        assert section.is_published("so3lr")
    assert not FoundationalModel.model_construct(mace_model="mine.model").is_published("mace-mp")
    own = FoundationalModel.model_construct(model_path=Path("mine.model"))
    assert not own.is_published("so3lr")
    teachers = [MaceMpReference.model_construct(mace_model=m) for m in ("small", "mine.model")]
    assert ["batatia2025foundation" in one.cites for one in teachers] == [True, False]


@pytest.mark.parametrize("periodic", [True, False])
def test_methods_tell_what_the_loss_is_made_of(periodic: bool) -> None:
    water = source("finished")
    training = {"loss": "stress", "stress_weight": 7.0, "swa": True, "ema": False}
    model = water.settings.model
    changed = model.TRAINING.model_copy(update=training)
    settings = replace(water.settings, model=model.model_copy(update={"TRAINING": changed}))
    cells = [atoms.copy() for atoms in water.geometries]
    for atoms in cells:
        atoms.pbc = periodic
    text = methods(replace(water, settings=settings, geometries=cells), {}).text
    assert ("energies, forces and stress" in text) is periodic
    assert ("7 of stress" in text) is periodic
    assert "second stage" in text
    assert "exponentially" not in text


def test_thinning_keeps_the_last_and_no_more_than_asked() -> None:
    assert thinned([1, 2, 3], 5) == [1, 2, 3]
    found = thinned(list(range(1001)), 100)
    assert found[-1] == 1000
    assert len(found) <= 100
    assert len(set(np.diff(found))) == 1
    assert evenly(list(range(10)), 4)[-1] == 9


def test_bonds_are_between_near_atoms() -> None:
    places = np.array([[0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]])
    assert bonds(places, np.array([0.66, 0.31, 0.31])).tolist() == [[0, 1]]
