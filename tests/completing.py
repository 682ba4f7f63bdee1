"""A completer with jobs to settle, put together as the daemon does it."""

from typing import Any

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.runtime.jobs.completer import Completer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.factories import make_job


class Completing:
    """`completer` works on `db`; `told` are its events. Jobs of type `test` are made and leased on `conn`."""

    def __init__(self, db: Database, conn: Connection, *, remove_completed: bool = False) -> None:
        self.conn = conn
        self.in_flight = InFlight()
        self.told: list[Any] = []
        self.completer = Completer(
            database=db,
            in_flight=self.in_flight,
            emit=self.told.append,
            worker_id="w",
            backoff=Backoff(),
            remove_completed=remove_completed,
            wake=lambda: None,
        )

    def lease_one(self, **columns: Any) -> Held:
        """Make a job, lease it and hold it."""
        job_id = make_job(self.conn, **columns)
        job = lease(self.conn)
        assert job.id == job_id
        (held,) = self.in_flight.add([job], 0.0)
        return held

    def end_one(self, **columns: Any) -> str:
        """Make and lease a job, and have it completed."""
        held = self.lease_one(**columns)
        self.completer.settle(held, settle_result(held.job, None, 0.0, 0.0))
        return held.job.id

    def of(self, kind: type) -> list[Any]:
        """Return the events of a kind that were told."""
        return [event for event in self.told if isinstance(event, kind)]


def lease(conn: Connection) -> LeasedJob:
    """Lease the one job that is due."""
    (job,) = lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=1, lease_s=60)
    return job
