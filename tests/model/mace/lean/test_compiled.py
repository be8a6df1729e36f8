"""Claims about compiled training: it is the eager one, for every batch, and never in the way."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from resource import RLIMIT_FSIZE
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.locks import held
from aimspax_core.model.mace import graphs as mace_graphs
from aimspax_core.model.mace import kernel
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.lean import Lean, compiler_process, forms, trial
from aimspax_core.model.mace.lean.compiling import FAILED, FORM
from aimspax_core.model.mace.lean.derivatives import Derived, Inputs, derived
from aimspax_core.model.mace.lean.forms import WORTH_COMPILING_S, WORTH_LOADING_S, Forms
from aimspax_core.model.mace.lean.padding import (
    Size,
    cut,
    largest,
    padded,
    roomy,
    size_of,
    together,
)
from aimspax_core.model.mace.lean.private_folders import make_private
from aimspax_core.model.mace.lean.weights import weights
from aimspax_core.settings.model import ModelSettings

ELEMENTS = (1, 6, 8)
CONSTANTS = Constants({1: -1.1, 6: -2.3, 8: -3.7}, avg_num_neighbors=5.3, scale=1.7, shift=0.2)
TINY = {
    "num_channels": 2, "max_L": 0, "max_ell": 1, "correlation": 2, "num_interactions": 1,
    "num_radial_basis": 3, "radial_MLP": [4], "r_max": 3.0,
}  # fmt: skip
DENSITY = "RealAgnosticDensityInteractionBlock"


def settings(compiled: str = "on", **architecture: Any) -> ModelSettings:
    return ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "default_dtype": "float64", "compute_stress": True},
            "ARCHITECTURE": TINY | architecture,
            "TRAINING": {"batch_size": 3},
            "MISC": {"compile": compiled},
        }
    )


def structures(seed: int = 0) -> list[Atoms]:
    """Molecules, a cell smaller than the cutoff, an atom without neighbours."""
    made = [molecule("CH3OH"), bulk("C", "diamond", 3.6), molecule("H2O"), Atoms("O", pbc=False)]
    rng = np.random.default_rng(seed)
    for atoms in made:
        atoms.rattle(0.1, rng=rng)
    return made


def graphs(chosen: list[Atoms]) -> list[Any]:
    return mace_graphs.graphs(chosen, ELEMENTS, settings())


def collate(made: Sequence[Any]) -> dict[str, torch.Tensor]:
    return mace_graphs.batches(made, len(made))[0].to_dict()


def batch(chosen: list[Atoms]) -> dict[str, torch.Tensor]:
    return collate(graphs(chosen))


def lean(seed: int = 1, **architecture: Any) -> Lean:
    return Lean(build(settings(**architecture), ELEMENTS, CONSTANTS, seed))


def trained_on(one: Lean, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Outputs, and gradients of a loss of all of them."""
    one.model.zero_grad()
    found = one(given, training=True, compute_virials=True, compute_stress=True)
    sum(value.square().sum() for value in found.values() if value is not None).backward()
    gradients = [p.grad.clone() for p in one.model.parameters() if p.grad is not None]
    return [*(value.detach() for value in found.values() if value is not None), *gradients]


def assert_alike(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine - its).abs().max() <= 1e-10 * its.abs().max().clamp_min(1e-4)


@pytest.mark.parametrize(
    "architecture",
    [{}, {"max_L": 1, "interaction": DENSITY, "interaction_first": DENSITY}, {"num_channels": 40}],
    ids=str,
)
def test_what_a_batch_is_padded_with_changes_nothing(architecture: dict[str, Any]) -> None:
    one, given = lean(**architecture), batch(structures())
    theirs = trained_on(one, given)

    def form(own: Any, inputs: Inputs) -> Derived:
        size = Size(*(n + more for n, more in zip(size_of(inputs), (3, 5, 2), strict=True)))
        wide = padded(inputs, size)
        return cut(derived(one.shape, one.tables, own, wide, trained=True, plain=True), inputs)

    one.form = form
    assert_alike(trained_on(one, given), theirs)


def test_atoms_on_top_of_each_other_spoil_no_other_structure_of_a_padded_batch() -> None:
    good, bad = molecule("H2O"), Atoms("OO", np.zeros((2, 3)))
    one = lean()

    def form(own: Any, inputs: Inputs) -> Derived:
        wide = padded(inputs, Size(9, 12, 6))
        return cut(derived(one.shape, one.tables, own, wide, trained=True, plain=True), inputs)

    one.form = form
    found = one(batch([bad, good]), training=True)["forces"]
    assert found is not None
    assert found[:2].isnan().all()
    assert found[2:].isfinite().all()


