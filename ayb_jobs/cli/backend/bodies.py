"""The bodies of the API's calls as the values of the model, which say what is wrong with them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ayb_jobs.model.job import NewJob

JOB_FIELDS = {
    "type": "type",
    "payload": "payload",
    "queue": "queue",
    "priority": "priority",
    "maxAttempts": "max_attempts",
    "idempotencyKey": "idempotency_key",
}


def new_job(body: Mapping[str, Any]) -> NewJob:
    """Return the job that a body of the enqueue call asks for; raises `InvalidInput`."""
    return NewJob(**job_fields(body))


def job_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body of the enqueue call says, by the names of `NewJob`."""
    given = {field: body[key] for key, field in JOB_FIELDS.items() if key in body}
    if "runAt" in body:
        given["run_at"] = datetime.fromisoformat(body["runAt"])
    if "delaySec" in body:
        given["delay"] = timedelta(seconds=body["delaySec"])
    return given


def schedule_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a body of the schedule calls, as `NewSchedule` calls them."""
    return {_schedule_field(key): value for key, value in body.items()}


def _schedule_field(key: str) -> str:
    if key == "cronExpr":
        return "cron"
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
    return f"{snake.removesuffix('_sec')}_s" if snake.endswith("_sec") else snake
