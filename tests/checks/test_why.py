"""Why jobs wait: each reason on a real database, the same at every door."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import NewJob, enqueue
from ayb_jobs.checks.why import why_job, why_waits
from ayb_jobs.events import RowsSetAside, RowsTakenUp
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.surroundings import Runner
from ayb_jobs.model.waiting import REASONS, Reason, WaitKind
from ayb_jobs.runtime.fleet.aside_board import AsideBoard
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import waiting
from ayb_jobs.storage.fleet.daemons import Troubles, beat
from ayb_jobs.storage.fleet.limits import remove_limit, set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs
from ayb_jobs.storage.queue.limited import lease_limited
from ayb_jobs.storage.queue.put_under import put_under
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.running import running

PAST, LATER = sql.SQL("now() - interval '1 minute'"), sql.SQL("'2090-01-01 UTC'")


def a_daemon(conn: Connection, name: str = "a", *, slots: int = 2, aside: dict[str, str] | None = None) -> None:
    tells(conn, {"_ayb_jobs": aside or {}}, name=name, slots=slots)


def tells(conn: Connection, tables: dict[str, dict[str, str]], *, name: str = "a", slots: int = 2) -> None:
    """Have a daemon be alive that tells of rows which the database refuses."""
    record = DaemonRecord(
        id=name, host="h", pid=1, version="1", concurrency=slots, queues=["default", "slow"], types=["mail"]
    )
    beat(conn, record, Troubles(tables, ()))


def paused(conn: Connection, new: NewPause) -> None:
    with conn.transaction():
        pause(conn, new, by="ann")


PARENT = "01890000-0000-7000-8000-0000000000aa"


def mail(conn: Connection, state: str = "queued", **columns: object) -> str:
    return make_job(conn, state, **{"type": "mail", "run_at": PAST, **columns})


def attempt(conn: Connection, job_id: str, outcome: str, error: str | None = None) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, error, started_at, ended_at)"
        " VALUES (nextval('_ayb_job_execution_ids'), %s, 'mail', 1, 'a', %s, %s, now(), now())",
        (job_id, outcome, error),
    )


class Told(NamedTuple):
    kind: WaitKind
    words: str


@pytest.fixture
def other(database_url: str) -> Iterator[Connection]:
    """A session beside the one that asks."""
    with psycopg.connect(database_url) as conn:
        yield conn


def delayed(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, run_at=LATER)


def retry_after(outcome: str, error: str | None = None) -> Callable[[Connection], str]:
    def situation(conn: Connection) -> str:
        a_daemon(conn)
        job_id = mail(conn, run_at=LATER, attempts=1, max_attempts=3)
        attempt(conn, job_id, outcome, error)
        return job_id

    return situation


def blocked_by(parent_state: str) -> Callable[[Connection], str]:
    def situation(conn: Connection) -> str:
        a_daemon(conn)
        parent = mail(conn, parent_state, id=PARENT)
        return enqueue(conn, NewJob(type="mail", depends_on=[parent], on_parent_failure="hold")).id

    return situation


def put_off_for_ever(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, run_at=sql.SQL("'infinity'"))


def its_queue_is_paused(conn: Connection) -> str:
    a_daemon(conn)
    paused(conn, NewPause(kind=PauseKind.QUEUE, name="default", reason="the disk is full"))
    return mail(conn)


def its_type_is_paused(conn: Connection) -> str:
    a_daemon(conn)
    paused(conn, NewPause(kind=PauseKind.TYPE, name="mail"))
    return mail(conn)


def its_key_is_paused(conn: Connection) -> str:
    a_daemon(conn)
    with conn.transaction():
        set_limit(conn, NewLimit(name="few", types=["mail"], max_running=9), by="ada")
    paused(conn, NewPause(kind=PauseKind.KEY, name="few/acme", reason="they do not pay"))
    job_id = mail(conn, limit_key="acme")
    put_under(conn, [job_id])
    return job_id


def nobody_lives(conn: Connection) -> str:
    return mail(conn)


def all_daemons_drain(conn: Connection) -> str:
    a_daemon(conn)
    conn.execute("UPDATE _ayb_job_workers SET drain_requested_at = now()")
    return mail(conn)


def the_one_that_serves_its_queue_drains(conn: Connection) -> str:
    job_id = all_daemons_drain(conn)
    beat(conn, DaemonRecord(id="b", host="h", pid=1, version="1", concurrency=9, queues=["other"], types=["mail"]))
    return job_id


def nobody_serves_its_queue(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, queue="heavy")


def nobody_knows_its_type(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, type="mial")


def set_aside(conn: Connection) -> str:
    job_id = mail(conn)
    a_daemon(conn, aside={job_id: "not on Sundays\nCONTEXT: line 3"})
    return job_id


def all_slots_are_busy(conn: Connection) -> str:
    a_daemon(conn)
    for _ in range(2):
        mail(conn, "running", worker_id="a")
    return mail(conn)


NO_ROOM = 'could not extend file "base/5/16390": No space left on device'


def its_slots_are_kept_by_jobs_that_cannot_end(conn: Connection) -> str:
    job_id = all_slots_are_busy(conn)
    running_ids = [str(row[0]) for row in conn.execute("SELECT id FROM _ayb_jobs WHERE state = 'running'")]
    tells(conn, {"endings": dict.fromkeys(running_ids, "not on Sundays"), "_ayb_job_schedules": {"1": "no"}})
    return job_id


def a_slot_of_another_daemon_is_kept_so(conn: Connection) -> str:
    """One daemon cannot store an ending of another kind's; what the job waits for is held by jobs that run."""
    job_id = all_slots_for_isolated_handlers_are_busy(conn)
    ended = mail(conn, "running", worker_id="a")
    conn.execute(
        "UPDATE _ayb_job_workers SET aside = jsonb_build_object('endings', jsonb_build_object(%s::text, 'no'))",
        (ended,),
    )
    return job_id


