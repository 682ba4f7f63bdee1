"""The bodies of the API's calls as the values of the model, which say what is wrong with them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ayb_jobs.model.job import NewJob


def new_job(body: Mapping[str, Any]) -> NewJob:
    """Return the job that a body of the enqueue call asks for; raises `InvalidInput`."""
    delay_s = body.get("delaySec")
    given = {field: body[key] for key, field in JOB_FIELDS.items() if key in body}
    return NewJob(
        run_at=None if "runAt" not in body else datetime.fromisoformat(body["runAt"]),
        delay=None if delay_s is None else timedelta(seconds=delay_s),
        **given,
    )


JOB_FIELDS = {
    "type": "type",
    "payload": "payload",
    "queue": "queue",
    "priority": "priority",
    "maxAttempts": "max_attempts",
    "idempotencyKey": "idempotency_key",
}


def schedule_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a body of the schedule calls, as `NewSchedule` calls them."""
    return {_schedule_field(key): value for key, value in body.items()}


def _schedule_field(key: str) -> str:
    if key == "cronExpr":
        return "cron"
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
    return f"{snake.removesuffix('_sec')}_s" if snake.endswith("_sec") else snake