def test_a_size_holds_every_batch_and_has_room_for_more() -> None:
    made = graphs(structures())
    needed = largest(made, 2)
    for left in range(4):
        for right in range(4):
            pair = [made[left], made[right]]
            assert needed.holds(size_of(lean_once().read(collate(pair))[0]))
            assert together(pair) == size_of(lean_once().read(collate(pair))[0])
    assert roomy(needed, alike=True).holds(needed)
    assert roomy(needed, alike=True).atoms == needed.atoms
    assert {roomy(needed._replace(pairs=n), alike=True).pairs for n in range(640, 670)} == {704}


_LEAN: list[Lean] = []


def lean_once() -> Lean:
    if not _LEAN:
        _LEAN.append(lean())
    return _LEAN[0]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the clock of trials a compiled step takes half as long, on any machine."""
    let_take(monkeypatch, 2.0, 1.0)


def let_take(monkeypatch: pytest.MonkeyPatch, eager: float, compiled: float) -> None:
    ticks = itertools.accumulate(itertools.cycle([1.0, eager, compiled]))
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compiled form of the tiny network, made aside for batches of three."""
    folder = tmp_path_factory.mktemp("forms")
    mine, one = Forms(folder), lean()
    with pytest.MonkeyPatch.context() as patch:
        # torch tries what the processor can do by compiling; here it takes the processor's word.
        patch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "1")
        assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
        mine.wait()
    assert [path.name for path in folder.glob(f"*/{FORM}")] == [FORM], outputs(folder)
    return folder


