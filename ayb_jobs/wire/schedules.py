"""Schedules as the API shows them, and the bodies of its calls: all derived from the fields of the model."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.fields import FIELDS
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.wire.names import api_name
from ayb_jobs.wire.text import Stored, object_text

# What a body may say, by the API's names.
BODY_FIELDS: Mapping[str, str] = {api_name(field): field for field in FIELDS}
# A payload is shown as the JSON that is stored. Of a ping address, a secret, only the presence is told.
SHOWN_OTHERWISE = frozenset({"payload_text", "ping_url"})
SHOWN: Mapping[str, str] = {
    api_name(field.name): field.name for field in fields(Schedule) if field.name not in SHOWN_OTHERWISE
}
# What a client may send back as it got it, and nobody but the daemon writes.
READ_ONLY = frozenset({*SHOWN, "pingUrlSet"} - BODY_FIELDS.keys())


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule's JSON."""
    shown = {name: getattr(schedule, field) for name, field in SHOWN.items()}
    payload = Stored(schedule.payload_text)
    return object_text({**shown, "payload": payload, "pingUrlSet": schedule.ping_url is not None})


def schedule_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body of the schedule calls says, by the names of `NewSchedule`; raises `InvalidInput`."""
    for key in body:
        if key not in BODY_FIELDS:
            raise InvalidInput(f"a schedule has no {key}; it has {', '.join(sorted(BODY_FIELDS))}", field=key)
    return {BODY_FIELDS[key]: value for key, value in body.items()}
