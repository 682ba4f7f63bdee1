"""Forty situations of a queue, each with the sentence that tells of it at every door."""

from collections.abc import Callable
from typing import Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.queue.minutes import Ended, add_ended
from tests.factories import make_job, make_schedule


def ago(text: LiteralString) -> sql.SQL:
    return sql.SQL(f"now() - interval '{text}'")


def a_daemon(conn: Connection, *, types: tuple[str, ...] = ("mail",), queues: tuple[str, ...] = ("default",)) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=queues, types=types))


def nobody(conn: Connection) -> None:
    make_job(conn)


def all_slots_are_busy(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, "running", type="mail", worker_id="a")
    for _ in range(3):
        make_job(conn, type="mail", run_at=ago("252 seconds"))


def all_slots_of_an_older_daemon_are_busy(conn: Connection) -> None:
    all_slots_are_busy(conn)
    conn.execute(
        "UPDATE _ayb_job_workers SET isolated_types = NULL, isolated_slots = NULL, async_types = NULL, async_slots = NULL"
    )


def the_slot_for_isolated_handlers_is_busy(conn: Connection) -> None:
    beat(
        conn,
        DaemonRecord(
            id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["mail", "render"],
            isolated_types=["render"], isolated_slots=1,
        ),
    )  # fmt: skip
    make_job(conn, "running", type="render", worker_id="a")
    make_job(conn, type="render", run_at=ago("90 seconds"))


def slots_are_free(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("90 seconds"))
    make_job(conn, type="mail", run_at=sql.SQL("now() + interval '1 day'"))


