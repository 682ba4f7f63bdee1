"""A server whose queue of notifications is full, behind a session that listens and stays in a transaction."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count

import psycopg
import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import Discard
from ayb_jobs.events import LoopFailed, NotificationsAvailable, NotificationsUnavailable
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.job import JobState
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.runtime import notifier
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.bulk import retry_jobs
from ayb_jobs.storage.queue.jobs import get_job, retry_job
from ayb_jobs.storage.schedules.schedules import create_schedule, trigger_schedule
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.running import running

FILL = "SELECT pg_notify('anything', %s || repeat('x', 7000))"
ENDED = "SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state = 'completed'"


@pytest.fixture
def url() -> Iterator[str]:
    """A migrated database on a server whose queue is as small as it can be."""
    with EmbeddedPostgres.throwaway(settings={"max_notify_queue_pages": "64"}) as server:
        with closing(connect(server.url())) as conn:
            migrate(conn)
        yield server.url()


@contextmanager
def full_queue(url: str) -> Iterator[None]:
    """Keep the queue full, for the time of the block."""
    with closing(connect(url, name="sleeper")) as sleeper, closing(connect(url, name="filler")) as filler:
        sleeper.execute("LISTEN anything")
        with sleeper.transaction():
            sleeper.execute("SELECT 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="NOTIFY queue"):
                fill(filler)
            yield


def fill(conn: Connection) -> None:
    for number in count():
        conn.execute(FILL, (str(number),))


class Handlers:
    """Handlers of which one fails until it is told not to, and one waits until it is told to stop."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.mended = threading.Event()
        self.waiting = threading.Event()
        self.registry.handler("work")(lambda _: None)
        self.registry.handler("broken")(self._fail)
        self.registry.handler("patient")(self._wait)

    def _fail(self, _ctx: JobContext) -> None:
        if not self.mended.is_set():
            raise Discard("not yet")

    def _wait(self, ctx: JobContext) -> None:
        self.waiting.set()
        ctx.stopping.wait(60)
        ctx.check()


def test_a_full_queue_of_notifications_keeps_no_job_from_being_made_or_run(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "PROBE_S", 0.2)
    handlers = Handlers()

    def completed(job_type: str) -> int:
        row = conn.execute(ENDED, (job_type,)).fetchone()
        return int(row[0]) if row else 0

    with closing(connect(url)) as conn:
        with (
            full_queue(url),
            running(url, handlers.registry, poll_interval_ms=50, scheduler_enabled=True, scheduler_tick_s=1) as daemon,
        ):
            eventually(lambda: daemon.recorder.of(NotificationsUnavailable))
            enqueue(conn, NewJob(type="work"))
            enqueue_many(conn, [NewJob(type="work") for _ in range(10)])
            Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": url}).ok("jobs", "enqueue", "work")
            eventually(lambda: completed("work") == 12, within_s=20)

            broken = [enqueue(conn, NewJob(type="broken")).id for _ in range(2)]
            eventually(lambda: all(get_job(conn, one).state == JobState.FAILED for one in broken), within_s=20)
            handlers.mended.set()
            retry_job(conn, broken[0])
            retry_jobs(conn)
            eventually(lambda: completed("broken") == 2, within_s=20)

            create_schedule(conn, NewSchedule(name="tick", job_type="work", cron="* * * * * *"))
            trigger_schedule(conn, "tick")
            eventually(lambda: completed("work") >= 12 + 3, within_s=20)

            patient = enqueue(conn, NewJob(type="patient")).id
            assert handlers.waiting.wait(20)
        assert not daemon.recorder.of(LoopFailed)
        assert len(daemon.recorder.of(NotificationsUnavailable)) == 1
        given_back = get_job(conn, patient)
        assert (given_back.state, given_back.attempts) == (JobState.QUEUED, 0)


def test_notifications_come_back_with_room_in_the_queue(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "PROBE_S", 0.2)
    with closing(connect(url)) as conn, running(url, Handlers().registry, poll_interval_ms=3_600_000) as daemon:
        with full_queue(url):
            eventually(lambda: daemon.recorder.of(NotificationsUnavailable))
            assert not daemon.recorder.of(NotificationsAvailable)
        eventually(lambda: daemon.recorder.of(NotificationsAvailable))
        job_id = enqueue(conn, NewJob(type="work")).id
        eventually(lambda: get_job(conn, job_id).state == JobState.COMPLETED)
