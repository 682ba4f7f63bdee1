"""A beat asks at once for all that an idle daemon may not have heard of."""

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import confirm_limits
from tests.factories import make_job
from tests.storage.queue.test_batches import made
from tests.storage.queue.test_dependencies import child_of

ME = DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


class Beating:
    """A heartbeat, and whom each of its beats wakes."""

    def __init__(self, db: Database) -> None:
        self._woken: list[str] = []
        self._heartbeat = Heartbeat(
            database=db, daemon=ME, emit=lambda _: None, on_limits=lambda: self._woken.append("limits")
        )
        self._heartbeat.on_edges = lambda: self._woken.append("edges")
        self._heartbeat.on_batches = lambda: self._woken.append("batches")

    def beat(self) -> list[str]:
        self._woken.clear()
        self._heartbeat.tick()
        return list(self._woken)


def test_a_beat_wakes_those_who_have_something_to_look_at_and_nobody_else(db: Database, conn: Connection) -> None:
    beating = Beating(db)
    beating.beat()
    confirm_limits(conn, worker_id="w", newest=0)
    assert beating.beat() == []
    child_of(conn, make_job(conn))
    assert beating.beat() == ["edges"]
    conn.execute("DELETE FROM _ayb_job_dependencies")
    made(conn, 1)
    assert beating.beat() == ["batches"]
    conn.execute("UPDATE _ayb_job_batches SET sealed_at = NULL")
    assert beating.beat() == []
    conn.execute("UPDATE _ayb_jobs SET priority = 5, limited_by = 'gone', limited_key = '' WHERE state = 'queued'")
    assert beating.beat() == ["limits"]
