"""Lost leases: found, counted, and queued again or failed."""

import pytest
from psycopg import sql

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.storage.database import Connection
from tests import recovering
from tests.factories import make_job
from tests.recovering import Recovered

PAST = sql.SQL("now() - interval '1 second'")
SEEN, LATER = "timestamptz '2100-01-01 00:00:00+00'", "timestamptz '2100-01-01 00:00:01+00'"
NO_JITTER = Backoff(jitter_s=0)


def recover(conn: Connection, limit: int = 100, floor: str = "-infinity", ahead_s: float = 0) -> Recovered:
    return recovering.recover(conn, limit=limit, backoff=NO_JITTER, floor=floor, ahead_s=ahead_s)


def test_a_live_lease_is_left_alone(conn: Connection) -> None:
    make_job(conn, "running")
    assert recover(conn).jobs == []


def test_a_lost_lease_is_queued_again_after_backoff(conn: Connection) -> None:
    job_id = make_job(conn, "running", lease_until=PAST, attempts=2, max_attempts=5, worker_id="dead")
    (found,) = recover(conn).jobs
    assert (found.id, found.state, found.attempts, found.crashes) == (job_id, "queued", 2, 1)
    assert found.error == "lease lost by worker dead (attempt 2 of 5)"
    row = conn.execute(
        """SELECT state, lease_id, lease_until, worker_id, last_error,
            extract(epoch FROM run_at - updated_at)::float8 FROM _ayb_jobs"""
    ).fetchone()
    assert row == ("queued", None, None, None, found.error, 10.0)


@pytest.mark.parametrize("attempts", [1, 2, 3, 4, 8, 70])
def test_the_backoff_is_the_same_as_in_python(conn: Connection, attempts: int) -> None:
    make_job(conn, "running", lease_until=PAST, attempts=attempts, max_attempts=100)
    recover(conn)
    waits = conn.execute("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM _ayb_jobs").fetchone()
    assert waits == (NO_JITTER.delay_s(attempts, 0.0),)


def test_jitter_is_added(conn: Connection) -> None:
    for _ in range(20):
        make_job(conn, "running", lease_until=PAST)
    recovering.recover(conn, backoff=Backoff())
    waits = {row[0] for row in conn.execute("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM _ayb_jobs")}
    assert len(waits) > 1
    assert all(5 <= wait <= 6 for wait in waits)


@pytest.mark.parametrize(
    ("attempts", "crashes", "state", "error"),
    [
        (2, 1, "queued", "lease lost by worker w (attempt 2 of 3)"),
        (3, 0, "failed", "lease lost by worker w; attempts used up (3 of 3)"),
        (4, 0, "failed", "lease lost by worker w; attempts used up (4 of 3)"),
        (2, 2, "failed", "lease lost by worker w; crashes used up (3 of 3)"),
        (1, 5, "failed", "lease lost by worker w; crashes used up (6 of 3)"),
        (2, -(2**31), "queued", "lease lost by worker w (attempt 2 of 3)"),
    ],
)
def test_attempts_and_crashes_are_bounded(
    conn: Connection, attempts: int, crashes: int, state: str, error: str
) -> None:
    make_job(conn, "running", lease_until=PAST, attempts=attempts, crashes=crashes, worker_id="w")
    (found,) = recover(conn).jobs
    assert (found.state, found.crashes, found.error) == (state, max(crashes, 0) + 1, error)


@pytest.mark.parametrize(("ran", "most_s"), [("1 second", 30), ("1 minute", 600), ("1 year", 3600), ("-infinity", 30)])
@pytest.mark.parametrize("dead", [{}, {"w": "infinity"}])
def test_jobs_that_crashed_together_are_parted_before_their_last_chance(
    conn: Connection, ran: str, most_s: int, dead: dict[str, str]
) -> None:
    began = sql.SQL("'-infinity'" if ran == "-infinity" else f"now() - interval '{ran}'")
    until = sql.SQL("now() + interval '1 minute'" if dead else "now() - interval '1 second'")
    for _ in range(20):
        make_job(conn, "running", lease_until=until, worker_id="w", last_run_at=began, crashes=1, max_attempts=9)
    found = recovering.take_over(conn, dead, backoff=NO_JITTER) if dead else recover(conn).jobs
    assert len(found) == 20
    waits = [row[0] for row in conn.execute("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM _ayb_jobs")]
    assert min(waits) >= 0
    assert max(waits) <= most_s * 1.1
    assert max(waits) - min(waits) >= most_s / 4


