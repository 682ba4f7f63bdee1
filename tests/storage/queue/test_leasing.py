"""Leases: who gets which job, and that only the holder of a lease can write."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.errors import PayloadUndecodable
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, Lease, LeasedJob
from ayb_jobs.model.lifecycle import TRANSITIONS, Outcome, Settlement, settle_failure, settle_result
from ayb_jobs.model.payload import decode_payload
from ayb_jobs.model.results import Cancel, Result, Snooze
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.jobs import cancel_job, retry_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import Touched, extend_leases, find_orphans, release_jobs, report_progress
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.left_out import find_locked, find_settled
from ayb_jobs.storage.queue.settling import RowsLocked, settle_jobs
from tests.factories import leased_job, make_job, payload_bomb

LANES = [Lane("default", priority) for priority in (1, 2, 3, 4)]
BACKOFF = Backoff()


def lease(conn: Connection, limit: int = 100, worker_id: str = "w1", lanes: Sequence[Lane] = LANES) -> list[LeasedJob]:
    return lease_jobs(conn, worker_id=worker_id, lanes=lanes, types=["test"], limit=limit, lease_s=60)


def succeeded(job: LeasedJob, result: Result = None) -> Settlement:
    now = time.monotonic()
    return settle_result(job, result, now - 2, now - 1)


def failed(job: LeasedJob, error: str = "it broke") -> Settlement:
    now = time.monotonic()
    return settle_failure(job, error, now - 2, now - 1, backoff=BACKOFF, chance=0.5)


def settle(conn: Connection, *endings: Settlement, remove_completed: bool = False) -> set[str]:
    written = settle_jobs(conn, endings, worker_id="w1", now=time.monotonic(), remove_completed=remove_completed)
    assert not written.unlogged
    return written.leases


def row(conn: Connection, job_id: str, columns: str = "*") -> Any:
    found = conn.execute(sql.SQL("SELECT {} FROM _ayb_jobs WHERE id = %s").format(sql.SQL(columns)), (job_id,))
    return found.fetchone()


def test_a_lease_marks_the_job_and_counts_the_attempt(conn: Connection) -> None:
    job_id = make_job(conn, payload={"n": 1})
    (job,) = lease(conn)
    assert (job.id, job.payload_text, job.attempt, job.max_attempts) == (job_id, '{"n": 1}', 1, 3)
    state, attempts, lease_id, worker_id, ahead = row(
        conn, job_id, "state, attempts, lease_id, worker_id, extract(epoch FROM lease_until - now())::int"
    )
    assert (state, attempts, lease_id, worker_id, ahead) == ("running", 1, job.lease_id, "w1", 60)


def test_jobs_are_leased_by_priority_then_time_then_id(conn: Connection) -> None:
    def at(minutes: int) -> sql.SQL:
        return sql.SQL(f"now() - interval '{minutes} minutes'")

    late = make_job(conn, priority=2, run_at=at(1))
    early = make_job(conn, priority=2, run_at=at(9))
    urgent = make_job(conn, priority=1, run_at=at(1))
    lazy = make_job(conn, priority=4, run_at=at(60))
    same_time = sorted(make_job(conn, priority=3, run_at="2026-01-01T00:00:00Z") for _ in range(5))
    assert [job.id for job in lease(conn)] == [urgent, early, late, *same_time, lazy]


def test_the_loops_connections_have_a_zone_in_which_text_sorts_as_instants_do(
    conn: Connection, database_url: str
) -> None:
    name = sql.Identifier(conn.info.dbname)
    conn.execute(sql.SQL("ALTER DATABASE {} SET TimeZone = 'Europe/Berlin'").format(name))
    # On this night, Berlin's clock read 02:30 twice.
    after = make_job(conn, run_at="2025-10-26T01:20:00Z")
    before = make_job(conn, run_at="2025-10-26T00:40:00Z")
    with closing(Database(database_url)) as db, db.connection() as ours:
        assert [job.id for job in lease(ours)] == [before, after]


def test_each_attempt_has_a_lease_id_of_its_own(conn: Connection) -> None:
    for _ in range(300):
        make_job(conn)
    first = lease(conn, limit=300)
    release_jobs(conn, [job.lease for job in first])
    second = lease(conn, limit=300)
    lease_ids = [uuid.UUID(job.lease_id) for job in first + second]
    assert len(set(lease_ids)) == 600
    assert {lease_id.version for lease_id in lease_ids} == {4}


def test_queues_of_one_priority_are_merged_in_order(conn: Connection) -> None:
    ids = [
        make_job(conn, queue=queue, run_at=sql.SQL(f"now() - interval '{age} minutes'"))
        for queue, age in (("a", 4), ("b", 3), ("a", 2), ("b", 1))
    ]
    lanes = [Lane(queue, priority) for priority in (1, 2) for queue in ("b", "a")]
    assert [job.id for job in lease(conn, lanes=lanes)] == ids


def test_what_is_not_due_or_not_ours_is_left(conn: Connection) -> None:
    make_job(conn, run_at=sql.SQL("now() + interval '1 hour'"))
    unknown = make_job(conn, type="unknown")
    make_job(conn, queue="other")
    for state in ("running", "completed", "failed", "canceled"):
        make_job(conn, state)
    assert lease(conn) == []
    assert row(conn, unknown, "state, attempts") == ("queued", 0)


def test_no_more_than_the_limit_is_leased(conn: Connection) -> None:
    for priority in (1, 2, 3, 4):
        for _ in range(10):
            make_job(conn, priority=priority)
    assert len(lease(conn, limit=15)) == 15
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'running'").fetchone() == (15,)


def test_a_floor_hides_what_lies_at_or_below_it(conn: Connection) -> None:
    for _ in range(4):
        make_job(conn, run_at="2026-01-01T00:00:00Z")
    first, second = lease(conn, limit=2)
    assert first.id < second.id
    above = Lane("default", 2, second.run_at_text, second.id)
    make_job(conn, run_at="2025-12-31T00:00:00Z")
    assert {job.run_at_text for job in lease(conn, lanes=[above])} == {second.run_at_text}
    assert [job.run_at_text[:10] for job in lease(conn)] == ["2025-12-31"]


def test_many_leasers_never_share_a_job(db: Database, conn: Connection) -> None:
    for _ in range(300):
        make_job(conn)
    leased: list[str] = []

    def drain() -> None:
        with db.connection() as own:
            while jobs := lease(own, limit=7):
                leased.extend(job.id for job in jobs)

    threads = [threading.Thread(target=drain) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while jobs := lease(conn):  # a leaser may have passed over rows that another held
        leased.extend(job.id for job in jobs)
    assert len(leased) == 300
    assert Counter(leased).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"payload": sql.SQL("('[' || repeat('[', 5000) || repeat(']', 5000) || ']')::jsonb")},
        {"payload": sql.SQL("('{\"n\": ' || repeat('9', 5000) || '}')::jsonb")},
        {"run_at": "-infinity"},
        {"run_at": "0044-03-15 00:00:00 BC"},
        {"scheduled_for": "infinity"},
        {"scheduled_for": "20000-01-01"},
    ],
)
def test_a_row_that_python_cannot_hold_does_not_stop_its_batch(conn: Connection, odd: dict[str, Any]) -> None:
    make_job(conn)
    make_job(conn, **odd)
    make_job(conn)
    jobs = lease(conn)
    assert len(jobs) == 3
    assert len(settle(conn, *(succeeded(job) for job in jobs))) == 3


def test_a_payload_too_large_as_text_does_not_stop_its_batch(conn: Connection) -> None:
    whole = make_job(conn, payload={"n": 1})
    bomb = make_job(conn, payload=payload_bomb(9000))
    leased = {job.id: job for job in lease(conn)}
    assert leased[whole].payload_text == '{"n": 1}'
    with pytest.raises(PayloadUndecodable, match="too large"):
        decode_payload(leased[bomb].payload_text)
    assert row(conn, bomb, "state, attempts") == ("running", 1)


def test_nor_does_it_in_a_transaction_as_behind_a_pooler(conn: Connection) -> None:
    """Care is taken from the start: the text would be cut without it, and is left out with it."""
    whole, bomb = make_job(conn), make_job(conn, payload=payload_bomb(600))
    with conn.transaction():
        assert {job.id: job.payload_text for job in lease(conn)} == {whole: "{}", bomb: None}


def test_settling_writes_the_job_and_its_execution(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    assert settle(conn, succeeded(job, 7)) == {job.lease_id}
    assert row(conn, job.id, "state, lease_id, lease_until, worker_id, completed_at IS NOT NULL") == (
        "completed",
        None,
        None,
        None,
        True,
    )
    execution = conn.execute(
        """SELECT id, job_id, job_type, lease_id, attempt, worker_id, outcome, error, records_processed,
            extract(epoch FROM ended_at - started_at)::int FROM _ayb_job_executions"""
    ).fetchall()
    assert execution == [
        (job.execution_id, job.id, "test", job.lease_id, 1, "w1", "completed", None, 7, 1),
    ]


@pytest.mark.parametrize(
    ("ending", "state", "outcome", "waits_s", "max_attempts"),
    [
        (succeeded, "completed", "completed", None, 3),
        (failed, "queued", "failed", 5.5, 3),
        (lambda job: succeeded(job, Snooze(60)), "queued", "snoozed", 60, 4),
        (lambda job: succeeded(job, Cancel("why")), "canceled", "canceled", None, 3),
    ],
)
def test_each_ending_is_written(
    conn: Connection,
    ending: Callable[[LeasedJob], Settlement],
    state: str,
    outcome: str,
    waits_s: float | None,
    max_attempts: int,
) -> None:
    make_job(conn)
    (job,) = lease(conn)
    settle(conn, ending(job))
    found = row(conn, job.id, "state, max_attempts, extract(epoch FROM run_at - updated_at)::float8, lease_id")
    assert (found[0], found[1], found[3]) == (state, max_attempts, None)
    if waits_s is not None:
        assert found[2] == pytest.approx(waits_s, abs=0.01)
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [(outcome,)]


def test_a_batch_of_different_endings_is_one_statement(conn: Connection) -> None:
    for _ in range(3):
        make_job(conn)
    done, broken, rest = lease(conn)
    assert settle(conn, succeeded(done), failed(broken, 'quote " and , and { and \\'), succeeded(rest, 3)) == {
        done.lease_id,
        broken.lease_id,
        rest.lease_id,
    }
    assert row(conn, broken.id, "last_error") == ('quote " and , and { and \\',)


def test_removing_on_completion_keeps_the_execution_alone(conn: Connection) -> None:
    make_job(conn)
    make_job(conn)
    done, broken = lease(conn)
    assert settle(conn, succeeded(done), failed(broken), remove_completed=True) == {done.lease_id, broken.lease_id}
    assert row(conn, done.id) is None
    assert row(conn, broken.id, "state") == ("queued",)
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (2,)


STALE_WRITES: dict[str, Callable[[Connection, LeasedJob], object]] = {
    "complete": lambda conn, job: settle(conn, succeeded(job)),
    "complete and remove": lambda conn, job: settle(conn, succeeded(job), remove_completed=True),
    "fail": lambda conn, job: settle(conn, failed(job)),
    "fail and remove": lambda conn, job: settle(conn, failed(job), remove_completed=True),
    "snooze": lambda conn, job: settle(conn, succeeded(job, Snooze(1))),
    "cancel": lambda conn, job: settle(conn, succeeded(job, Cancel())),
    "extend": lambda conn, job: any(extend_leases(conn, [job.lease], lease_s=1000)),
    "release": lambda conn, job: any(release_jobs(conn, [job.lease])),
    "progress": lambda conn, job: report_progress(conn, job.lease, '{"records_processed": 1}', lease_s=1000),
}


@pytest.mark.parametrize("write", STALE_WRITES)
@pytest.mark.parametrize("successor", ["running", "queued", "completed", "failed", "canceled"])
def test_a_lost_lease_changes_nothing(conn: Connection, write: str, successor: str) -> None:
    make_job(conn)
    (stale,) = lease(conn, worker_id="stale")
    conn.execute("UPDATE _ayb_jobs SET state = 'queued', lease_id = NULL, lease_until = NULL")
    if successor != "queued":
        (current,) = lease(conn, worker_id="current")
        endings: dict[str, Callable[[], Settlement]] = {
            "completed": lambda: succeeded(current),
            "failed": lambda: failed(current._replace(attempt=3)),
            "canceled": lambda: succeeded(current, Cancel()),
        }
        if successor in endings:
            settle(conn, endings[successor]())
    before = row(conn, stale.id), conn.execute("SELECT * FROM _ayb_job_executions").fetchall()
    assert not STALE_WRITES[write](conn, stale)
    assert (row(conn, stale.id), conn.execute("SELECT * FROM _ayb_job_executions").fetchall()) == before


def test_a_repeated_settling_finds_its_own_lease_settled(conn: Connection) -> None:
    make_job(conn)
    make_job(conn)
    done, other = lease(conn)
    ending = succeeded(done)
    settle(conn, ending)
    assert settle(conn, ending) == set()
    assert find_settled(conn, [ending, succeeded(other)]) == {done.lease_id}


def test_an_attempt_that_was_settled_otherwise_is_no_success(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    settle(conn, succeeded(job, Cancel()))
    assert find_settled(conn, [succeeded(job)]) == set()


def test_extending_answers_with_the_leases_still_held(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    gone = Lease(job.id, "00000000-0000-4000-8000-000000000000")
    assert extend_leases(conn, [job.lease, gone], lease_s=1000) == Touched({job.lease_id}, set())
    assert row(conn, job.id, "extract(epoch FROM lease_until - now())::int") == (1000,)


def test_releasing_gives_the_attempt_back(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    assert release_jobs(conn, [job.lease]) == Touched({job.lease_id}, set())
    assert row(conn, job.id, "state, attempts, lease_id, worker_id") == ("queued", 0, None, None)
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (0,)


def test_a_locked_row_keeps_no_other_job_from_being_given_back(conn: Connection, database_url: str) -> None:
    make_job(conn)
    make_job(conn)
    locked, free = lease(conn)
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (locked.id,))
        assert release_jobs(conn, [locked.lease, free.lease]) == Touched({free.lease_id}, {locked.lease_id})
    assert release_jobs(conn, [locked.lease, free.lease]) == Touched({locked.lease_id}, set())
    assert release_jobs(conn, [locked.lease, free.lease]) == Touched(set(), set())


def test_orphans_of_a_lost_answer_are_found_and_what_is_held_is_none(conn: Connection) -> None:
    make_job(conn)
    make_job(conn)
    held, orphan = lease(conn)
    make_job(conn, "running", worker_id="w2")
    make_job(conn, "running", worker_id="w1", lease_id=None)
    make_job(conn)
    assert find_orphans(conn, worker_id="w1", held=[held.lease]) == [orphan.lease]
    assert set(find_orphans(conn, worker_id="w1", held=[])) == {held.lease, orphan.lease}
    assert find_orphans(conn, worker_id="w3", held=[]) == []


def test_progress_is_shown_and_extends_the_lease(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    assert report_progress(conn, job.lease, '{"records_processed": 5}', lease_s=1000)
    assert row(conn, job.id, "progress, extract(epoch FROM lease_until - now())::int") == (
        {"records_processed": 5},
        1000,
    )


WRITES: dict[JobState, Callable[[Connection, str], None]] = {
    JobState.RUNNING: lambda conn, _: void(lease(conn)),
    JobState.COMPLETED: lambda conn, job_id: finish(conn, job_id, None),
    JobState.CANCELED: lambda conn, job_id: void(cancel_job(conn, job_id)),
    JobState.QUEUED: lambda conn, job_id: void(retry_job(conn, job_id)),
}


def void(_: object) -> None:
    """Throw an answer away."""


def finish(conn: Connection, job_id: str, result: Result) -> None:
    lease_id = row(conn, job_id, "lease_id")[0]
    job = leased_job(id=job_id, lease_id=lease_id)
    settle(conn, succeeded(job, result))


@pytest.mark.parametrize("before", list(JobState))
@pytest.mark.parametrize("after", list(WRITES))
def test_sql_allows_exactly_the_legal_transitions(conn: Connection, before: JobState, after: JobState) -> None:
    job_id = make_job(conn, before)
    if after is JobState.CANCELED and before is JobState.RUNNING:
        finish(conn, job_id, Cancel())  # a running job is canceled by its handler alone
    elif after is JobState.QUEUED and before is JobState.RUNNING:
        release_jobs(conn, [Lease(job_id, row(conn, job_id, "lease_id")[0])])
    else:
        try:
            WRITES[after](conn, job_id)
        except Exception as refused:
            void(refused)
    legal = after in TRANSITIONS[before]
    assert row(conn, job_id, "state") == ((after if legal else before).value,)


def test_outcomes_and_states_are_those_that_the_tables_take(conn: Connection) -> None:
    check = conn.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '_ayb_job_executions'::regclass"
        " AND contype = 'c'"
    ).fetchone()
    assert check is not None
    assert all(f"'{outcome.value}'" in check[0] for outcome in Outcome)


@contextmanager
def locked_by_somebody(database_url: str, job_id: str) -> Iterator[None]:
    """Have a session hold a lock on a job's row meanwhile, as an operator's open transaction does."""
    with closing(connect(database_url, name="somebody")) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job_id,))
        yield


def test_a_locked_row_keeps_no_other_lease_from_being_extended(conn: Connection, database_url: str) -> None:
    for _ in range(3):
        make_job(conn)
    locked, *others = lease(conn)
    gone = Lease(others[0].id, "11111111-1111-1111-1111-111111111111")
    with locked_by_somebody(database_url, locked.id):
        answer = extend_leases(conn, [locked.lease, gone, *(job.lease for job in others)], lease_s=1000)
    assert answer == Touched({job.lease_id for job in others}, {locked.lease_id})


@pytest.mark.parametrize("remove_completed", [False, True])
def test_settling_waits_a_second_for_a_locked_row_and_says_so(
    conn: Connection, database_url: str, *, remove_completed: bool
) -> None:
    for _ in range(2):
        make_job(conn)
    locked, free = lease(conn)
    endings = [succeeded(locked), succeeded(free)]
    with locked_by_somebody(database_url, locked.id):
        with pytest.raises(RowsLocked):
            settle(conn, *endings, remove_completed=remove_completed)
        assert find_locked(conn, [ended.job.lease for ended in endings]) == {locked.lease_id}
    assert find_locked(conn, [ended.job.lease for ended in endings]) == set()
    assert settle(conn, *endings, remove_completed=remove_completed) == {locked.lease_id, free.lease_id}


def test_what_is_gone_is_not_locked(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    settle(conn, succeeded(job))
    assert find_locked(conn, [job.lease]) == set()


def test_counts_at_their_limit_hold_up_nobody(conn: Connection) -> None:
    most = 2**31 - 1
    snoozing = make_job(conn, attempts=most, max_attempts=most)
    make_job(conn)
    jobs = {job.id: job for job in lease(conn)}
    assert len(jobs) == 2
    assert settle(conn, succeeded(jobs[snoozing], Snooze(60))) == {jobs[snoozing].lease_id}
    assert row(conn, snoozing, "state, attempts, max_attempts") == ("queued", most, most)


def test_a_negative_number_of_attempts_gives_no_further_attempts(conn: Connection) -> None:
    make_job(conn, attempts=-(2**31))
    (job,) = lease(conn)
    assert job.attempt == 1
