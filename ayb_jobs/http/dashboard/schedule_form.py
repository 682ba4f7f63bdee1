"""The form of a schedule: its fields as text, and what was typed as values."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard.payloads import pretty
from ayb_jobs.http.dashboard.shell import Blank
from ayb_jobs.http.dashboard.typing_in import decoded, number, whole_number
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.words import as_sentence

SECONDS = ("expect_success_within_s", "timeout_s", "jitter_s")
FORM = (
    "name", "job_type", "cron", "timezone", "dst", "overlap", "catchup", "expect_success_within_s", "timeout_s", "queue",
    "priority", "max_attempts", "jitter_s", "payload",
)  # fmt: skip
NEW = {"timezone": "UTC", "dst": "once", "overlap": "allow", "catchup": "latest", "queue": "default", "priority": "2",
       "jitter_s": "0", "payload": "{}", "cron": "0 3 * * *"}  # fmt: skip


def typed_of(schedule: Schedule) -> Blank:
    """Return a schedule's fields as its form shows them."""
    typed = Blank()
    for name in FORM:
        value = pretty(schedule.payload_text) if name == "payload" else getattr(schedule, name)
        typed[name] = (
            "" if value is None else repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
        )
    return typed


def shown_of(fields: Mapping[str, str], schedule: Schedule) -> Blank:
    """Return the fields as the page showed them from which a form came; as they are now if it does not say."""
    try:
        shown = json.loads(fields.get("shown", ""))
    except (ValueError, RecursionError):
        return typed_of(schedule)
    return Blank({name: str(shown.get(name, "")) for name in FORM}) if isinstance(shown, dict) else typed_of(schedule)


def changed_meanwhile(shown: Blank, now: Blank, changes: Iterable[str]) -> str:
    """Say which of these fields somebody else changed since they were shown; nothing if none."""
    lost = [f"{name} to {now[name] or 'nothing'}" for name in changes if now[name] != shown[name]]
    return f"Somebody changed {' and '.join(lost)} meanwhile. Save again to have yours." if lost else ""


def values_of(fields: Mapping[str, str]) -> tuple[dict[str, Any], Blank]:
    """Return what a form says by the names of `NewSchedule`, and what is wrong with it."""
    values: dict[str, Any] = {}
    wrong = Blank()
    for name in FORM:
        text = fields.get(name, "").strip()
        try:
            if name == "payload":
                values[name] = decoded(text or "{}", name)
            elif name in SECONDS:
                values[name] = number(text, name)
            elif name in {"priority", "max_attempts"}:
                values[name] = whole_number(text, name)
            else:
                values[name] = text
        except InvalidInput as error:
            wrong[name] = as_sentence(str(error))
    if values.get("jitter_s") is None:
        values["jitter_s"] = 0.0
    return values, wrong
