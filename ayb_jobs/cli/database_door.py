"""The commands' way to the database itself, open while no daemon runs."""

import getpass
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from ayb_jobs.cli.bodies import new_job, schedule_fields
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import patience
from ayb_jobs.cli.reach import database_url
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.schedule import NewSchedule
from ayb_jobs.model.wire import execution_text, job_text, page_text, schedule_text, stats_text
from ayb_jobs.storage import jobs, schedules
from ayb_jobs.storage.audit import record_deed, recorded, snapshot
from ayb_jobs.storage.database import Connection, connect_to_primary
from ayb_jobs.storage.executions import list_executions
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.stats import job_stats


@contextmanager
def database_door(options: Options) -> Iterator["DatabaseDoor"]:
    """Open the configured database; the embedded one is started for the time of the command where it is down."""
    with (
        database_url(options) as url,
        patience("asking the database …"),
        closing(connect_to_primary(url, name="ayb-jobs-cli")) as conn,
        worded_faults(),
    ):
        yield DatabaseDoor(conn, options)


class DatabaseDoor:
    """A `Door` that is the database itself."""

    def __init__(self, conn: Connection, options: Options) -> None:
        self._conn = conn
        self._options = options
        self._actor = f"command line ({user_name()})"

    def list_jobs(self, *, state: str | None, type: str | None, queue: str | None, limit: int) -> str:  # noqa: A002
        """Return a page of jobs, the newest first."""
        found = jobs.list_jobs(
            self._conn, state=None if state is None else JobState(state), type=type, queue=queue, limit=limit
        )
        return page_text(map(job_text, found))

    def job_stats(self) -> str:
        """Return the number of jobs in each state."""
        return stats_text(job_stats(self._conn))

    def get_job(self, job_id: str) -> str:
        """Return a job."""
        return job_text(jobs.get_job(self._conn, job_id))

    def list_executions(self, job_id: str, *, limit: int) -> str:
        """Return a page of a job's attempts, the newest first."""
        return page_text(map(execution_text, list_executions(self._conn, job_id=job_id, limit=limit)))

    def enqueue(self, body: Mapping[str, Any]) -> str:
        """Enqueue a job and return it, or the one that has its idempotency key."""
        if not {"payload", "maxAttempts"} <= body.keys():
            from ayb_jobs.cli.settings import job_defaults  # noqa: PLC0415 - slow to import, and mostly not needed

            defaults = job_defaults(self._options, body["type"])
            body = {"payload": defaults.payload, "maxAttempts": defaults.max_attempts, **body}
        new = new_job(body)
        with self._conn.transaction():
            made = jobs.enqueue(self._conn, new)
            if made.created:
                after_text = snapshot(self._conn, "job", made.id)
                record_deed(self._conn, actor=self._actor, action="job.enqueue", target=made.id, after_text=after_text)
            return job_text(jobs.get_job(self._conn, made.id))

    def retry_job(self, job_id: str) -> str:
        """Queue a failed job again and return it."""
        return self._change_job(job_id, "job.retry", jobs.retry_job)

    def cancel_job(self, job_id: str) -> str:
        """Cancel a queued job and return it."""
        return self._change_job(job_id, "job.cancel", jobs.cancel_job)

    def _change_job(self, job_id: str, action: str, change: Callable[[Connection, str], Job]) -> str:
        with self._conn.transaction(), recorded(self._conn, "job", job_id, actor=self._actor, action=action):
            return job_text(change(self._conn, job_id))

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        return page_text(map(schedule_text, schedules.list_schedules(self._conn)))

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        from ayb_jobs.cli.settings import job_defaults  # noqa: PLC0415 - slow to import, and mostly not needed

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
        with self._recorded_schedule(key, "schedule.delete") as schedule_id:
            schedules.delete_schedule(self._conn, schedule_id)

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        with self._recorded_schedule(key, "schedule.trigger") as schedule_id:
            return job_text(jobs.get_job(self._conn, schedules.trigger_schedule(self._conn, schedule_id)))

    @contextmanager
    def _recorded_schedule(self, key: str, action: str) -> Iterator[str]:
        """Give the id of a schedule, in a transaction that records what the block does to it."""
        with self._conn.transaction():
            schedule_id = schedules.get_schedule(self._conn, key).id
            with recorded(self._conn, "schedule", schedule_id, actor=self._actor, action=action):
                yield schedule_id


def user_name() -> str:
    """Return who gives the commands, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}"