def a_place_of_its_limit_is_kept_so(conn: Connection) -> str:
    job_id = under_a_limit(max_running=1)(conn)
    (started,) = conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'running'").fetchone() or ("",)
    tells(conn, {"endings": {started: "not on Sundays"}}, slots=9)
    return job_id


def a_place_of_another_key_is_kept_so(conn: Connection) -> str:
    job_id = under_a_limit(key_max_running=1)(conn)
    other = mail(conn, "running", worker_id="a", priority=5, limited_by="few", limited_key="y")
    tells(conn, {"endings": {other: "not on Sundays"}}, slots=9)
    return job_id


def the_disk_is_full(conn: Connection) -> str:
    job_id = all_slots_are_busy(conn)
    tells(conn, {"_ayb_job_schedules": {"1": NO_ROOM}})
    return job_id


def the_disk_is_full_and_nothing_else_keeps_it(conn: Connection) -> str:
    tells(conn, {"endings": {PARENT: NO_ROOM}, "_ayb_jobs": {PARENT: NO_ROOM}})
    return mail(conn)


def it_may_be_one_of_many_that_are_refused(conn: Connection) -> str:
    a_daemon(conn, aside={str(number): "not on Sundays" for number in range(100)})
    mail(conn, priority=1)
    return mail(conn)


def a_daemon_of_every_kind(conn: Connection) -> None:
    """Announce a daemon with two slots for plain handlers, one for isolated ones, and two for asynchronous ones."""
    beat(
        conn,
        DaemonRecord(
            id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["mail", "render", "fetch"],
            isolated_types=["render"], isolated_slots=1, async_types=["fetch"], async_slots=2,
        ),
    )  # fmt: skip


def all_slots_for_isolated_handlers_are_busy(conn: Connection) -> str:
    a_daemon_of_every_kind(conn)
    mail(conn, "running", type="render", worker_id="a")
    return mail(conn, type="render")


def all_slots_for_async_handlers_are_busy(conn: Connection) -> str:
    a_daemon_of_every_kind(conn)
    for _ in range(2):
        mail(conn, "running", type="fetch", worker_id="a")
    return mail(conn, type="fetch")


def only_slots_for_others_are_busy(conn: Connection) -> str:
    all_slots_for_isolated_handlers_are_busy(conn)
    all_slots_for_async_handlers_are_busy(conn)
    mail(conn, "running", worker_id="a")
    return mail(conn, run_at=sql.SQL("now() - interval '2 minutes'"))


def all_slots_of_its_queue_are_busy(conn: Connection) -> str:
    """Two daemons, the second of which runs others in all its slots; slots of the first are free."""
    for name, slots, most in (("a", 9, {"slow": 1, "default": 5}), ("b", 2, {})):
        record = DaemonRecord(
            id=name, host="h", pid=1, version="1", concurrency=slots, queues=["default", "slow"], types=["mail"],
            queue_slots=most,
        )  # fmt: skip
        beat(conn, record)
    mail(conn, "running", worker_id="a", queue="slow")
    for _ in range(2):
        mail(conn, "running", worker_id="b")
    return mail(conn, queue="slow")


