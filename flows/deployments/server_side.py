"""Deployments, pools and automations on a Prefect server: made, brought up to date, removed."""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from aimspax_core.errors import SettingsError
from flows.deployments.form import form
from flows.deployments.profile import (
    TAG,
    AutomationPlan,
    DeploymentPlan,
    Profile,
    Schedule,
    mistakes_text,
)


class Change(StrEnum):
    """What was done to a thing on the server."""

    MADE = "made"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True)
class Done:
    """One thing on the server, and what was done to it."""

    change: Change
    what: str

    def __str__(self) -> str:
        """Return both, for people."""
        return f"{self.change}: {self.what}"


def deploy(client: SyncPrefectClient, profile: Profile) -> Iterator[Done]:
    """Make the pools and deployments of a profile, or bring them up to date.

    What a person has changed on the page is kept where the profile does not speak of it: whether
    a schedule that is there is active, its time and its parameters.
    """
    for pool in profile.pools:
        yield Done(_make_pool(client, pool), f"work pool {pool}")
    for plan in profile.deployments:
        yield from _deploy_flow(client, plan)


def automate(
    client: SyncPrefectClient, plans: Iterable[AutomationPlan], file: Path
) -> Iterator[Done]:
    """Make automations, or bring those of the same name up to date.

    Whether one that is there is switched on is left as it is.

    Args:
        client: The Prefect API.
        plans: The automations.
        file: Where they are written, for messages.

    Raises:
        SettingsError: Prefect does not take an automation, or an action names a deployment that is
            not there.
    """
    for wanted in [_automation(client, plan, file) for plan in plans]:
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
            yield Done(Change.MADE, f"automation {wanted.name!r}")
            continue
        for extra in found[1:]:
            client.delete_automation(extra.id)
        kept = wanted.model_copy(update={"enabled": found[0].enabled})
        same = _content(found[0]) == _content(kept)
        if not same:
            client.update_automation(found[0].id, kept)
        change = Change.UNCHANGED if same else Change.CHANGED
        yield Done(change, f"automation {wanted.name!r}")


def remove(client: SyncPrefectClient, profile: Profile) -> Iterator[Done]:
    """Remove the deployments of a profile, and its pools unless others use them.

    Runs that were made are kept.
    """
    for plan in profile.deployments:
        full_name = f"{_flow(plan.entrypoint).name}/{plan.name}"
        found = _deployment(client, full_name)
        if found is not None:
            client.delete_deployment(found.id)
            yield Done(Change.REMOVED, f"deployment {full_name}")
    for pool in profile.pools:
        yield from _remove_pool(client, pool)


def remove_automations(
    client: SyncPrefectClient, named: Container[str] | None = None
) -> Iterator[Done]:
    """Remove automations that `automate` has made: all, or those of some names."""
    for automation in client.read_automations():
        if TAG in automation.tags and (named is None or automation.name in named):
            client.delete_automation(automation.id)
            yield Done(Change.REMOVED, f"automation {automation.name!r}")


def deployed(client: SyncPrefectClient, profile: Profile) -> bool:
    """Return whether there is a deployment of a profile."""
    names = (f"{_flow(plan.entrypoint).name}/{plan.name}" for plan in profile.deployments)
    return any(_deployment(client, name) is not None for name in names)


def _make_pool(client: SyncPrefectClient, name: str) -> Change:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return Change.MADE
    return Change.UNCHANGED


def _remove_pool(client: SyncPrefectClient, name: str) -> Iterator[Done]:
    """Remove a pool, which Prefect would do with the deployments of others in it left hanging."""
    named = WorkPoolFilter(name=WorkPoolFilterName(any_=[name]))
    others = client.read_deployments(work_pool_filter=named, limit=1)
    if others:
        yield Done(Change.KEPT, f"work pool {name}: deployment {others[0].name} uses it, too")
        return
    try:
        client.delete_work_pool(name)
    except ObjectNotFound:
        return
    yield Done(Change.REMOVED, f"work pool {name}")


