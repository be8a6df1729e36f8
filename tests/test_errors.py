"""Errors cross process borders."""

from __future__ import annotations

import pickle

import pytest

from aimspax_core import errors


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deeper for direct in kind.__subclasses__() for deeper in subclasses(direct))]


@pytest.mark.parametrize("kind", subclasses(errors.AimspaxError))
def test_every_error_survives_pickling(kind: type[Exception]) -> None:
    back = pickle.loads(pickle.dumps(kind("what went wrong")))
    assert type(back) is kind
    assert str(back) == "what went wrong"


@pytest.mark.parametrize("transient", [True, False])
def test_a_label_error_remembers_whether_to_try_again(transient: bool) -> None:
    error = errors.LabelError("no node", transient=transient)
    assert pickle.loads(pickle.dumps(error)).transient is transient


def test_a_label_error_remembers_what_kind_of_failure_it_is() -> None:
    error = errors.LabelError("no SCF", kind=errors.LabelFailure.SCF)
    assert pickle.loads(pickle.dumps(error)).kind is errors.LabelFailure.SCF
    assert errors.LabelError("whatever").kind is errors.LabelFailure.OTHER


def test_a_label_error_is_not_transient_unless_it_says_so() -> None:
    assert not errors.LabelError("SCF not converged").transient