def test_a_lease_that_was_given_after_the_verdict_stays(conn: Connection) -> None:
    seen, fresh = (make_job(conn, "running", worker_id="w", lease_until=sql.SQL(until)) for until in (SEEN, LATER))
    found = recovering.take_over(conn, {"w": "2100-01-01 00:00:00+00"}, backoff=NO_JITTER)
    assert [job.id for job in found] == [seen]
    assert conn.execute("SELECT state, crashes FROM _ayb_jobs WHERE id = %s", (fresh,)).fetchone() == ("running", 0)


def test_a_lost_attempt_has_an_execution_with_its_progress(conn: Connection) -> None:
    make_job(conn, "running", lease_until=PAST, progress={"records_processed": 12}, worker_id="w")
    recover(conn)
    rows = conn.execute(
        "SELECT outcome, attempt, worker_id, records_processed, error, lease_id IS NOT NULL FROM _ayb_job_executions"
    ).fetchall()
    assert rows == [("lost", 1, "w", 12, "lease lost by worker w (attempt 1 of 3)", True)]


@pytest.mark.parametrize(
    "progress",
    ["[]", '{"records_processed": "many"}', '{"records_processed": null}', "5", '{"records_processed": 1e30}'],
)
def test_foreign_progress_does_not_stop_recovery(conn: Connection, progress: str) -> None:
    make_job(conn, "running", lease_until=PAST, progress=sql.Literal(progress))
    make_job(conn, "running", lease_until=PAST)
    assert len(recover(conn).jobs) == 2


def test_a_count_of_crashes_that_can_rise_no_more_does_not_stop_recovery(conn: Connection) -> None:
    make_job(conn, "running", lease_until=PAST, crashes=2**31 - 1)
    make_job(conn, "running", lease_until=PAST)
    assert sorted(job.crashes for job in recover(conn).jobs) == [1, 2**31 - 1]


def test_a_lease_that_ran_out_before_all_time_is_found(conn: Connection) -> None:
    make_job(conn, "running", lease_until="-infinity")
    assert len(recover(conn).jobs) == 1


def test_what_another_runner_leased_is_recovered_too(conn: Connection) -> None:
    ours = {"lease_id": None, "execution_id": None}
    make_job(conn, "running", lease_until=PAST, worker_id="ayb", **ours)
    make_job(conn, "running", lease_until=None, worker_id=None, **ours)
    found = recover(conn).jobs
    assert [job.state for job in found] == ["queued", "queued"]
    assert conn.execute("SELECT count(DISTINCT id) FROM _ayb_job_executions").fetchone() == (2,)


def test_recovery_is_by_batches_the_longest_expired_first(conn: Connection) -> None:
    ids = [make_job(conn, "running", lease_until=sql.SQL(f"now() - interval '{age} seconds'")) for age in (30, 20, 10)]
    first = recover(conn, limit=2)
    assert [job.id for job in first.jobs] == ids[:2]
    assert first.floor is not None
    assert [job.id for job in recover(conn, floor=first.floor).jobs] == ids[2:]


def test_unknown_types_are_recovered(conn: Connection) -> None:
    make_job(conn, "running", lease_until=PAST, type="nobody_knows")
    assert len(recover(conn).jobs) == 1


def test_a_look_tells_when_the_next_lease_runs_out(conn: Connection) -> None:
    def look() -> Recovered:
        return recover(conn, ahead_s=60)

    assert look().next_s is None
    make_job(conn, "running", lease_until=sql.SQL("now() + interval '2 minutes'"))
    assert look().next_s is None
    make_job(conn, "running", lease_until=sql.SQL("now() + interval '50 seconds'"))
    make_job(conn, "running", lease_until=sql.SQL("now() + interval '40 seconds'"))
    make_job(conn, "running", lease_until=PAST)
    found = look()
    assert len(found.jobs) == 1
    assert found.next_s is not None
    assert 10 < found.next_s <= 40
