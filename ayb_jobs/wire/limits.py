"""Limits as the API shows them and takes them."""

from collections.abc import Mapping
from typing import Any

from ayb_jobs.model.limits import Limit, NewLimit
from ayb_jobs.wire.text import object_text

# The fields of a limit, by the model's names.
FIELDS = {
    "types": "types",
    "keyField": "key_field",
    "maxRunning": "max_running",
    "keyMaxRunning": "key_max_running",
    "rate": "rate",
    "burst": "burst",
    "keyRate": "key_rate",
    "keyBurst": "key_burst",
}


def limit_text(seen: Limit) -> str:
    """Return a limit's JSON; what it does not limit is left out."""
    return object_text(
        {
            "name": seen.new.name,
            **limit_fields(seen.new),
            "waiting": seen.waiting,
            "running": seen.running,
            "atLeast": seen.cut,
            "tokens": seen.tokens,
            "setBy": seen.set_by,
            "setAt": seen.set_at,
            "waitingFor": list(seen.waiting_for),
        }
    )


def limit_fields(new: NewLimit) -> dict[str, Any]:
    """Return what a limit says, as a body of the API; bursts without a rate are left out."""
    said = {key: getattr(new, field) for key, field in FIELDS.items()} | {"types": list(new.types)}
    if new.rate is None:
        del said["burst"]
    if new.key_rate is None:
        del said["keyBurst"]
    return {key: value for key, value in said.items() if value is not None}


def new_limit(name: str, body: Mapping[str, Any]) -> NewLimit:
    """Return the limit that a body asks for; raises `InvalidInput`."""
    given = {field: body[key] for key, field in FIELDS.items() if body.get(key) is not None}
    return NewLimit(**{"name": name, "types": (), **given})
