"""A paused key of a limit: exact from its commit on, and confirmed once nothing leased before it can start."""

import threading
import time
from contextlib import closing

import pytest

from ayb_jobs import NewJob, enqueue
from ayb_jobs.errors import InvalidInput, NotFound
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, Pausable, PauseKind
from ayb_jobs.runtime.fleet.pause_watch import PauseWatch
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pausable, pauses
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.limited import Limited, lease_limited
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

LANES = [Lane("default", priority) for priority in range(1, 5)]
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(autouse=True)
def _limit(conn: Connection) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=50), by="ada")


def pause(conn: Connection, key: str = "a") -> int:
    with conn.transaction():
        return pauses.pause(conn, NewPause(kind=PauseKind.KEY, name=f"few/{key}"), by="ada").id


def resume(conn: Connection, key: str = "a") -> None:
    with conn.transaction():
        assert pauses.resume(conn, PauseKind.KEY, f"few/{key}") is not None


def find(conn: Connection) -> Pausable:
    return pausable.find_pausable(conn, PauseKind.KEY, "few/a")


def waiting(conn: Connection, keys: str) -> list[str]:
    """Make a job of each key, and put them under the limit."""
    made = [make_job(conn, limit_key=key) for key in keys]
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=["test"], limit=100, lease_s=60)
    return made


def under(conn: Connection) -> Limited:
    return lease_limited(conn, "few", room=9, types=["test"], queues=["default"], worker_id="w", lease_s=60)


def leased(conn: Connection) -> set[str]:
    return {job.id for job in under(conn).leased}


def test_nothing_of_a_paused_key_is_leased_and_the_other_keys_are(conn: Connection) -> None:
    first, second, other = waiting(conn, "aab")
    pause(conn)
    assert leased(conn) == {other}
    seen = find(conn)
    assert (seen.due, seen.running, seen.pause is not None) == (2, 0, True)
    assert [each.name for each in pausable.list_pausable(conn, PauseKind.KEY).first] == ["few/a", "few/b"]
    resume(conn)
    assert leased(conn) == {first, second}


def test_nobody_waits_for_the_next_token_of_a_paused_key(conn: Connection) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], key_rate="1/h"), by="ada")
    waiting(conn, "aa")
    assert (under(conn).wait_s or 0) > 3000
    pause(conn)
    assert under(conn).wait_s is None


def test_a_pause_waits_for_the_leases_of_its_key_under_way_and_knows_them(conn: Connection, database_url: str) -> None:
    waiting(conn, "a")
    with closing(connect(database_url)) as other:
        with other.transaction():
            [job] = under(other).leased
            pausing = threading.Thread(target=pause, args=[conn])
            pausing.start()
            eventually(lambda: other.execute(WAITING).fetchone() == (1,))
        pausing.join(20)
        assert pauses.watch_pauses(other, worker_id="w").leases == {job.lease_id}


def test_a_lease_that_waits_for_a_pause_of_its_key_sees_it(conn: Connection, database_url: str) -> None:
    waiting(conn, "a")
    found: list[Limited] = []
    with closing(connect(database_url)) as other:
        with other.transaction():
            pauses.pause(other, NewPause(kind=PauseKind.KEY, name="few/a"), by="ada")
            leasing = threading.Thread(target=lambda: found.append(under(conn)))
            leasing.start()
            eventually(lambda: other.execute(WAITING).fetchone() == (1,))
        leasing.join(20)
    assert [each.leased for each in found] == [[]]


def test_a_pause_is_confirmed_once_all_that_was_leased_before_has_begun_or_been_given_back(
    db: Database, conn: Connection
) -> None:
    beat(conn, DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"]))
    conn.execute("UPDATE _ayb_job_workers SET limits_confirmed = 1000")
    waiting(conn, "ab")
    jobs = under(conn).leased
    [of_key] = [job for job in jobs if conn.execute(
        "SELECT limited_key FROM _ayb_jobs WHERE id = %s", (job.id,)).fetchone() == ("a",)]  # fmt: skip
    paused, in_flight, changes = Paused(), InFlight(), list[int]()
    watch = PauseWatch(
        database=db, worker_id="w", paused=paused, in_flight=in_flight, on_change=lambda: changes.append(1)
    )
    pause(conn)
    watch.tick()
    assert find(conn).waiting_for  # the answer that brings its job is on its way
    assert changes == [1]
    held = in_flight.add(jobs, time.monotonic())
    watch.tick()
    assert find(conn).waiting_for  # it is here, and its handler has not begun
    assert [paused.any and paused.holds(job) for job in jobs] == [job == of_key for job in jobs]
    for one in held:
        one.started = time.monotonic()
    watch.tick()
    assert not find(conn).waiting_for
    resume(conn)
    watch.tick()
    assert (changes, paused.any) == ([1, 1], False)


def test_a_pause_of_a_key_waits_for_daemons_that_have_not_confirmed_its_limit(conn: Connection) -> None:
    beat(conn, DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"]))
    pause(conn)
    conn.execute("UPDATE _ayb_job_workers SET pauses_confirmed = 1000000")
    assert find(conn).waiting_for
    assert pauses.list_unconfirmed(conn) == {(PauseKind.KEY, "few/a"): ["w"]}
    conn.execute("UPDATE _ayb_job_workers SET limits_confirmed = 1000000")
    assert not find(conn).waiting_for
    assert pauses.list_unconfirmed(conn) == {}


def test_the_pauses_of_a_removed_limits_keys_end(conn: Connection) -> None:
    pause(conn)
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="other", types=["a"], max_running=1), by="ada")
        pauses.pause(conn, NewPause(kind=PauseKind.KEY, name="other/a"), by="ada")
        limits.remove_limit(conn, "few")
    assert [each.name for each in pauses.list_pauses(conn)] == ["other/a"]


def test_a_key_is_named_by_its_limit(conn: Connection) -> None:
    for name in ("few", "/a", ""):
        with pytest.raises(InvalidInput, match="give LIMIT/KEY"):
            NewPause(kind=PauseKind.KEY, name=name)
    with pytest.raises(NotFound, match="there is no limit whose key is fe/w"), conn.transaction():
        pauses.pause(conn, NewPause(kind=PauseKind.KEY, name="fe/w"), by="ada")
    pause(conn, "")  # of jobs without a key
    enqueue(conn, NewJob(type="test"))
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=["test"], limit=100, lease_s=60)
    assert leased(conn) == set()


@pytest.mark.parametrize("notify", [True, False])
def test_nothing_of_a_paused_key_starts_once_all_daemons_confirmed(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, *, notify: bool
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.fleet.heartbeat.BEAT_S", 0.2)
    go, began = threading.Event(), list[float]()
    registry = Registry()

    @registry.handler("test")
    def run(_: JobContext) -> None:
        began.append(time.monotonic())
        go.wait(20)

    for _ in range(30):
        make_job(conn, limit_key="a")
    with (
        running(database_url, registry, notify=notify, worker_concurrency=2, poll_interval_ms=100),
        running(database_url, registry, notify=notify, worker_concurrency=2),
    ):
        eventually(lambda: len(began) == 4)
        pause(conn)
        eventually(lambda: not find(conn).waiting_for)
        at = time.monotonic()
        other = make_job(conn, limit_key="b")
        go.set()
        eventually(
            lambda: conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (other,)).fetchone() == ("completed",)
        )
        eventually(lambda: find(conn).running == 0)
        assert len([one for one in began if one > at]) == 1
        assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'queued'").fetchone() == (26,)
        resume(conn)
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed'").fetchone() == (0,))
