"""What AYB's own runner makes of the jobs that only we know, after people went back to it."""

import psycopg
import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.factories import make_job

# AYB's statements, in words of our own.
CLAIM = """
    UPDATE _ayb_jobs
    SET state = 'running', attempts = attempts + 1, lease_until = now() + interval '5 minutes', worker_id = 'ayb'
    WHERE id = (SELECT id FROM _ayb_jobs WHERE state = 'queued' AND run_at <= now()
                ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id::text
"""
RETRY = """
    UPDATE _ayb_jobs SET state = 'queued', run_at = now(), attempts = 0, last_error = NULL
    WHERE id = %s AND state = 'failed'
"""


def test_a_job_that_waits_for_another_is_not_due_for_ayb(conn: Connection) -> None:
    parent = make_job(conn, "running")
    child = enqueue(conn, NewJob(type="test", depends_on=[parent])).id
    assert conn.execute(CLAIM).fetchall() == []
    due = conn.execute(
        "SELECT (run_at AT TIME ZONE 'UTC')::date::text, state FROM _ayb_jobs WHERE id = %s", (child,)
    ).fetchone()
    assert due == ("9999-12-31", "queued")


def test_ayb_runs_what_a_pause_or_a_priority_holds_up_here(conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('queue', 'default', 'ada')")
    job_id = make_job(conn, priority=4)
    assert conn.execute(CLAIM).fetchall() == [(job_id,)]


def test_aybs_retry_fails_while_another_job_holds_the_unique_key(conn: Connection) -> None:
    failed = make_job(conn, "failed", unique_key=b"k")
    make_job(conn, unique_key=b"k")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(RETRY, (failed,))
