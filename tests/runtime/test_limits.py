"""Limits held by daemons: never more at once, nothing leaks, each daemon confirms."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any, LiteralString

import pytest

from ayb_jobs import NewJob, Snooze, enqueue_many
from ayb_jobs.events import JobsReleased
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.runtime.fleet import heartbeat
from ayb_jobs.runtime.jobs import held_limits, limited_look
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pauses
from ayb_jobs.storage.fleet.limits_of_file import follow_file
from ayb_jobs.storage.queue.jobs import retry_job
from ayb_jobs.storage.queue.limited import lease_limited
from tests.eventually import eventually
from tests.factories import make_job
from tests.producing import producing
from tests.running import running
from tests.sql_workers import lease

# Whether each daemon knows that no limit stands any more.
CONFIRMED = "SELECT bool_and(limits_confirmed = 0) FROM _ayb_job_workers"


def limit(conn: Connection, **given: Any) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(**{"name": "few", "types": ["test"], **given}), by="ada")


class Handlers:
    """Handlers that note how many of each key run at once; some end otherwise than by completing."""

    def __init__(self, run_s: float = 0.002) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self._run_s = run_s
        self.most: Counter[str] = Counter()
        self.began = 0
        self.go = threading.Event()
        self.go.set()
        self.registry = Registry()
        self.registry.handler("test", max_attempts=9)(self.run)
        self.registry.handler("plain")(lambda _: None)

    def run(self, ctx: JobContext) -> object:
        key = str(ctx.payload.get("key"))
        with self._lock:
            self.began += 1
            for one in (key, "all"):
                self._now[one] += 1
                self.most[one] = max(self.most[one], self._now[one])
        self.go.wait(20)
        time.sleep(self._run_s)
        with self._lock:
            for one in (key, "all"):
                self._now[one] -= 1
        match ctx.payload.get("end"), ctx.attempt:
            case "fail", 1:
                raise ValueError("once")
            case "snooze", 1:
                return Snooze(0.01)
        return None


def left(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("notify", [True, False])
def test_no_more_run_at_once_on_two_daemons_than_the_limit_says(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, *, notify: bool
) -> None:
    """Jobs that fail, snooze, or are given back free their places."""
    monkeypatch.setattr("ayb_jobs.model.backoff.Backoff.delay_s", lambda *_: 0.01, raising=False)
    limit(conn, max_running=3, key_max_running=2, key_field="key")
    ends = ["complete", "complete", "snooze"]
    enqueue_many(conn, [NewJob(type="test", payload={"key": n % 3, "end": ends[n % 3]}) for n in range(90)])
    enqueue_many(conn, [NewJob(type="plain") for _ in range(50)])
    handlers = Handlers()
    with (
        running(database_url, handlers.registry, notify=notify, poll_interval_ms=50),
        running(database_url, handlers.registry, notify=notify, poll_interval_ms=50),
    ):
        eventually(lambda: left(conn) == 0, within_s=30)
    assert handlers.most["all"] == 3
    assert max(handlers.most[key] for key in "012") == 2
    assert handlers.began == 120


def test_a_limit_that_is_set_while_jobs_run_is_in_force_once_all_have_confirmed(
    database_url: str, conn: Connection
) -> None:
    handlers = Handlers()
    handlers.go.clear()
    enqueue_many(conn, [NewJob(type="test", payload={}) for _ in range(40)])
    with (
        running(database_url, handlers.registry, worker_concurrency=4) as one,
        running(database_url, handlers.registry, worker_concurrency=4),
    ):
        eventually(lambda: handlers.began == 8)
        limit(conn, max_running=2)
        eventually(lambda: limits.list_limits(conn)[0].waiting_for == [])
        eventually(lambda: limits.list_limits(conn)[0].running == 8)  # what ran before counts
        handlers.go.set()
        handlers.most.clear()
        eventually(lambda: handlers.began > 8)
        handlers.most.clear()
        eventually(lambda: left(conn) == 0, within_s=30)
        assert handlers.most["all"] == 2
        assert one.daemon is not None


def test_removing_a_limit_lets_go_what_waits_under_it(database_url: str, conn: Connection) -> None:
    handlers = Handlers()
    limit(conn, max_running=0)
    enqueue_many(conn, [NewJob(type="test", payload={}) for _ in range(9)])
    with running(database_url, handlers.registry):
        eventually(lambda: limits.list_limits(conn)[0].waiting == 9)
        with conn.transaction():
            limits.remove_limit(conn, "few")
        eventually(lambda: left(conn) == 0)
    assert handlers.began == 9
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE priority > 4").fetchone() == (0,)


def test_a_job_that_is_queued_again_under_a_limit_that_was_removed_runs(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    handlers = Handlers()
    limit(conn, max_running=1)
    with running(database_url, registry=handlers.registry):
        job_id = make_job(conn, type="test", payload={})
        eventually(lambda: left(conn) == 0)
        conn.execute("UPDATE _ayb_jobs SET state = 'failed', completed_at = NULL WHERE id = %s", (job_id,))
        with conn.transaction():
            limits.remove_limit(conn, "few")
        eventually(lambda: conn.execute(CONFIRMED).fetchone() == (True,))
        with conn.transaction():
            retry_job(conn, job_id)
        eventually(lambda: left(conn) == 0)
    assert handlers.began == 2


def test_a_daemon_of_an_earlier_version_is_named_and_leases_nothing_that_waits_under_a_limit(
    database_url: str, conn: Connection
) -> None:
    conn.execute("INSERT INTO _ayb_job_workers VALUES ('old', 'h', 7, '0.0.9', 1, '{default}', '{test}')")
    limit(conn, max_running=0)
    make_job(conn)
    handlers = Handlers()
    with running(database_url, handlers.registry):
        eventually(lambda: limits.list_limits(conn)[0].waiting == 1)
        eventually(lambda: len(limits.list_limits(conn)[0].waiting_for) == 1)
    assert list(limits.list_limits(conn)[0].waiting_for) == ["old (pid 7 on h, version 0.0.9)"]


@pytest.mark.parametrize("given", [{"rate": "20/s"}, {"key_rate": "20/s"}])
def test_a_rate_is_waited_for_and_not_polled(database_url: str, conn: Connection, given: dict[str, str]) -> None:
    handlers = Handlers()
    limit(conn, **given)
    enqueue_many(conn, [NewJob(type="test", payload={}) for _ in range(10)])
    with running(database_url, handlers.registry, poll_interval_ms=60_000, notify=False):
        began = time.monotonic()
        eventually(lambda: left(conn) == 0, within_s=30)
    assert 0.4 <= time.monotonic() - began < 5


def test_a_limit_that_is_locked_keeps_only_its_own_jobs_waiting(database_url: str, conn: Connection) -> None:
    limit(conn, max_running=5)
    limit(conn, name="other", types=["other"], max_running=5)
    handlers = Handlers()
    handlers.registry.handler("other")(lambda _: None)
    done = "SELECT type FROM _ayb_jobs WHERE state = 'completed' ORDER BY type"
    with running(database_url, handlers.registry) as one:
        with conn.transaction():
            conn.execute("SELECT FROM _ayb_job_limits WHERE name = 'few' FOR UPDATE")
            for turn in range(1, 4):
                enqueue_elsewhere(database_url)
                ended = turn * [("other",)] + turn * [("plain",)]
                eventually(partial(same, conn, done, ended))
        eventually(lambda: len(conn.execute(done).fetchall()) == 9)
    assert [event for event in one.recorder.events if type(event).__name__ == "RowsSetAside"] == []


def test_a_transaction_that_holds_many_limits_keeps_no_other_job_waiting(database_url: str, conn: Connection) -> None:
    handlers = Handlers()
    for number in range(30):
        limit(conn, name=f"limit {number}", types=[f"type {number}"], max_running=5)
        handlers.registry.handler(f"type {number}")(lambda _: None)
    kinds = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed' AND type LIKE %s"
    with closing(connect(database_url)) as holder, running(database_url, handlers.registry):
        with holder.transaction():
            assert lease(holder, *(f"type {number}" for number in range(30))) == []
            conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'type ' || number FROM generate_series(0, 29) AS number")
            conn.execute("NOTIFY ayb_jobs")
            under = "SELECT count(*) FROM _ayb_jobs WHERE limited_by IS NOT NULL"
            eventually(lambda: conn.execute(under).fetchone() == (30,), within_s=5)
            for turn in range(1, 4):
                make_job(conn, type="plain")
                conn.execute("NOTIFY ayb_jobs")
                eventually(partial(counted, conn, kinds, "plain", turn), within_s=5)
            assert counted(conn, kinds, "type %", 0)
        eventually(partial(counted, conn, kinds, "type %", 30))


def test_looks_at_limits_that_are_held_wait_for_a_small_part_of_the_time(
    db: Database, conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def noted(*given: Any, **named: Any) -> Any:
        waits.append(named["wait_s"])
        return lease_limited(*given, **named)

    monkeypatch.setattr(limited_look, "lease_limited", noted)
    in_flight = InFlight()
    look = producing(db, Buffer(lambda: None), in_flight, limits=Limits(exist=True), mean_run_s=lambda: 0.001).look
    limit(conn, max_running=5)
    make_job(conn)
    with closing(connect(database_url)) as holder, holder.transaction():
        holder.execute("SELECT FROM _ayb_job_limits FOR UPDATE")
        began = time.monotonic()
        while waits.count(held_limits.WAIT_S) < 3:
            assert look.fill() <= limited_look.SWEEP_S
        assert time.monotonic() - began >= 2 * held_limits.CALM_S
        assert 3 < len(waits) <= 3 + (time.monotonic() - began) / held_limits.RETRY_S
        assert len(in_flight) == 0
    eventually(lambda: [look.fill(), len(in_flight)][1] == 1)


def counted(conn: Connection, query: LiteralString, kind: str, jobs: int) -> bool:
    return conn.execute(query, (kind,)).fetchone() == (jobs,)


def same(conn: Connection, query: LiteralString, rows: Sequence[tuple[str]]) -> bool:
    return conn.execute(query).fetchall() == rows


def enqueue_elsewhere(url: str) -> None:
    with closing(connect(url)) as conn:
        for kind in ("test", "other", "plain"):
            make_job(conn, type=kind)


def test_a_job_that_a_trigger_refuses_keeps_no_other_of_its_limit_waiting(database_url: str, conn: Connection) -> None:
    limit(conn, max_running=5)
    bad, silent = make_job(conn, priority=1), make_job(conn, priority=1)
    good = make_job(conn)
    conn.execute("SET search_path = public")
    conn.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.state = 'running' AND NEW.id = '{bad}' THEN RAISE EXCEPTION 'not this one'; END IF;
            IF NEW.state = 'running' AND NEW.id = '{silent}' THEN RETURN NULL; END IF;
            RETURN NEW;
        END $$""".encode()
    )
    conn.execute("CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION refuse()")
    with running(database_url, Handlers().registry) as one:
        done = "SELECT state FROM _ayb_jobs WHERE id = %s"
        eventually(lambda: conn.execute(done, (good,)).fetchone() == ("completed",))
        told = [event for event in one.recorder.events if type(event).__name__ == "RowsSetAside"]
        eventually(lambda: told or [e for e in one.recorder.events if type(e).__name__ == "RowsSetAside"])


