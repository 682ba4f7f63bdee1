"""Counting jobs, however many there are."""

import json

import pytest
from psycopg import sql

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.queue import stats
from ayb_jobs.wire.jobs import stats_text
from tests.factories import make_job

FILL = """
    INSERT INTO _ayb_jobs (type, state)
    SELECT 'a', CASE WHEN number %% 10 = 0 THEN 'failed' ELSE 'completed' END
    FROM generate_series(1, %(rows)s) AS number
"""


def test_no_jobs_are_counted_as_none(conn: Connection) -> None:
    found = stats.job_stats(conn)
    assert dict(found.counts) == dict.fromkeys(JobState, 0)
    assert (found.oldest_queued_age_s, found.estimated) == (None, frozenset())


def test_few_jobs_are_counted_exactly(conn: Connection) -> None:
    expected = {state: number for number, state in enumerate(JobState, start=1)}
    for state, number in expected.items():
        for _ in range(number):
            make_job(conn, state)
    found = stats.job_stats(conn)
    assert dict(found.counts) == expected
    assert found.estimated == frozenset()


def test_the_oldest_due_job_is_found_in_whatever_lane_it_waits(conn: Connection) -> None:
    ages_s = {("a", 1): 10, ("a", 4): 500, ("b", 2): 7000, ("c", 3): -90000}
    for (queue, priority), age_s in ages_s.items():
        for more_s in (0, -5):
            make_job(
                conn, queue=queue, priority=priority, run_at=sql.SQL(f"now() - interval '{age_s + more_s} seconds'")
            )
    make_job(conn, "completed", run_at=sql.SQL("now() - interval '1 year'"))
    assert stats.job_stats(conn).oldest_queued_age_s == pytest.approx(7000, abs=60)


def test_the_oldest_job_that_a_daemon_could_start_is_told_beside_those_that_wait_for_more(conn: Connection) -> None:
    make_job(conn, type="unknown", run_at=sql.SQL("now() - interval '2 hours'"))
    make_job(
        conn, type="known", priority=6, limited_by="l", limited_key="", run_at=sql.SQL("now() - interval '1 hour'")
    )
    make_job(conn, type="known", queue="held", run_at=sql.SQL("now() - interval '50 minutes'"))
    make_job(conn, type="known", run_at=sql.SQL("now() - interval '100 seconds'"))
    assert stats.job_stats(conn).oldest_startable_age_s is None
    record = DaemonRecord(
        id="a", host="h", pid=1, version="1", concurrency=1, queues=["default", "held"], types=["known"]
    )
    beat(conn, record)
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('queue', 'held', 'ann')")
    found = stats.job_stats(conn)
    assert found.oldest_queued_age_s == pytest.approx(7200, abs=60)
    assert found.oldest_startable_age_s == pytest.approx(100, abs=60)
    assert json.loads(stats_text(found, unclaimable={}, unclaimable_cut=False))["oldestStartableAgeSec"] < 200


def test_jobs_that_are_not_due_have_no_age(conn: Connection) -> None:
    make_job(conn, run_at=sql.SQL("now() + interval '1 hour'"))
    assert stats.job_stats(conn).oldest_queued_age_s is None


def test_an_instant_without_end_breaks_nothing(conn: Connection) -> None:
    make_job(conn, run_at=sql.SQL("'-infinity'"))
    make_job(conn, run_at=sql.SQL("'infinity'"))
    found = stats.job_stats(conn)
    assert (found.counts[JobState.QUEUED], found.oldest_queued_age_s) == (2, None)


def test_an_instant_without_end_hides_no_age_of_others(conn: Connection) -> None:
    for queue in ("a", "b"):
        make_job(conn, queue=queue, run_at=sql.SQL("'-infinity'"))
        make_job(conn, queue=queue, run_at=sql.SQL("now() - interval '7000 seconds'"))
        make_job(conn, queue=queue)
        assert stats.job_stats(conn).oldest_queued_age_s == pytest.approx(7000, abs=60)
        conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE isfinite(run_at)")


@pytest.mark.parametrize("analyzed", [True, False])
def test_many_finished_jobs_are_estimated_and_said_to_be(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, *, analyzed: bool
) -> None:
    monkeypatch.setitem(stats.COUNTED, JobState.COMPLETED, 20_000)
    conn.execute("ALTER TABLE _ayb_jobs SET (autovacuum_enabled = false)")
    conn.execute(FILL, {"rows": 100_000})
    make_job(conn)
    if analyzed:
        conn.execute("ANALYZE _ayb_jobs")
    found = stats.job_stats(conn)
    assert found.estimated == {JobState.COMPLETED}
    assert found.counts[JobState.COMPLETED] == pytest.approx(90_000, rel=0.25)
    assert (found.counts[JobState.FAILED], found.counts[JobState.QUEUED]) == (10_000, 1)
    assert stats.job_stats(conn).counts == found.counts


def test_a_count_just_beyond_the_limit_is_never_said_to_be_less(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stats.COUNTED, JobState.COMPLETED, 9)
    conn.execute("INSERT INTO _ayb_jobs (type, state) SELECT 'a', 'completed' FROM generate_series(1, 10)")
    found = stats.job_stats(conn)
    assert (found.counts[JobState.COMPLETED], found.estimated) == (10, frozenset({JobState.COMPLETED}))


def test_counting_uses_the_index_of_each_rare_state(conn: Connection) -> None:
    conn.execute(FILL, {"rows": 20_000})
    conn.execute("ANALYZE _ayb_jobs")
    limits = dict.fromkeys(JobState, 100_001) | {"completed": 0}
    rows = conn.execute(
        f"EXPLAIN {stats.COUNT_JOBS}", {str(key): value for key, value in limits.items()}, prepare=False
    )
    plan = "\n".join(row[0] for row in rows)
    assert plan.count("Seq Scan") == 1  # the completed ones
    assert all(name in plan for name in ("idx_ayb_jobs_ready", "idx_ayb_jobs_failed", "idx_ayb_jobs_canceled"))
