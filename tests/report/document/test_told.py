"""What methods tell of the reference: its method whole, and its version."""

from __future__ import annotations

from pathlib import Path

from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.report.document.labels import Files
from aimspax_core.report.document.methods import methods
from tests.report.document.test_report import source


def test_pyscf_tells_all_of_its_method() -> None:
    keys = {"pseudo": "gth-pbe", "k_grid": (2, 2, 3), "dispersion": "d4", "ke_cutoff": 80.0}
    told = PyscfReference(engine="pyscf", basis="gth-dzvp", **keys).told(Path())
    assert all(one in told for one in ("pbe", "gth-dzvp", "gth-pbe", "2×2×3", "D4", "80 Hartree"))
    plain = PyscfReference(engine="pyscf", basis={"H": "sto-3g", "O": "def2-svp"}).told(Path())
    assert plain == "PySCF (pbe in the basis sto-3g of H, def2-svp of O)"


def test_aims_tells_what_its_control_files_say(tmp_path: Path) -> None:
    (tmp_path / "control.in").write_text(
        "XC pbe\nrelativistic atomic_zora scalar\nk_grid 2 2 2\nsc_iter_limit 200\n"
        "vdw_correction_hirshfeld\n"
    )
    told = AimsReference.model_construct(
        engine="aims",
        control={0: Path("control.in"), 1: Path("control.in"), 2: Path("gone.in")},
        species_dir=Path("/home/me/aims/defaults_2020/light"),
    ).told(tmp_path)
    assert told == (
        "FHI-aims (xc pbe, relativistic atomic_zora scalar, vdw_correction_hirshfeld, "
        "k_grid 2 2 2; gone.in; species defaults defaults_2020/light)"
    )


def test_methods_tell_the_version_of_the_engine_that_computed_the_labels() -> None:
    water = source("finished")
    (version,) = Files.of(water).versions_of("tblite")
    assert Files.of(water).versions_of("pyscf") == []
    text = methods(water, {}, [version]).text
    assert f"tblite GFN2-xTB, version {version} [" in text