def _deploy_flow(client: SyncPrefectClient, plan: DeploymentPlan) -> Iterator[Done]:
    flow = _flow(plan.entrypoint)
    full_name = f"{flow.name}/{plan.name}"
    wanted: dict[str, Any] = {
        "entrypoint": plan.entrypoint,
        "description": plan.description,
        "tags": list(plan.tags),
        "work_pool_name": plan.work_pool.name,
        "job_variables": plan.work_pool.job_variables,
        "parameter_openapi_schema": form(flow),
        "enforce_parameter_schema": True,
    }
    found = _deployment(client, full_name)
    if found is None:
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name=plan.name,
            pull_steps=[],
            schedules=[_schedule(schedule) for schedule in plan.schedules],
            **wanted,
        )
        yield Done(Change.MADE, f"deployment {full_name}")
    else:
        same = all(getattr(found, name) == value for name, value in wanted.items())
        if not same:
            client.update_deployment(found.id, DeploymentUpdate(**wanted))
        yield Done(Change.UNCHANGED if same else Change.CHANGED, f"deployment {full_name}")
        yield from _add_schedules(client, found, plan, full_name)


def _add_schedules(
    client: SyncPrefectClient, found: DeploymentResponse, plan: DeploymentPlan, full_name: str
) -> Iterator[Done]:
    """Make the schedules that are not there."""
    there = {schedule.slug for schedule in found.schedules}
    missing = [schedule for schedule in plan.schedules if schedule.slug not in there]
    if missing:
        client.create_deployment_schedules(
            found.id, cast(Any, [_schedule(schedule) for schedule in missing])
        )
    for schedule in missing:
        yield Done(Change.MADE, f"schedule {schedule.slug} of {full_name}")


def _schedule(schedule: Schedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone),
        active=schedule.active,
        parameters=schedule.parameters,
        slug=schedule.slug,
    )


def _flow(entrypoint: str) -> Flow[..., Any]:
    """Return the flow that an entry point names.

    Raises:
        SettingsError: There is none.
    """
    module, _, name = entrypoint.rpartition(".")
    try:
        flow = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"entrypoint: found {entrypoint}; there is no such flow") from error
    return cast("Flow[..., Any]", flow)


def _deployment(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _automation(client: SyncPrefectClient, plan: AutomationPlan, file: Path) -> AutomationCore:
    """Return an automation as the server takes it, with the tag by which we know it again."""
    content = plan.model_dump()
    content["tags"] = sorted({*plan.tags, TAG})
    content["actions"] = [_action(client, action, plan, file) for action in plan.actions]
    try:
        automation = AutomationCore.model_validate(content)
    except ValidationError as error:
        raise SettingsError(mistakes_text(f"{file}: {plan.name}", error)) from error
    for given, taken, where in [
        (content, automation, ""),
        (plan.trigger, automation.trigger, "trigger."),
    ]:
        if unknown := sorted(given.keys() - type(taken).model_fields.keys()):
            allowed = ", ".join(sorted(type(taken).model_fields))
            raise SettingsError(
                f"{file}: {plan.name}: {where}{unknown[0]}: no such key; allowed: {allowed}"
            )
    return automation


def _action(
    client: SyncPrefectClient, action: dict[str, Any], plan: AutomationPlan, file: Path
) -> dict[str, Any]:
    """Return an action in Prefect's words: with the id of the deployment that it names."""
    name = action.get("deployment")
    if name is None:
        return action
    found = _deployment(client, str(name))
    if found is None:
        raise SettingsError(
            f"{file}: {plan.name}: actions.deployment: found {name!r}; there is no such deployment "
            "on this server; allowed: FLOW/NAME, such as active-learning/local"
        )
    rest = {key: value for key, value in action.items() if key != "deployment"}
    return {**rest, "source": "selected", "deployment_id": str(found.id)}


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation says, without what the server added."""
    content = automation.model_dump(include=set(AutomationCore.model_fields))
    content.pop("owner_resource")
    content["tags"] = sorted(content["tags"])
    content["trigger"].pop("id", None)
    return content
