"""What a pool hooks into Dask and Prefect rests on their insides: an upgrade may break it."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from distributed.http.routing import DirectoryHandler, RoutingApplication
from prefect.context import (
    SettingsContext,
    get_settings_context,
    refresh_global_settings_context,
    serialize_context,
)
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, temporary_settings
from tornado.web import Application, RequestHandler

from flows.pools.dask_hooks import RememberedSettings, set_by_environment
from flows.pools.dask_settings import hide_paths


@pytest.fixture
def remembered() -> RememberedSettings:
    now = get_settings_context()
    return RememberedSettings(profile=now.profile, settings=now.settings)


def test_remembered_settings_reach_tasks_as_prefect_would_send_them(
    remembered: RememberedSettings,
) -> None:
    plain = SettingsContext(profile=remembered.profile, settings=remembered.settings).serialize()
    with remembered:
        sent = serialize_context()["settings_context"]
    assert sent == plain
    assert sent


def test_settings_are_serialised_once_for_all_tasks(remembered: RememberedSettings) -> None:
    original = SettingsContext.serialize
    counting = patch.object(SettingsContext, "serialize", autospec=True, side_effect=original)
    with counting as counted, remembered:
        sent = [serialize_context()["settings_context"] for _ in range(3)]
    assert counted.call_count == 1
    assert sent[0] == sent[2]


def test_settings_without_secrets_are_not_those_with_them(remembered: RememberedSettings) -> None:
    plain = SettingsContext(profile=remembered.profile, settings=remembered.settings)
    assert remembered.serialize(include_secrets=True) == plain.serialize(include_secrets=True)
    assert remembered.serialize(include_secrets=False) == plain.serialize(include_secrets=False)


def test_workers_that_have_the_settings_are_sent_none() -> None:
    with RememberedSettings.of_now(known=True):
        assert not serialize_context()["settings_context"]


def test_settings_of_the_environment_are_told_from_others() -> None:
    refresh_global_settings_context()
    assert set_by_environment()
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 123.0}):
        assert not set_by_environment()


def test_the_list_of_all_pages_is_taken_away_and_nothing_else() -> None:
    application = RoutingApplication([("/secret/status", RequestHandler)])
    pages = _handlers(application)
    assert DirectoryHandler in pages
    hide_paths(application)
    assert _handlers(application) == pages - {DirectoryHandler}


def _handlers(application: Application) -> set[object]:
    """What answers requests."""
    rules = [rule for outer in application.default_router.rules for rule in outer.target.rules]
    rules += application.wildcard_router.rules
    return {rule.target for rule in rules}