def nobody_knows_it(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(14):
        make_job(conn, type="mial", run_at=ago("1 hour"))


def nobody_serves_it(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", queue="exports", run_at=ago("1 hour"))


def four_unknown(conn: Connection) -> None:
    a_daemon(conn)
    for name in "abcd":
        make_job(conn, type=name)


def not_due(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mial", run_at=sql.SQL("now() + interval '1 hour'"))


def no_success(conn: Connection) -> None:
    a_daemon(conn)
    made = make_schedule(
        conn, name="nightly", job_type="mail", next_run_at=sql.SQL("now() + interval '1 hour'"),
        expect_success_within_s=93600, watched_since=ago("30 hours"),
        planned="* * * * * UTC once",
    )  # fmt: skip
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, attempt, outcome, started_at, ended_at)"
        " VALUES (1, gen_random_uuid(), 'mail', %s, 1, 'completed', now() - interval '27 h 10 min',"
        " now() - interval '27 h 10 min')",
        (made,),
    )


def not_fired(conn: Connection) -> None:
    a_daemon(conn)
    for name in ("a", "b"):
        make_schedule(conn, name=name, job_type="mail", next_run_at=ago("1 hour"), planned="* * * * * UTC once")


def many_fail(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(5):
        make_job(conn, "failed", type="mail")
    add_ended(conn, {"mail": Ended(completed=45, failed=5)})


def all_attempts_fail(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, type="mail", run_at=later())
    add_ended(conn, {"mail": Ended(retried=7), "report": Ended(completed=1, retried=9), "few": Ended(retried=4)})


def few_fail(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(5):
        make_job(conn, "failed", type="mail")
    add_ended(conn, {"mail": Ended(completed=46, failed=5)})


def failed_long_ago(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(9):
        make_job(conn, "failed", type="mail", updated_at=ago("2 hours"))


def leases_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, "running", type="mail", lease_until=ago("40 seconds"))


def endings_are_refused(conn: Connection) -> None:
    a_daemon(conn)
    jobs = [make_job(conn, "running", type="mail", worker_id="a", lease_until=later()) for _ in range(3)]
    conn.execute(
        "UPDATE _ayb_job_workers SET aside = %s", (Jsonb({"endings": dict.fromkeys(jobs, "no room\nDETAIL: none")}),)
    )


def a_schedule_is_refused(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute("UPDATE _ayb_job_workers SET aside = %s", (Jsonb({"_ayb_job_schedules": {"1": "not on Sundays"}}),))


def some_handlers_are_stuck(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute("UPDATE _ayb_job_workers SET stuck_slots = 1")


def all_slots_are_held(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("2 minutes"))
    conn.execute("UPDATE _ayb_job_workers SET stuck_slots = 2")


def one_is_gone(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)"
        " VALUES ('secret', 'secret', 1, '1', 1, '{}', '{}', now() - interval '6 minutes')"
    )


def a_hostile_name(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="`\n\x1b[31m<b>", run_at=ago("1 hour"))


def paused(conn: Connection, kind: PauseKind, name: str, *, reason: str | None = None) -> None:
    with conn.transaction():
        pause(conn, NewPause(kind=kind, name=name, reason=reason), by="ann")
    conn.execute("UPDATE _ayb_job_pauses SET paused_at = now() - interval '1 hour'")


def a_paused_queue(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    paused(conn, PauseKind.QUEUE, "default", reason="the\ndisk is full")


def a_paused_type(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, type="mail", run_at=ago("10 minutes"))
    paused(conn, PauseKind.TYPE, "mail")


def two_pauses(conn: Connection) -> None:
    a_daemon(conn, types=("mail", "report"), queues=("default", "slow"))
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    make_job(conn, type="report", queue="slow", run_at=ago("5 minutes"))
    paused(conn, PauseKind.TYPE, "mail")
    paused(conn, PauseKind.QUEUE, "slow")


def a_pause_just_begun(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail")
    paused(conn, PauseKind.QUEUE, "default")


def a_pause_without_jobs(conn: Connection) -> None:
    a_daemon(conn)
    paused(conn, PauseKind.QUEUE, "default")


def a_pause_that_ended(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("90 seconds"))
    paused(conn, PauseKind.QUEUE, "default")
    conn.execute("UPDATE _ayb_job_pauses SET until = now() - interval '1 second'")


def late_beside_a_pause(conn: Connection) -> None:
    a_daemon(conn, types=("mail", "report"))
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    make_job(conn, type="report", run_at=ago("90 seconds"))
    paused(conn, PauseKind.TYPE, "mail")


def paused_and_nobody_lives(conn: Connection) -> None:
    make_job(conn, run_at=ago("10 minutes"))
    paused(conn, PauseKind.QUEUE, "default")


def a_limit_that_is_held(conn: Connection, **columns: Any) -> None:
    """A key at 2 of 2, of which the last started some minutes ago."""
    a_daemon(conn)
    new = NewLimit(name="tenants", types=["mail"], max_running=9, key_max_running=2)
    with conn.transaction():
        set_limit(conn, new, by="ann")
    under: dict[str, Any] = {"type": "mail", "priority": 6, "limited_by": "tenants", "limited_key": "seven"}
    for _ in range(2):
        make_job(conn, "running", **{**under, "last_run_at": ago("5 minutes"), "lease_until": later(), **columns})
    for _ in range(3):
        make_job(conn, run_at=ago("4 minutes"), **under)


def later() -> sql.SQL:
    return sql.SQL("now() + interval '1 hour'")


def a_limit_that_is_held_as_a_whole(conn: Connection) -> None:
    a_limit_that_is_held(conn)
    conn.execute("UPDATE _ayb_job_limits SET max_running = 2, key_max_running = NULL")


def a_limit_that_goes_on(conn: Connection) -> None:
    a_limit_that_is_held(conn, last_run_at=ago("50 seconds"))


def a_limit_with_a_place(conn: Connection) -> None:
    a_limit_that_is_held(conn)
    conn.execute("UPDATE _ayb_job_limits SET key_max_running = 3")


def two_leases_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, "running", type="mail", lease_until=ago("3 minutes"))


def a_lease_just_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, "running", type="mail", lease_until=ago("5 seconds"))


def two_types_fail(conn: Connection) -> None:
    a_daemon(conn)
    for name, count in (("mail", 6), ("report", 5)):
        for _ in range(count):
            make_job(conn, "failed", type=name)


def four_failed(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(4):
        make_job(conn, "failed", type="mail")


def three_are_gone(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)"
        " SELECT n::text, 'h', 1, '1', 1, '{}', '{}', now() - n * interval '2 minutes' FROM generate_series(1, 3) AS n"
    )


def gone_for_two_days(conn: Connection) -> None:
    a_daemon(conn)
    one_is_gone(conn)
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 days' WHERE id = 'secret'")


def a_broken_schedule(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(conn, name="nightly", cron_expr="often", next_run_at=None, last_error="it cannot be read")


def never_succeeded(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(
        conn, name="nightly", job_type="mail", next_run_at=sql.SQL("now() + interval '1 hour'"),
        expect_success_within_s=3600, watched_since=ago("30 hours"), planned="* * * * * UTC once",
    )  # fmt: skip


def a_disabled_schedule(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(conn, name="nightly", job_type="mail", enabled=False, next_run_at=None)


def a_second_late(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("59 seconds"))


def two_queues_are_late(conn: Connection) -> None:
    a_daemon(conn, queues=("default", "slow"))
    make_job(conn, type="mail", run_at=ago("2 minutes"))
    make_job(conn, type="mail", queue="slow", run_at=ago("5 minutes"))


def unknown_and_late(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mial", run_at=ago("1 hour"))
    make_job(conn, type="mail", run_at=ago("5 minutes"))


def lost_and_failing(conn: Connection) -> None:
    many_fail(conn)
    leases_ran_out(conn)


def an_old_job_of_minus_infinity(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=sql.SQL("'-infinity'"))


SITUATIONS: dict[Callable[[Connection], None], str] = {
    nobody: "No daemon is alive: it stopped, or has been silent for 60 s.",
    all_slots_of_an_older_daemon_are_busy: "`mail` jobs wait 4 min 12 s: all 2 slots that serve queue `default` are busy; "
    "3 jobs are due.",
    all_slots_are_busy: "`mail` jobs wait 4 min 12 s: all 2 slots that serve queue `default` are busy; 3 jobs are due.",
    slots_are_free: "`mail` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 1 job is due.",
    nobody_knows_it: "14 due jobs wait that no live daemon can run: none knows type `mial`.",
    nobody_serves_it: "1 due job waits that no live daemon can run: none serves queue `exports`.",
    four_unknown: "4 due jobs wait that no live daemon can run: none knows types `a`, `b`, `c`, 1 further type.",
    not_due: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    no_success: "`nightly` has not succeeded for 27 h 10 min; it is expected within 26 h.",
    not_fired: "2 schedules did not do what is expected of them; `a` is due, and no scheduler has fired it.",
    many_fail: "5 `mail` jobs failed in the last hour, while 45 completed.",
    few_fail: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    failed_long_ago: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    leases_ran_out: "1 running job has lost its daemon, and no daemon has taken it over for 40 s.",
    all_attempts_fail: "All 7 attempts at `mail` jobs failed in the last 10 min.",
    endings_are_refused: "No job ends: the database refuses to store how 3 jobs ended: no room.",
    a_schedule_is_refused: "The database refuses to change 1 schedule: not on Sundays.",
    some_handlers_are_stuck: "1 of the 2 slots of the daemon is held by a handler that was told to stop and did not.",
    all_slots_are_held: "2 of the 2 slots of the daemon are held by handlers that were told to stop and did not.",
    one_is_gone: "Daemon `secret` was last heard of 6 min ago.",
    a_hostile_name: "1 due job waits that no live daemon can run: none knows type `???[31m<b>`.",
    a_limit_that_is_held: "Key `seven` of limit `tenants` is at 2 of 2, and none of these started within 1 min; 3 due jobs "
    "wait behind it, the first for 4 min.",
    a_limit_that_is_held_as_a_whole: "Limit `tenants` is at 2 of 2, and none of these started within 1 min; 3 due jobs wait "
    "behind it, the first for 4 min.",
    a_limit_that_goes_on: "All well: 0 jobs in the last minute, none waits longer than 4 min, 1 daemon.",
    a_limit_with_a_place: "All well: 0 jobs in the last minute, none waits longer than 4 min, 1 daemon.",
    a_paused_queue: "Queue `default` has been paused for 1 h by ann (the disk is full); 1 due job waits for its end.",
    a_paused_type: "Type `mail` has been paused for 1 h by ann; 2 due jobs wait for its end.",
    two_pauses: "Type `mail` has been paused for 1 h by ann; 1 due job waits for its end, and 1 other pause with due jobs.",
    a_pause_just_begun: "All well: 0 jobs in the last minute, none waits longer than 0 ms, 1 daemon.",
    a_pause_without_jobs: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    a_pause_that_ended: "`mail` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 1 job is due.",
    late_beside_a_pause: "`report` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 2 jobs are due.",
    paused_and_nobody_lives: "No daemon is alive: it stopped, or has been silent for 60 s.",
    two_leases_ran_out: "2 running jobs have lost their daemon, and no daemon has taken them over for 3 min.",
    a_lease_just_ran_out: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    two_types_fail: "6 `mail` jobs failed in the last hour, while none completed, and jobs of 1 other type.",
    four_failed: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    three_are_gone: "3 daemons fell silent; the last, `1`, was last heard of 2 min ago.",
    gone_for_two_days: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    a_broken_schedule: "`nightly` cannot fire.",
    never_succeeded: "`nightly` has never succeeded; it is expected within 1 h.",
    a_disabled_schedule: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    the_slot_for_isolated_handlers_is_busy: "`render` jobs wait 1 min 30 s: the only slot for isolated handlers that serves queue "
    "`default` is busy; 1 job is due.",
    a_second_late: "All well: 0 jobs in the last minute, none waits longer than 59 s, 1 daemon.",
    two_queues_are_late: "`mail` jobs wait 5 min: 0 of the 2 slots that serve queue `slow` are busy; 2 jobs are due.",
    unknown_and_late: "1 due job waits that no live daemon can run: none knows type `mial`.",
    lost_and_failing: "1 running job has lost its daemon, and no daemon has taken it over for 40 s.",
    an_old_job_of_minus_infinity: "All well: 0 jobs in the last minute, none waits longer than 0 ms, 1 daemon.",
}
