"""Claims about So3krates and SO3LR members that begin with the weights of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.energies import renew
from aimspax_core.model.family import family
from aimspax_core.model.fine_tuning import begin_member
from aimspax_core.model.member import Member
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from tests.model.so3krates.test_tuned_weights import ELEMENTS, forces, graphs, settings

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from aimspax_core.model.so3krates import network
from aimspax_core.model.so3krates.heads import for_us

each = pytest.mark.parametrize("name", ["so3krates", "so3lr"])


def weights(name: str, **training: Any) -> ModelSettings:
    """Settings of members that begin with weights in a network of ARCHITECTURE."""
    return settings(name, {"pretrained_model": None} | training)


def drawn(name: str, seed: int, **keys: Any) -> torch.nn.Module:
    """A model as its package has it, whose weights are all something."""
    model = network.plain(settings(name, {}, **keys))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, dtype=weight.dtype, generator=draw)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and weights of others: bare, in a checkpoint, in single precision, of another net."""
    place = tmp_path_factory.mktemp("weights")
    for name in ("so3krates", "so3lr"):
        family(name).save(drawn(name, 1), place / f"{name}.model")
        other = drawn(name, 2).state_dict()
        torch.save(other, place / f"{name}-bare.pt")
        torch.save({"model": other, "optimizer": {"state": {}}}, place / f"{name}-checkpoint.pt")
    single = {key: value.float() for key, value in drawn("so3lr", 2).state_dict().items()}
    torch.save(single, place / "so3lr-single.pt")
    torch.save(drawn("so3lr", 2, num_features=12).state_dict(), place / "so3lr-small.pt")
    torch.save(drawn("so3lr", 2), place / "so3lr-whole.pt")
    torch.save(drawn("so3krates", 2).state_dict(), place / "so3lr-near.pt")
    more = drawn("so3lr", 2).state_dict() | {"mlp.weight": torch.zeros(2)}
    torch.save(more, place / "so3lr-more.pt")
    torch.save([1.0], place / "so3lr-list.pt")
    (place / "so3lr-text.pt").write_text("no weights")
    return place


def begun(name: str, chosen: ModelSettings, folder: Path) -> Member:
    return begin_member(chosen, ELEMENTS, "t-1", 1, graphs(name), folder)


def with_average(name: str, model: torch.nn.Module, average: float) -> np.ndarray:
    """The forces of a model that divides its messages by an average number of neighbours."""
    constants = family(name).constants(dict.fromkeys(ELEMENTS, 0.0), average)
    held: Any = family(name).copy(model)
    for_us(held)
    network.set_constants(held, constants, ELEMENTS)
    return forces(name, held)


@each
@pytest.mark.parametrize("kind", ["bare", "checkpoint"])
def test_weights_take_the_place_of_the_models(name: str, kind: str, folder: Path) -> None:
    chosen = settings(name, {"pretrained_weights": Path(f"{name}-{kind}.pt")})
    member = begun(name, chosen, folder)
    average = float(family(name).load(folder / f"{name}.model").avg_num_neighbors)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        forces(name, member.averaged_model()),
        with_average(name, drawn(name, 2), average),
        atol=1e-9,
    )


@each
def test_weights_alone_are_put_into_the_network_of_the_architecture(
    name: str, folder: Path
) -> None:
    chosen = weights(name, pretrained_weights=Path(f"{name}-bare.pt"))
    member = begun(name, chosen, folder)
    constants: Any = member.constants
    average = family(name).constants_of(graphs(name), ELEMENTS, chosen).avg_num_neighbors
    assert constants.avg_num_neighbors == average
    np.testing.assert_allclose(
        forces(name, member.averaged_model()),
        with_average(name, drawn(name, 2), average),
        atol=1e-9,
    )
    renew(member, graphs(name)[:2], "another")
    assert replace(constants, atomic_energies=member.constants.atomic_energies) == member.constants


def test_weights_of_single_precision_are_read(folder: Path) -> None:
    single, double = (
        begun("so3lr", weights("so3lr", pretrained_weights=Path(f"so3lr-{kind}.pt")), folder)
        for kind in ("single", "bare")
    )
    first, second = (forces("so3lr", one.averaged_model()) for one in (single, double))
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert abs(first - second).max() > 0


@pytest.mark.parametrize("model", [True, False])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("small", "does not fit the network"),
        ("near", "does not fit the network"),
        ("more", r"weights differ in mlp\.weight"),
        ("list", "no weights by name"),
        ("text", "no weights that can be read"),
        ("whole", r"a whole model, which `pretrained_model` names$"),
    ],
)
def test_a_file_without_fitting_weights_is_refused(
    kind: str, told: str, model: bool, folder: Path
) -> None:
    given = {"pretrained_weights": Path(f"so3lr-{kind}.pt")}
    chosen = settings("so3lr", given) if model else weights("so3lr", **given)
    with pytest.raises(ModelError, match=told):
        begun("so3lr", chosen, folder)


def test_the_architecture_of_weights_alone_is_as_it_is_written(folder: Path) -> None:
    chosen = weights("so3lr", pretrained_weights=Path("so3lr-bare.pt"))
    read = family("so3lr").architecture_of
    assert read is not None
    found = read(Pretrained(None, folder / "so3lr-bare.pt"), chosen)
    assert found == {key: getattr(chosen.ARCHITECTURE, key) for key in found}
    assert set(found) == set(row_of("so3lr").pretrained_keys)
    notes = row_of("so3lr").notes(chosen)
    assert any(note.startswith("TRAINING.pretrained_weights:") for note in notes)


def test_elements_are_told_by_the_weights(folder: Path) -> None:
    chosen = weights("so3lr", pretrained_weights=Path("told.pt"))
    tell = family("so3lr").elements_of
    assert tell is not None
    model: Any = network.plain(chosen)
    path = folder / "told.pt"
    torch.save(model.state_dict(), path)
    assert tell(Pretrained(None, path), chosen) is None
    with torch.no_grad():
        model.atomic_energy_output_block.energy_scales.weight[0, [0, 7]] = 1.1
    torch.save(model.state_dict(), path)
    assert tell(Pretrained(None, path), chosen) == (1, 8)
