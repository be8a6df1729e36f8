"""The elements of a model file, read without torch, are those that MACE finds in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aimspax_core.settings.families.mace_file import elements_missing, elements_of
from tests.model.test_committee import tiny_mace


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aimspax_core.model.mace.model_files import save_model

    path = tmp_path_factory.mktemp("models") / "tiny.model"
    save_model(tiny_mace(0, elements=[1, 6, 8, 29]), path)
    return path


def test_the_elements_are_those_of_the_model(saved: Path) -> None:
    assert elements_of(saved) == {1, 6, 8, 29}


def test_a_model_that_mace_wrote_itself_tells_them_too(tmp_path: Path) -> None:
    import torch

    torch.save(tiny_mace(1, elements=[7, 8]).to(torch.float32), tmp_path / "theirs.model")
    assert elements_of(tmp_path / "theirs.model") == {7, 8}


def test_reading_them_imports_neither_torch_nor_mace(saved: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from aimspax_core.settings.families.mace_file import elements_missing, elements_of\n"
        f"print(sorted(elements_of(Path({str(saved)!r}))), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("]")[1].strip() == "False"


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    content = f"cos\nsystem\n(S'touch {harm}'\ntR.".encode()
    with zipfile.ZipFile(tmp_path / "bad.model", "w") as archive:
        archive.writestr("bad/data.pkl", content)
    assert elements_of(tmp_path / "bad.model") is None
    assert not harm.exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_none_tells_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(content)
    assert elements_of(path) is None


def test_the_elements_of_a_model_for_all_are_counted(tmp_path: Path) -> None:
    from aimspax_core.model.mace.model_files import save_model

    path = tmp_path / "tiny.model"
    save_model(tiny_mace(0, elements=list(range(1, 21))), path)
    assert elements_missing(path, {1, 26}) == "tiny.model does not know Fe; it knows 20 others"
    assert elements_missing(path, {1, 20}) is None


@pytest.mark.parametrize("name", ["small", "medium-0b3", "mh-1"])
def test_a_model_by_name_is_asked_if_mace_has_fetched_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mace.calculators import foundations_models

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert elements_missing(tmp_path / name, {92}) is None
    monkeypatch.setattr(  # MACE says where it looks for the file
        foundations_models,
        "_urlretrieve_with_timeout",
        lambda url, path: (shutil.copy(saved, path), ""),
    )
    foundations_models.download_mace_mp_checkpoint(name)
    assert (
        elements_missing(tmp_path / name, {1, 92})
        == f"{name} does not know U; it knows H, C, O, Cu"
    )
    assert elements_missing(tmp_path / name, {1, 6}) is None
    assert elements_missing(tmp_path / "huge", {92}) is None