def test_a_look_that_finds_a_thousand_keys_full_walks_them_once(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(conn, key_max_running=1)
    for state in ("queued", "running"):
        conn.execute(
            "INSERT INTO _ayb_jobs (type, state, priority, limited_by, limited_key)"
            " SELECT 'test', %s, 6, 'few', 'key ' || number FROM generate_series(1, 1000) AS number",
            (state,),
        )
    walks: list[str] = []

    def counted(*given: Any, **named: Any) -> Any:
        walks.append(named["after"])
        return lease_limited(*given, **named)

    monkeypatch.setattr(limited_look, "lease_limited", counted)
    look = producing(db, Buffer(lambda: None), InFlight(), limits=Limits(exist=True), mean_run_s=lambda: 0.001).look
    for most in (2, 3):  # the first walk ends behind the last key, and the next one there, too
        look._limited.fill()
        assert len(walks) == most


def test_a_look_at_a_full_limit_takes_no_lock(db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def counted(conn: Connection, name: str, **given: Any) -> Any:
        looks.append(name)
        return lease_limited(conn, name, **given)

    monkeypatch.setattr(limited_look, "lease_limited", counted)
    limit(conn, max_running=1)
    look = producing(db, Buffer(lambda: None), InFlight(), limits=Limits(exist=True), mean_run_s=lambda: 0.001).look
    make_job(conn)
    make_job(conn)
    look.fill()
    for _ in range(4):
        assert 0 < look.fill() <= limited_look.SWEEP_S
    assert looks == ["few", "few"]  # the second found nothing
    conn.execute("UPDATE _ayb_jobs SET state = 'completed' WHERE state = 'running'")
    look.fill()
    assert looks == ["few", "few", "few"]


def test_a_look_leases_what_it_has_put_under_a_limit(db: Database, conn: Connection) -> None:
    in_flight = InFlight()
    limit(conn, max_running=9)
    look = producing(db, Buffer(lambda: None), in_flight, limits=Limits(exist=True), mean_run_s=lambda: 0.001).look
    for turn in range(1, 4):
        make_job(conn)
        look.fill()
        assert len(in_flight) == turn


def test_what_is_put_under_a_limit_behind_the_look_for_it_is_looked_for_at_once(db: Database, conn: Connection) -> None:
    buffer, in_flight = Buffer(lambda: None), InFlight()
    buffer.idle = 2
    look = producing(db, buffer, in_flight, limits=Limits(exist=True)).look
    for _ in range(2):
        make_job(conn)
    look.fill()
    assert len(buffer.take_back()) == 2
    limit(conn, max_running=9)
    make_job(conn)
    assert look.fill() == 0
    look.fill()
    assert len(in_flight) == 3


def running_under(conn: Connection) -> dict[tuple[str, str], int]:
    query = "SELECT type, limited_by, count(*) FROM _ayb_jobs WHERE state = 'running' GROUP BY 1, 2"
    return {(kind, name): jobs for kind, name, jobs in conn.execute(query).fetchall()}


def in_force(conn: Connection, name: str) -> bool:
    found = limits.find_limit(conn, name)
    return found is not None and not found.waiting_for


def test_what_runs_counts_when_its_limit_is_renamed_in_the_file(database_url: str, conn: Connection) -> None:
    handlers = Handlers()
    handlers.go.clear()
    follow_file(conn, [NewLimit(name="few", types=["test"], max_running=1)], by="file")
    make_job(conn)
    with running(database_url, handlers.registry, worker_concurrency=5):
        eventually(lambda: running_under(conn) == {("test", "few"): 1})
        for _ in range(3):
            make_job(conn)
        follow_file(conn, [NewLimit(name="less", types=["test"], max_running=1)], by="file")
        eventually(lambda: in_force(conn, "less"))
        began = running_under(conn)["test", "less"]
        assert began in {1, 2}  # one may begin before it is in force
        waiting = "SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND limited_by = 'less'"
        eventually(lambda: conn.execute(waiting).fetchone() == (4 - began,), within_s=30)
        assert running_under(conn) == {("test", "less"): began}
        handlers.most.clear()
        handlers.go.set()
        eventually(lambda: left(conn) == 0, within_s=30)
    assert (handlers.began, handlers.most["all"]) == (4, 1)


def test_what_runs_and_waits_of_a_type_goes_with_it_to_another_limit(database_url: str, conn: Connection) -> None:
    handlers, go = Handlers(), threading.Event()
    handlers.registry.handler("other")(lambda _: go.wait(20) and None)
    handlers.go.clear()
    limit(conn, types=["test", "other"], max_running=5)
    enqueue_many(conn, [NewJob(type="test") for _ in range(8)])
    moved = "SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND limited_by = 'one'"
    with running(database_url, handlers.registry, worker_concurrency=10):
        eventually(lambda: running_under(conn) == {("test", "few"): 5})
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["other"], max_running=5), by="ada")
            limits.set_limit(conn, NewLimit(name="one", types=["test"], max_running=1), by="ada")
        eventually(lambda: in_force(conn, "one"))
        began = running_under(conn)["test", "one"]
        assert began in {5, 6}  # one may begin before it is in force
        make_job(conn, type="other")
        conn.execute("NOTIFY ayb_jobs")
        eventually(lambda: running_under(conn) == {("test", "one"): began, ("other", "few"): 1})
        eventually(lambda: conn.execute(moved).fetchone() == (8 - began,), within_s=30)
        handlers.most.clear()
        go.set()
        handlers.go.set()
        eventually(lambda: left(conn) == 0, within_s=30)
    assert (handlers.began, handlers.most["all"]) == (8, 1)