def a_slot_of_its_queue_is_free(conn: Connection) -> str:
    all_slots_of_its_queue_are_busy(conn)
    return mail(conn)


def others_come_first(conn: Connection) -> str:
    job_id = all_slots_are_busy(conn)
    for _ in range(12):
        mail(conn, priority=1)
    for _ in range(6):
        attempt(conn, mail(conn, "completed"), "completed")
    return job_id


def others_come_first_and_slots_are_free(conn: Connection) -> str:
    a_daemon(conn)
    mail(conn, priority=1)
    return mail(conn)


def others_of_its_limit_and_key_come_first(conn: Connection) -> str:
    """Plain jobs, jobs of another key and of another limit keep it from nothing."""
    a_daemon(conn)
    mail(conn, priority=1)
    for name, key, priority in (("few", "x", 5), ("few", "x", 6), ("few", "y", 5), ("less", "x", 5), ("few", "x", 7)):
        mail(conn, priority=priority, limited_by=name, limited_key=key)
    conn.execute("INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('few', '{mail}', 9, 'ann')")
    return mail(conn, priority=6, limited_by="few", limited_key="x")


def under_a_limit(**given: Any) -> Callable[[Connection], str]:
    """Return what makes a limit, has it start one job of the key x, and enqueues another one of it."""

    def situation(conn: Connection) -> str:
        a_daemon(conn, slots=9)
        with conn.transaction():
            set_limit(conn, NewLimit(name="few", types=["mail"], **given), by="ann")
        first, second = (mail(conn, limit_key="x") for _ in range(2))
        put_under(conn, [first, second])
        (started,) = lease_limited(
            conn, "few", room=1, types=["mail"], queues=["default"], worker_id="a", lease_s=60
        ).leased
        return second if started.id == first else first

    return situation


def not_yet_under_its_limit(conn: Connection) -> str:
    """No daemon has met it, and its key is in its payload."""
    under_a_limit(key_max_running=1, key_field="tenant")(conn)
    return mail(conn, payload={"tenant": "x"})


def of_another_key(conn: Connection) -> str:
    under_a_limit(key_max_running=1, key_field="tenant")(conn)
    return mail(conn, payload={"tenant": "y"})


def its_limit_was_removed(conn: Connection) -> str:
    job_id = under_a_limit(max_running=9)(conn)
    with conn.transaction():
        remove_limit(conn, "few")
    return job_id


def its_daemon_is_gone(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, "running", worker_id="b", lease_until=LATER)


def its_lease_ran_out(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, "running", worker_id="b", lease_until=sql.SQL("'2001-01-01 UTC'"))


def its_lease_ran_out_and_nobody_lives(conn: Connection) -> str:
    return mail(conn, "running", worker_id="b", lease_until=sql.SQL("'2001-01-01 UTC'"))


def its_recovery_is_refused(conn: Connection) -> str:
    job_id = its_lease_ran_out(conn)
    a_daemon(conn, aside={job_id: "not on Sundays"})
    return job_id


def nothing_keeps_it(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn)


def it_runs(conn: Connection) -> str:
    a_daemon(conn)
    return mail(conn, "running", worker_id="a")


def it_failed(conn: Connection) -> str:
    return mail(conn, "failed")


def it_is_done(conn: Connection) -> str:
    return mail(conn, "completed")