def outputs(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*/output"))


def settled(folder: Path, one: Lean, ahead_s: float = np.inf) -> Forms:
    mine = Forms(folder)
    one.form = mine.settle(one, graphs(structures()), 3, collate, ahead_s)
    return mine


def test_compiled_training_is_the_eager_one_for_every_batch(made: Path) -> None:
    for seed in (1, 2):  # another member
        one = lean(seed)
        for chosen in (structures(5)[:3], structures(6)[1:], structures(7)[::2]):
            one.form = None
            theirs = trained_on(one, batch(chosen))
            settled(made, one)
            assert one.form is not None
            assert_alike(trained_on(one, batch(chosen)), theirs)


def test_a_batch_that_is_too_large_or_much_smaller_is_not_for_the_form(made: Path) -> None:
    one = lean()
    settled(made, one)
    assert one.form is not None
    own = weights(one.shape, [one.model])
    assert one.form(own, one.read(batch(structures()[:3]))[0]) is not None
    assert one.form(own, one.read(batch(structures() * 2))[0]) is None
    assert one.form(own, one.read(batch(structures()[2:]))[0]) is None


def test_without_work_ahead_nothing_is_loaded_and_nothing_compiled(
    made: Path, tmp_path: Path
) -> None:
    one = lean()
    settled(made, one, WORTH_LOADING_S - 1)
    assert one.form is None
    settled(made, one, WORTH_LOADING_S)
    assert one.form is not None
    settled(tmp_path, one, WORTH_COMPILING_S - 1)
    assert one.form is None
    assert not list(tmp_path.iterdir())


def test_a_form_is_loaded_without_a_compiler(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    one = lean()
    settled(made, one)
    assert one.form is not None


def test_without_a_compiler_training_goes_on_as_it_is_which_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    one, mine = lean(), Forms(tmp_path / "forms")
    for _ in range(3):
        found = mine.settle(one, graphs(structures()), 3, collate, np.inf)
        assert found is None
    (note,) = mine.take_notes()
    assert "PATH" in note


def test_a_compiler_that_ends_early_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    one, mine = lean(), settled(tmp_path, lean())
    mine.wait()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # nothing is begun any more
    assert len(mine.take_notes()) == 1
    for _ in range(2):
        assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert "ended with 1" in note


def test_what_the_compiler_says_is_for_all_workers_and_for_a_day(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    (form,) = (path.parent for path in made.glob(f"*/{FORM}"))
    (tmp_path / form.name).mkdir(mode=0o700)
    failed = tmp_path / form.name / FAILED
    failed.write_text("no room on the device")
    (note,) = settled(tmp_path, lean()).take_notes()
    assert "no room on the device" in note
    assert not (tmp_path / form.name / "output").exists()
    os.utime(failed, (0, 0))
    settled(tmp_path, lean()).wait()
    assert (tmp_path / form.name / "output").exists()


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Has the compiler's program run in this process, with a request that cannot be read."""
    monkeypatch.setattr(os, "nice", lambda level: None)
    return lambda folder: compiler_process.main(
        BytesIO(b"no tensors"), folder, torch.get_num_threads()
    )


def test_why_it_failed_is_left_for_the_worker_that_asked(
    tmp_path: Path, inside: Callable[[Path], None]
) -> None:
    with pytest.raises(Exception):  # noqa: B017
        inside(tmp_path)
    assert (tmp_path / FAILED).read_text()


@pytest.mark.parametrize("locks", [True, False])
def test_a_compiler_that_comes_too_late_ends_without_a_failure(
    tmp_path: Path, inside: Callable[[Path], None], locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    with held(tmp_path / "lock"):
        inside(tmp_path)
    (tmp_path / FORM).touch()
    inside(tmp_path)
    assert not (tmp_path / FAILED).exists()


def test_a_compiler_that_came_too_late_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    one, mine = lean(), settled(tmp_path, lean())
    for _ in range(2):
        mine.wait()
        assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    mine.wait()
    (note,) = mine.take_notes()
    assert "aside" in note


def test_of_two_workers_one_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (form,) = (path.parent for path in made.glob(f"*/{FORM}"))
    folder = tmp_path / form.name
    folder.mkdir(mode=0o700)
    with held(folder / "lock"):
        settled(tmp_path, lean())
    assert {path.name for path in folder.iterdir()} == {"lock"}


@pytest.mark.parametrize("damage", [b"", b"no form", None])
def test_a_form_that_cannot_be_loaded_is_made_anew_and_once_only(
    made: Path, tmp_path: Path, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    folder = tmp_path / "forms"
    shutil.copytree(made, folder)
    (form,) = folder.glob(f"*/{FORM}")
    whole = form.read_bytes()
    if damage is not None:
        form.write_bytes(damage)
    else:
        monkeypatch.setattr(torch.compiler, "load_compiled_function", library_is_gone)
    one, mine = lean(), Forms(folder)
    assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert str(form.parent) in note
    assert not form.exists()
    assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert "aside" in note
    mine.wait()
    form.write_bytes(whole if damage is None else damage)
    for _ in range(2):
        assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert "not compiled" in note
    assert form.exists()


def library_is_gone(file: Any) -> Any:
    raise OSError("libraries/x.so: cannot open shared object file")


def test_a_form_is_tried_on_a_batch_that_it_takes(made: Path, tmp_path: Path) -> None:
    # The first structures are too few atoms for a form of the largest.
    chosen = [*([Atoms("O")] * 3), *structures(), *structures(1)]
    one, mine = lean(), Forms(made)
    seen: list[Size] = []

    def watched(*given: Any) -> trial.Trial | None:
        found = trial.tried(*given)
        seen.append(size_of(given[1].inputs))
        assert found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[Forms.__module__], "tried", watched)
        form = mine.settle(one, graphs(chosen), 3, collate, WORTH_LOADING_S)
    assert form is not None
    assert [form.size.suits(size) for size in seen] == [True]


def test_a_form_that_no_batch_suits_is_not_used_though_it_is_loaded(made: Path) -> None:
    one, mine = lean(), Forms(made)
    assert mine.settle(one, graphs(structures()), 3, collate, WORTH_LOADING_S) is not None
    larger = graphs([molecule("CH3OH")] * 6)
    assert mine.settle(one, larger, 6, collate, WORTH_LOADING_S) is None


def test_nothing_is_compiled_for_structures_of_which_no_batch_is_near_the_largest(
    tmp_path: Path,
) -> None:
    chosen = [molecule("C6H6"), *([Atoms("O")] * 9)]
    mine = Forms(tmp_path / "forms")
    for _ in range(2):
        assert mine.settle(lean_once(), graphs(chosen), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert "size" in note
    assert not (tmp_path / "forms").exists()


def test_a_full_disk_does_not_stop_training_and_is_said_once(tmp_path: Path) -> None:
    one, mine = lean(), Forms(tmp_path)
    before, handler = resource.getrlimit(RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(RLIMIT_FSIZE, (1000, before[1]))
    try:
        for _ in range(2):
            assert mine.settle(one, graphs(structures()), 3, collate, np.inf) is None
    finally:
        resource.setrlimit(RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    (note,) = mine.take_notes()
    assert os.strerror(errno.EFBIG) in note
    assert str(tmp_path) in note


def test_whatever_fails_training_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(sys.modules[Forms.__module__], "key_of", full)
    mine = Forms(tmp_path)
    for _ in range(2):
        assert mine.settle(lean_once(), graphs(structures()), 3, collate, np.inf) is None
    (note,) = mine.take_notes()
    assert "RuntimeError: out of memory" in note


def test_a_folder_with_a_foreign_name_is_left_alone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "forms")
    (form,) = (tmp_path / "forms").glob(f"*/{FORM}")
    foreign = form.parent.with_name(f"{form.parent.name}-copy")
    shutil.copytree(form.parent, foreign)
    one = lean()
    settled(tmp_path / "forms", one)
    assert one.form is not None


def test_a_form_that_others_can_write_to_is_not_loaded_nor_made(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    shutil.copytree(made, tmp_path / "forms")
    (form,) = (tmp_path / "forms").glob(f"*/{FORM}")
    form.parent.chmod(0o777)
    one = lean()
    (note,) = settled(tmp_path / "forms", one).take_notes()
    assert one.form is None
    assert f"others can write to {form.parent}" in note


def test_folders_that_are_made_are_for_this_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "cache" / "aimspax" / "compiled")
    for name in ("cache", "cache/aimspax", "cache/aimspax/compiled"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_a_form_that_computes_something_else_is_not_used(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.compiler.load_compiled_function

    def wrong(file: Any) -> Any:
        function = load(file)
        right = function.fn
        function.fn = lambda *flat: (1.0001 * right(*flat)[0], *right(*flat)[1:])
        return function

    monkeypatch.setattr(torch.compiler, "load_compiled_function", wrong)
    one = lean()
    (note,) = settled(made, one).take_notes()
    assert one.form is None
    assert "differ" in note


def test_a_form_that_is_slower_is_not_used(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_take(monkeypatch, 1.0, 3.0)
    one = lean()
    (note,) = settled(made, one).take_notes()
    assert one.form is None
    assert "3.0 times" in note


def test_another_architecture_has_another_form(made: Path) -> None:
    one = lean(num_channels=3)
    settled(made, one, WORTH_LOADING_S)
    assert one.form is None


@pytest.mark.parametrize(
    ("mode", "ahead_s", "compiled"),
    [
        ("off", np.inf, False),
        ("on", 0.0, True),
        ("auto", 0.0, False),
        ("auto", WORTH_LOADING_S, True),
    ],
)
def test_the_key_says_whether_training_is_compiled(
    made: Path, mode: str, ahead_s: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Forms(made)
    monkeypatch.setattr(kernel, "forms", lambda: ours)
    one, train = lean(), graphs(structures())
    told = ("training is compiled from here on",) if compiled else ()
    assert kernel.settle(one, train, settings(mode), ahead_s) == (compiled, told)
    assert (one.form is not None) is compiled
    assert kernel.settle(one, train, settings(mode), ahead_s) == (compiled, ())
    no_batch, notes = kernel.settle(one, train[:2], settings(mode), ahead_s)
    assert not no_batch
    assert len(notes) == (mode == "on")
    assert kernel.settle(one, train[:2], settings(mode), ahead_s) == (False, ())
    assert one.form is None
    assert kernel.settle(one.model, train, settings(mode), ahead_s) == (False, ())  # MACE itself


@pytest.mark.parametrize(("given", "read"), [(True, "on"), (False, "off"), ("On", "on")])
def test_on_and_off_are_what_yaml_makes_of_them(given: Any, read: str) -> None:
    assert settings(given).MISC.compile == read


def test_what_another_user_has_written_is_not_loaded(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    one = lean()
    settled(made, one, WORTH_LOADING_S)
    assert one.form is None


def test_a_user_without_a_home_trains_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    forms.cache_clear()
    try:
        found = kernel.settle(lean(), graphs(structures()), settings("on"), 0.0)
    finally:
        forms.cache_clear()
    assert not found.compiled
    assert len(found.notes) == 1


def test_forms_lie_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    forms.cache_clear()
    try:
        kernel.settle(lean(), graphs(structures()), settings("on"), 0.0)
    finally:
        forms.cache_clear()
    assert len(list((tmp_path / "aimspax" / "compiled").iterdir())) == 1
