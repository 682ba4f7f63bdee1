"""Finding a schedule by its id or its name."""

from typing import Any

from ayb_jobs.cli.backend.backend import SchedulesBackend
from ayb_jobs.cli.output import decoded
from ayb_jobs.errors import NotFound


def find(backend: SchedulesBackend, schedule: str) -> dict[str, Any]:
    """Return a schedule of the API; an id goes before a name. Raises `NotFound`."""
    found: list[dict[str, Any]] = decoded(backend.list_schedules())["items"]
    for key in ("id", "name"):
        for each in found:
            if each[key] == schedule:
                return each
    raise NotFound(f"there is no schedule {schedule}")