AT = "2090-01-01T00:00:00Z"
SITUATIONS: dict[str, tuple[Callable[[Connection], str], Told]] = {
    "delayed": (delayed, Told(WaitKind.DELAYED, f"it is due only at {AT}")),
    "blocked": (blocked_by("running"), Told(WaitKind.BLOCKED, f"it depends on job {PARENT}, which is running")),
    "held": (
        blocked_by("failed"),
        Told(
            WaitKind.BLOCKED,
            f"it depends on job {PARENT}, which failed; it waits until that is retried and completes",
        ),
    ),
    "put off for ever": (put_off_for_ever, Told(WaitKind.DELAYED, "it is due only at ")),
    "failed": (
        retry_after("failed", "Refused: no\nat line 3"),
        Told(WaitKind.RETRY, f"it is due only at {AT}, for attempt 2 of 3: attempt 1 failed: Refused: no"),
    ),
    "lost": (
        retry_after("lost"),
        Told(WaitKind.RETRY, f"it is due only at {AT}, for attempt 2 of 3: attempt 1 lost its daemon"),
    ),
    "timed out": (
        retry_after("timed_out"),
        Told(WaitKind.RETRY, f"it is due only at {AT}, for attempt 2 of 3: attempt 1 ran past its timeout"),
    ),
    "snoozed": (
        retry_after("snoozed"),
        Told(WaitKind.SNOOZED, f"its handler put it off; it is due only at {AT}"),
    ),
    "queue paused": (its_queue_is_paused, Told(WaitKind.PAUSED, "its queue default is paused, by ann at ")),
    "key paused": (its_key_is_paused, Told(WaitKind.PAUSED, "its key few/acme is paused, by ann at ")),
    "type paused": (its_type_is_paused, Told(WaitKind.PAUSED, "its type mail is paused, by ann at ")),
    "no daemon": (nobody_lives, Told(WaitKind.NO_DAEMON, "no daemon is alive; none was heard of within a day")),
    "all drain": (all_daemons_drain, Told(WaitKind.NO_DAEMON, "no daemon takes jobs: 1 daemon drains, and takes no more")),
    "unserved, since one drains": (
        the_one_that_serves_its_queue_drains,
        Told(
            WaitKind.UNSERVED,
            "no live daemon serves its queue default; served are other; 1 daemon drains, and takes no more",
        ),
    ),
    "unserved": (
        nobody_serves_its_queue,
        Told(WaitKind.UNSERVED, "no live daemon serves its queue heavy; served are default, slow"),
    ),
    "unknown": (
        nobody_knows_its_type,
        Told(WaitKind.UNKNOWN_TYPE, "no live daemon knows its type mial; did you mean mail?"),
    ),
    "set aside": (
        set_aside,
        Told(WaitKind.SET_ASIDE, "daemon a set it aside, and tries it again from time to time: not on Sundays"),
    ),
    "slots held by what cannot end": (
        its_slots_are_kept_by_jobs_that_cannot_end,
        Told(
            WaitKind.REFUSED,
            "the database refuses to store how 2 jobs ended, and to change 1 schedule: not on Sundays; "
            "all 2 slots of the daemon that can run it are busy",
        ),
    ),
    "other slots held by what cannot end": (
        a_slot_of_another_daemon_is_kept_so,
        Told(WaitKind.BUSY, "the only slot for isolated handlers of the daemon that can run it is busy"),
    ),
    "a limit's place held by what cannot end": (
        a_place_of_its_limit_is_kept_so,
        Told(
            WaitKind.REFUSED,
            "the database refuses to store how 1 job ended: not on Sundays; it waits under the limit few: 1 run of 1 at once",
        ),
    ),
    "another key's place held by what cannot end": (
        a_place_of_another_key_is_kept_so,
        Told(WaitKind.LIMITED, "it waits under the limit few: 1 run of 1 at once for its key x"),
    ),
    "the disk is full": (
        the_disk_is_full,
        Told(WaitKind.REFUSED, "a disk of the database is full: it refuses to change 1 schedule"),
    ),
    "the disk is full, and slots are free": (
        the_disk_is_full_and_nothing_else_keeps_it,
        Told(WaitKind.REFUSED, "a disk of the database is full: it refuses to store how 1 job ended, and to change 1 job"),
    ),
    "one of many that are refused": (
        it_may_be_one_of_many_that_are_refused,
        Told(
            WaitKind.SET_ASIDE,
            "the database refuses to change at least 100 jobs, and it may be one of them; 1 due job is ahead of it",
        ),
    ),
    "busy": (all_slots_are_busy, Told(WaitKind.BUSY, "all 2 slots of the daemon that can run it are busy")),
    "busy, isolated": (
        all_slots_for_isolated_handlers_are_busy,
        Told(WaitKind.BUSY, "the only slot for isolated handlers of the daemon that can run it is busy"),
    ),
    "busy, asynchronous": (
        all_slots_for_async_handlers_are_busy,
        Told(WaitKind.BUSY, "all 2 slots for async handlers of the daemon that can run it are busy"),
    ),
    "busy, its queue's slots": (
        all_slots_of_its_queue_are_busy,
        Told(WaitKind.BUSY, "its queue slow may fill 3 slots of the daemons that can run it, and none is free"),
    ),
    "a slot of its queue is free": (
        a_slot_of_its_queue_is_free,
        Told(WaitKind.ABOUT_TO_START, "nothing keeps it, as far as can be seen; a daemon is about to lease it"),
    ),
    "others are busy": (
        only_slots_for_others_are_busy,
        Told(WaitKind.ABOUT_TO_START, "nothing keeps it, as far as can be seen; a daemon is about to lease it"),
    ),
    "busy, and behind others": (
        others_come_first,
        Told(
            WaitKind.BUSY,
            "12 due jobs are ahead of it; all 2 slots of the daemon that can run it are busy; about 2 min at the "
            "present pace",
        ),
    ),
    "behind": (others_come_first_and_slots_are_free, Told(WaitKind.BEHIND, "1 due job is ahead of it")),
    "behind others of its key": (
        others_of_its_limit_and_key_come_first,
        Told(WaitKind.BEHIND, "2 due jobs are ahead of it"),
    ),
    "limited: all places": (
        under_a_limit(max_running=1),
        Told(WaitKind.LIMITED, "it waits under the limit few: 1 run of 1 at once"),
    ),
    "limited: the places of its key": (
        under_a_limit(key_max_running=1),
        Told(WaitKind.LIMITED, "it waits under the limit few: 1 run of 1 at once for its key x"),
    ),
    "limited: all tokens": (
        under_a_limit(rate="1/h"),
        Told(WaitKind.LIMITED, "it waits under the limit few: its rate of 1/h allows no start yet"),
    ),
    "limited: the tokens of its key": (
        under_a_limit(key_rate="1/h"),
        Told(WaitKind.LIMITED, "it waits under the limit few: the rate of 1/h for its key x allows no start yet"),
    ),
    "limited by all": (
        under_a_limit(max_running=1, key_max_running=1, rate="1/h", key_rate="2/h"),
        Told(
            WaitKind.LIMITED,
            "it waits under the limit few: 1 run of 1 at once; 1 run of 1 at once for its key x; "
            "its rate of 1/h allows no start yet; the rate of 2/h for its key x allows no start yet",
        ),
    ),
    "a token is left": (
        under_a_limit(rate="1/h", burst=2, key_rate="1/h", key_burst=2),
        Told(WaitKind.ABOUT_TO_START, "nothing keeps it, as far as can be seen; a daemon is about to lease it"),
    ),
    "not yet under its limit": (
        not_yet_under_its_limit,
        Told(WaitKind.LIMITED, "it waits under the limit few: 1 run of 1 at once for its key x"),
    ),
    "not yet under a limit that has a place": (
        of_another_key,
        Told(WaitKind.ABOUT_TO_START, "nothing keeps it, as far as can be seen; a daemon is about to lease it"),
    ),
    "its limit was removed": (
        its_limit_was_removed,
        Told(WaitKind.LIMITED, "its limit few was removed, and no daemon has freed it yet"),
    ),
    "daemon gone": (
        its_daemon_is_gone,
        Told(WaitKind.DAEMON_GONE, f"its daemon b is gone; the job is due again once its lease has run out, at {AT}"),
    ),
    "lease expired": (
        its_lease_ran_out,
        Told(WaitKind.LEASE_EXPIRED, "its lease ran out at 2001-01-01T00:00:00Z; no daemon has taken it over"),
    ),
    "lease expired, no daemon": (
        its_lease_ran_out_and_nobody_lives,
        Told(
            WaitKind.LEASE_EXPIRED,
            "its lease ran out at 2001-01-01T00:00:00Z; no daemon is alive that could take it over",
        ),
    ),
    "recovery refused": (
        its_recovery_is_refused,
        Told(
            WaitKind.LEASE_EXPIRED,
            "its lease ran out at 2001-01-01T00:00:00Z; daemon a set it aside: not on Sundays",
        ),
    ),
    "about to start": (
        nothing_keeps_it,
        Told(WaitKind.ABOUT_TO_START, "nothing keeps it, as far as can be seen; a daemon is about to lease it"),
    ),
    "running": (it_runs, Told(WaitKind.RUNNING, "it runs on a")),
    "failed for good": (it_failed, Told(WaitKind.ENDED, "it failed, and nothing runs it again by itself")),
    "completed": (it_is_done, Told(WaitKind.ENDED, "it is completed")),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_waiting_job_has_its_one_reason(conn: Connection, situation: str) -> None:
    make, told = SITUATIONS[situation]
    reason = why_job(conn, make(conn)).reason
    assert reason.kind is told.kind
    assert reason.words.startswith(told.words)


def test_every_kind_of_reason_has_its_situation() -> None:
    reached = {told.kind for _, told in SITUATIONS.values()} | {WaitKind.LOCKED, WaitKind.SCHEDULES_DISABLED}
    assert set(WaitKind) == reached
    assert len(REASONS) == len(set(REASONS))


@contextmanager
def held(other: Connection, job_id: str) -> Iterator[int]:
    other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job_id,))
    yield other.info.backend_pid
    other.rollback()


