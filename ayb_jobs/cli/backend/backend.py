"""The way to the queue: its database, or the API of a daemon. Both answer with the JSON of the admin API."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from ayb_jobs.cli.backend.asked import api_url, token
from ayb_jobs.cli.options import Options
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind


class JobsBackend(Protocol):
    """What commands may ask about jobs. Answers are JSON text, as the admin API gives it.

    Each raises one of our errors where it is refused, and nothing is changed then. Fields of bodies and changes are in
    the API's camelCase.
    """

    def now(self) -> datetime:
        """Return the database's clock."""
        ...

    def job_stats(self) -> str:
        """Return the number of jobs in each state, and of the due ones that no live daemon can run."""
        ...

    def get_job(self, job_id: str) -> str:
        """Return a job, with why it waits."""
        ...

    def why(self, job_id: str | None, queue: str | None) -> str:
        """Return why a job waits, or those of a queue do, or any do."""
        ...

    def list_executions(self, job_id: str, *, limit: int) -> str:
        """Return a page of a job's attempts, the newest first."""
        ...

    def get_output(self, job_id: str, *, attempt: int | None) -> str:
        """Return what a job's command wrote, in its newest attempt or in one of that number."""
        ...

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None where no daemon is alive."""
        ...

    def served_queues(self) -> Collection[str] | None:
        """Return the queues that live daemons serve; None if no daemon is alive."""
        ...

    def enqueue(self, body: Mapping[str, Any]) -> str:
        """Enqueue a job and return it, or the one that has its idempotency key."""
        ...

    def change_jobs(self, action: str, wanted: Filter, *, dry_run: bool, cursor: str = "") -> str:
        """Retry or cancel jobs that match, or count them; if it is not `done`, the next call gives its `nextCursor`."""
        ...

    def retry_job(self, job_id: str) -> str:
        """Queue a failed job again and return it."""
        ...

    def cancel_job(self, job_id: str, *, running: bool, force: bool) -> str:
        """Cancel a queued job and return it; with `running` or `force` also one that runs."""
        ...

    def run_again(self, job_id: str, body: Mapping[str, Any]) -> str:
        """Make a new job of an old one, with the body's payload if it has one, and return it."""
        ...


class SchedulesBackend(Protocol):
    """What commands may ask about schedules, answered like `JobsBackend`. A schedule is given by its id or its name."""

    def now(self) -> datetime:
        """Return the database's clock."""
        ...

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        ...

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None where no daemon is alive."""
        ...

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        ...

    def update_schedule(self, key: str, changes: Mapping[str, Any]) -> str:
        """Change a schedule and return it."""
        ...

    def enable_schedule(self, key: str) -> str:
        """Enable a schedule and return it."""
        ...

    def disable_schedule(self, key: str) -> str:
        """Disable a schedule and return it."""
        ...

    def delete_schedule(self, key: str) -> None:
        """Delete a schedule."""
        ...

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        ...


class PausesBackend(Protocol):
    """What commands may ask about queues and job types, answered like `JobsBackend`."""

    def now(self) -> datetime:
        """Return the database's clock."""
        ...

    def list_pausable(self, kind: PauseKind) -> str:
        """Return the queues, or the types, by name."""
        ...

    def get_pausable(self, kind: PauseKind, name: str) -> str:
        """Return a queue or a type."""
        ...

    def pause(self, new: NewPause) -> str:
        """Pause a queue or a type, and return it."""
        ...

    def resume(self, kind: PauseKind, name: str) -> str:
        """Resume a queue or a type, and return it."""
        ...


class LimitsBackend(Protocol):
    """What commands may ask about limits, answered like `JobsBackend`."""

    def list_limits(self) -> str:
        """Return the limits, by name."""
        ...

    def get_limit(self, name: str) -> str:
        """Return a limit."""
        ...

    def set_limit(self, new: NewLimit) -> str:
        """Make a limit, or change it, and return it."""
        ...

    def remove_limit(self, name: str) -> str:
        """Remove a limit and return it as it was."""
        ...


class BatchesBackend(Protocol):
    """What commands may ask about batches, answered like `JobsBackend`."""

    def now(self) -> datetime:
        """Return the database's clock."""
        ...

    def list_batches(self, *, state: str | None, limit: int) -> str:
        """Return a page of batches, the newest first."""
        ...

    def get_batch(self, batch_id: str) -> str:
        """Return a batch."""
        ...

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None where no daemon is alive."""
        ...

    def served_queues(self) -> Collection[str] | None:
        """Return the queues that live daemons serve; None if no daemon is alive."""
        ...

    def create_batch(self, body: Mapping[str, Any]) -> str:
        """Make a batch of a body of the API, and return it."""
        ...

    def seal_batch(self, batch_id: str) -> str:
        """Let a batch end once its members have, and return it."""
        ...

    def cancel_batch(self, batch_id: str, *, running: bool) -> str:
        """Cancel the members of a batch that are queued, or run if that is asked for, and return it."""
        ...


class DaemonsBackend(Protocol):
    """What commands may ask about daemons, answered like `JobsBackend`."""

    def list_daemons(self) -> str:
        """Return the daemons that are alive, in the order of their start."""
        ...

    def drain(self, daemon: str) -> str:
        """Ask a daemon, given by its id or a part of it, to drain, and return it."""
        ...


@contextmanager
def open_jobs(options: Options) -> Iterator[JobsBackend]:
    """Open the way that was asked for: an API where a URL was given, else the database.

    A flag overrides the environment: `--database-url` also overrides AYB_JOBS_URL.
    """
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_jobs import DatabaseJobs

    with database(options) as conn:
        yield DatabaseJobs(conn, options)


@contextmanager
def open_schedules(options: Options) -> Iterator[SchedulesBackend]:
    """Open the way to the schedules, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_schedules import DatabaseSchedules

    with database(options) as conn:
        yield DatabaseSchedules(conn, options)


@contextmanager
def open_pauses(options: Options) -> Iterator[PausesBackend]:
    """Open the way to the queues and types, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_pauses import DatabasePauses

    with database(options) as conn:
        yield DatabasePauses(conn)


@contextmanager
def open_limits(options: Options) -> Iterator[LimitsBackend]:
    """Open the way to the limits, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_limits import DatabaseLimits

    with database(options) as conn:
        yield DatabaseLimits(conn)


@contextmanager
def open_batches(options: Options) -> Iterator[BatchesBackend]:
    """Open the way to the batches, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_batches import DatabaseBatches

    with database(options) as conn:
        yield DatabaseBatches(conn, options)


@contextmanager
def open_daemons(options: Options) -> Iterator[DaemonsBackend]:
    """Open the way to the daemons, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_daemons import DatabaseDaemons

    with database(options) as conn:
        yield DatabaseDaemons(conn)
