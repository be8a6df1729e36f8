"""The options of labelling a dataset are the same for the command, the flow and what reads them."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from aimspax_core.inputs.relabel_inputs import RelabelRequest
from flows.commands.label_dataset import RelabelOptions
from flows.recalculate import recalculate

NEEDED = {"file", "directory"}


def defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.name not in NEEDED}


def test_the_flow_has_every_option_with_its_default() -> None:
    parameters = inspect.signature(recalculate.fn).parameters
    found = {name: p.default for name, p in parameters.items() if name not in NEEDED}
    assert found == {**defaults(RelabelRequest), "overrides": None}


def test_the_command_has_every_option_with_its_default() -> None:
    assert defaults(RelabelOptions) == defaults(RelabelRequest)