def test_a_locked_row_names_who_holds_it_only_while_it_is_held(conn: Connection, other: Connection) -> None:
    job_id = nothing_keeps_it(conn)
    lost_id = its_lease_ran_out(conn)
    with held(other, job_id) as pid:
        reason = why_job(conn, job_id).reason
        assert (reason.kind, reason.words) == (WaitKind.LOCKED, f"the session with pid {pid} has locked its row")
        assert reason.remedy == f"End its transaction, or: SELECT pg_terminate_backend({pid})"
    with held(other, lost_id) as pid:
        assert why_job(conn, lost_id).reason.words.endswith(f"; the session with pid {pid} has locked its row")
    assert why_job(conn, job_id).reason.kind is WaitKind.ABOUT_TO_START


def test_jobs_that_wait_are_grouped_with_the_reason_of_the_first(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(conn, name="nightly", enabled=False)
    first = mail(conn, queue="heavy", priority=1, run_at=sql.SQL("now() - interval '2 minutes'"))
    mail(conn, queue="heavy", priority=3)
    mail(conn, queue="heavy", run_at=LATER)
    lost = mail(conn, "running", worker_id="gone")
    waits = why_waits(conn).first
    assert [(wait.reason.kind, wait.jobs) for wait in waits] == [
        (WaitKind.DAEMON_GONE, 1), (WaitKind.UNSERVED, 2), (WaitKind.DELAYED, 1), (WaitKind.SCHEDULES_DISABLED, 0),
    ]  # fmt: skip
    assert [wait.job_id for wait in waits[:2]] == [lost, first]
    assert waits[-1].reason.words == "1 schedule is disabled: `nightly`"
    assert [wait.reason.kind for wait in why_waits(conn, queue="heavy").first] == [WaitKind.UNSERVED, WaitKind.DELAYED]
    assert why_waits(conn, queue="none").first == []


def test_that_the_database_refuses_endings_comes_first_for_the_fleet(conn: Connection) -> None:
    ended = mail(conn, "running", worker_id="a")
    mail(conn)
    tells(conn, {"endings": {ended: "not on Sundays"}})
    first, about_to_start = why_waits(conn).first
    assert (first.reason.kind, first.jobs) == (WaitKind.REFUSED, 0)
    assert first.reason.words == "the database refuses to store how 1 job ended: not on Sundays"
    assert about_to_start.reason.kind is WaitKind.ABOUT_TO_START
    tells(conn, {"_ayb_job_schedules": {"1": NO_ROOM}})
    (told,) = why_waits(conn).first
    assert told.reason.words == "a disk of the database is full: it refuses to change 1 schedule"
    assert told.reason.remedy == "Make room on the disk of the database; daemons go on by themselves."
    tells(conn, {"_ayb_job_schedules": {"1": "not on Sundays"}})  # which keeps no job waiting
    assert [each.reason.kind for each in why_waits(conn).first] == [WaitKind.ABOUT_TO_START]


def test_the_fleet_is_looked_at_once_however_many_groups_wait(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_daemon(conn)
    looks: list[None] = []
    look = waiting.live_runners

    def counted(conn: Connection) -> list[Runner]:
        looks.append(None)
        return look(conn)

    monkeypatch.setattr(waiting, "live_runners", counted)
    for number in range(5):
        mail(conn, type=f"type_{number}")
    assert len(why_waits(conn).first) == 5
    assert len(looks) == 1


def test_the_board_tells_what_is_set_aside_until_it_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("ayb_jobs.runtime.fleet.aside_board.time.monotonic", lambda: clock[0])
    rung: list[None] = []
    board = AsideBoard(ring=lambda: rung.append(None))
    for row_id in ("1", "2", "3"):
        board.hear(RowsSetAside(part="p", table="_ayb_jobs", row_ids=(row_id,), error="no\x00", retry_s=5.0))
    board.hear(RowsTakenUp(table="_ayb_jobs", row_ids=["2"]))
    assert board.rows() == {"_ayb_jobs": dict.fromkeys(["1", "3"], "no\N{REPLACEMENT CHARACTER}")}
    assert len(rung) == 1
    clock[0] = 2.0
    board.hear(RowsTakenUp(table="_ayb_jobs", row_ids=["1", "3"]))
    assert len(rung) == 2  # all is well again, and who asks is to hear of it
    board.hear(RowsSetAside(part="p", table="_ayb_jobs", row_ids=("4",), error="no", retry_s=5.0))
    clock[0] = 68.0
    assert board.rows() == {}


def test_the_board_tells_no_smaller_number_as_if_it_were_all() -> None:
    board = AsideBoard(ring=lambda: None)
    ids = [str(number) for number in range(150)]
    for some in (ids[:75], ids[75:]):
        board.hear(RowsSetAside(part="p", table="_ayb_jobs", row_ids=tuple(some), error="no", retry_s=5.0))
    assert len(board.rows()["_ayb_jobs"]) == 100
    board.hear(RowsTakenUp(table="_ayb_jobs", row_ids=ids[90:]))
    assert board.rows()["_ayb_jobs"].keys() == set(ids[:90])


REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on Sundays'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def nothing(_: JobContext) -> None:
    """A handler."""


def given_if(kind: WaitKind, reason: Reason) -> Reason | None:
    return reason if reason.kind is kind else None


def test_a_job_that_a_trigger_keeps_from_being_leased_says_so(conn: Connection, database_url: str) -> None:
    conn.execute(REFUSE)
    job_id = mail(conn)
    registry = Registry()
    registry.handler("mail")(nothing)
    with running(database_url, registry) as daemon:
        reason = eventually(lambda: given_if(WaitKind.SET_ASIDE, why_job(conn, job_id).reason))
    worker_id = daemon.daemon.worker_id
    assert reason is not None
    assert reason.words == f"daemon {worker_id} set it aside, and tries it again from time to time: not on Sundays"


@pytest.mark.parametrize("end", ["drain", "stop"])
def test_a_daemon_that_drains_or_stops_by_a_signal_is_not_who_will_run_a_job(
    conn: Connection, database_url: str, end: str
) -> None:
    registry, begun, release = Registry(), threading.Event(), threading.Event()

    @registry.handler("mail")
    def hold(_: JobContext) -> None:
        begun.set()
        release.wait(60)

    mail(conn)
    with running(database_url, registry, worker_concurrency=1, shutdown_timeout_s=60.0) as daemon:
        assert begun.wait(60)
        ending = threading.Thread(target=getattr(daemon.daemon, end), args=("SIGTERM",))
        ending.start()
        try:
            job_id = mail(conn)
            drains = "no daemon takes jobs: 1 daemon drains, and takes no more"
            eventually(lambda: why_job(conn, job_id).reason.words == drains, within_s=60)
            # A look that was under way may lease it meanwhile, and it is released.
            eventually(lambda: unclaimable_jobs(conn).by_type == {"mail": 1}, within_s=60)
        finally:
            release.set()
            ending.join()
            daemon.daemon.stop()


def test_a_daemon_tells_its_queues_slots_also_when_they_change(database_url: str, conn: Connection) -> None:
    registry, go_on = Registry(), threading.Event()

    @registry.handler("mail")
    def _(context: JobContext) -> None:
        go_on.wait(30)

    mail(conn, queue="slow")
    mail(conn, queue="slow")
    with running(database_url, registry, slots={"slow": 1}, queues=["default", "slow"], worker_concurrency=4) as run:
        eventually(lambda: conn.execute("SELECT FROM _ayb_jobs WHERE state = 'running'").rowcount == 1)
        (waits,) = (str(row[0]) for row in conn.execute("SELECT id FROM _ayb_jobs WHERE state = 'queued'"))
        reason = why_job(conn, waits).reason
        assert reason.kind is WaitKind.BUSY
        assert reason.words.startswith("its queue slow may fill 1 slot of the daemon that can run it, and none is free")
        run.daemon.serve(concurrency=4, queues=["default", "slow"], most={"slow": 3})
        eventually(lambda: waiting.live_runners(conn)[0].queue_slots == {"slow": 3})
        go_on.set()
