"""Schedules on the database itself, open while no daemon runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from ayb_jobs.cli.backend.acting import EnqueueingBackend
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.operations import schedules as operations
from ayb_jobs.storage.schedules import schedules
from ayb_jobs.wire.jobs import job_text
from ayb_jobs.wire.schedules import schedule_fields, schedule_text
from ayb_jobs.wire.text import page_text


class DatabaseSchedules(EnqueueingBackend):
    """A `SchedulesBackend` that is the database itself."""

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        return page_text(map(schedule_text, schedules.list_schedules(self._conn)))

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        new = NewSchedule(**schedule_fields(body))
        return schedule_text(operations.create(self._conn, new, actor=self._actor, defaults=self._defaults))

    def create_schedules(self, wanted: Iterable[NewSchedule]) -> None:
        """Create all of these schedules or none."""
        operations.create_all(self._conn, wanted, actor=self._actor, defaults=self._defaults)

    def update_schedule(self, key: str, changes: Mapping[str, Any]) -> str:
        """Change a schedule, given by id or name, and return it."""
        fields = schedule_fields(changes)
        return schedule_text(operations.update(self._conn, key, fields, actor=self._actor, defaults=self._defaults))

    def enable_schedule(self, key: str) -> str:
        """Enable a schedule, given by id or name, and return it."""
        return schedule_text(operations.enable(self._conn, key, actor=self._actor))

    def disable_schedule(self, key: str) -> str:
        """Disable a schedule, given by id or name, and return it."""
        return schedule_text(operations.disable(self._conn, key, actor=self._actor))

    def delete_schedule(self, key: str) -> None:
        """Delete a schedule, given by id or name."""
        operations.delete(self._step, key, actor=self._actor)

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        return job_text(operations.trigger(self._conn, key, actor=self._actor))