def test_a_job_that_is_retried_is_put_under_the_limit_that_its_type_has_by_then(conn: Connection) -> None:
    for name in ("few", "one"):
        limit(conn, name=name, max_running=1)
        job_id = make_job(conn, state="failed", priority=6, limited_by=name, limited_key="x")
        with conn.transaction():
            limits.remove_limit(conn, name)
        assert (retry_job(conn, job_id).limit, running_under(conn)) == (None, {})
    assert conn.execute("SELECT DISTINCT priority, limited_by, limited_key FROM _ayb_jobs").fetchall() == [
        (2, None, None)
    ]


def test_a_limit_that_is_renamed_in_the_file_keeps_what_it_has_spent_and_the_pauses_of_its_keys(
    conn: Connection,
) -> None:
    first, renamed = (
        NewLimit(name=name, types=["test"], rate="1/h", burst=4, key_rate="1/h") for name in ("few", "less")
    )
    follow_file(conn, [first], by="file")
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=PauseKind.KEY, name="few/b"), by="ada")
    for key in ("a", "a", "b", "c", "c"):
        make_job(conn, limit_key=key, limited_by="few", limited_key=key, priority=6)
    given: dict[str, Any] = {"room": 9, "types": ["test"], "queues": ["default"], "worker_id": "w", "lease_s": 60}
    assert len(lease_limited(conn, "few", **(given | {"room": 1})).leased) == 1
    assert follow_file(conn, [renamed], by="file") == ["less"]
    conn.execute("UPDATE _ayb_jobs SET limited_by = 'less'")
    assert lease_limited(conn, "few", **given).missed
    assert len(lease_limited(conn, "less", **given).leased) == 1
    keys = "SELECT limited_key FROM _ayb_jobs WHERE state = 'running' ORDER BY 1"
    assert conn.execute(keys).fetchall() == [("a",), ("c",)]
    assert limits.list_limits(conn)[0].tokens == 2


def test_places_that_were_taken_ahead_of_a_slot_are_given_back_when_handlers_become_slow(
    database_url: str, conn: Connection
) -> None:
    registry, is_slow, go_on = Registry(), threading.Event(), threading.Event()

    @registry.handler("test")
    def _(context: JobContext) -> None:
        if is_slow.is_set():
            go_on.wait(30)

    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=5), by="ada")
    states = "SELECT count(*) FROM _ayb_jobs WHERE state = %s"
    more = "INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, %s)"
    with running(database_url, registry, worker_concurrency=1, poll_interval_ms=60_000) as daemon:
        conn.execute(more, (100,))
        conn.execute("NOTIFY ayb_jobs")
        eventually(lambda: conn.execute(states, ("completed",)).fetchone() == (100,), within_s=30)
        is_slow.set()
        conn.execute(more, (20,))
        conn.execute("NOTIFY ayb_jobs")
        eventually(lambda: daemon.recorder.of(JobsReleased), within_s=30)
        eventually(lambda: conn.execute(states, ("running",)).fetchone() == (1,))
        go_on.set()
        eventually(lambda: conn.execute(states, ("completed",)).fetchone() == (120,), within_s=30)
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs").fetchall() == [(1,)]
