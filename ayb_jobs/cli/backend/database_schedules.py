"""Schedules on the database itself, open while no daemon runs."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ayb_jobs.cli.backend.bodies import schedule_fields
from ayb_jobs.cli.backend.database import actor
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.settings import job_defaults
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.storage.audit import record_deed, recorded, snapshot
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.waiting import known_types
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.schedules import schedules
from ayb_jobs.wire.jobs import job_text, page_text
from ayb_jobs.wire.schedules import schedule_text


class DatabaseSchedules:
    """A `SchedulesDoor` that is the database itself."""

    def __init__(self, conn: Connection, options: Options) -> None:
        self._conn = conn
        self._options = options
        self._actor = actor()

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        return page_text(map(schedule_text, schedules.list_schedules(self._conn)))

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None where no daemon is alive."""
        return known_types(self._conn)

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        new = NewSchedule(**schedule_fields(body))
        attempts = job_defaults(self._options, new.job_type).max_attempts
        with self._conn.transaction():
            made = schedules.create_schedule(self._conn, new, default_max_attempts=attempts)
            after_text = snapshot(self._conn, "schedule", made.id)
            record_deed(self._conn, actor=self._actor, action="schedule.create", target=made.id, after_text=after_text)
        return schedule_text(made)

    def update_schedule(self, key: str, changes: Mapping[str, Any]) -> str:
        """Change a schedule, given by id or name, and return it."""
        with self._recorded_schedule(key, "schedule.update") as schedule_id:
            return schedule_text(schedules.update_schedule(self._conn, schedule_id, schedule_fields(changes)))

    def enable_schedule(self, key: str) -> str:
        """Enable a schedule, given by id or name, and return it."""
        with self._recorded_schedule(key, "schedule.enable") as schedule_id:
            return schedule_text(schedules.enable_schedule(self._conn, schedule_id))

    def disable_schedule(self, key: str) -> str:
        """Disable a schedule, given by id or name, and return it."""
        with self._recorded_schedule(key, "schedule.disable") as schedule_id:
            return schedule_text(schedules.disable_schedule(self._conn, schedule_id))

    def delete_schedule(self, key: str) -> None:
        """Delete a schedule, given by id or name."""
        while schedules.detach_ended_jobs(self._conn, key):
            pass
        with self._recorded_schedule(key, "schedule.delete") as schedule_id:
            schedules.delete_schedule(self._conn, schedule_id)

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        with self._recorded_schedule(key, "schedule.trigger") as schedule_id:
            return job_text(get_job(self._conn, schedules.trigger_schedule(self._conn, schedule_id)))

    @contextmanager
    def _recorded_schedule(self, key: str, action: str) -> Iterator[str]:
        """Give the id of a schedule, in a transaction that records what the block does to it."""
        with self._conn.transaction():
            schedule_id = schedules.get_schedule(self._conn, key).id
            with recorded(self._conn, "schedule", schedule_id, actor=self._actor, action=action):
                yield schedule_id
