"""A trigger that writes a part only of what ends or extends an attempt has nothing of it written."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from psycopg import sql
from psycopg.rows import dict_row

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_canceled, settle_failure, settle_lost, settle_result
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.queue.canceling import end_canceled, extend_canceled
from ayb_jobs.storage.queue.leases import extend_leases, release_jobs
from ayb_jobs.storage.queue.recovery import find_expired_leases, recover_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.queue.settling_within import settle_within
from tests.completing import lease
from tests.factories import make_job

Statement = Callable[[Connection, LeasedJob], object]


def complete(conn: Connection, job: LeasedJob) -> object:
    return settle_jobs(conn, [settle_result(job, None, 0.0, 0.0)], worker_id="w", now=0.0)


def keep_result(conn: Connection, job: LeasedJob) -> object:
    ended = settle_result(job, None, 0.0, 0.0)._replace(result="1")
    return settle_jobs(conn, [ended], worker_id="w", now=0.0)


def fail(conn: Connection, job: LeasedJob, *, remove: bool = False) -> object:
    ended = settle_failure(job, "no", 0.0, 0.0, backoff=Backoff(), chance=0.5)
    return settle_jobs(conn, [ended], worker_id="w", now=0.0, remove_completed=remove)


def fail_beside_removals(conn: Connection, job: LeasedJob) -> object:
    return fail(conn, job, remove=True)


def complete_within(conn: Connection, job: LeasedJob) -> object:
    ended = settle_result(job, None, 0.0, 0.0)
    return settle_within(conn, ended, worker_id="w", schema="public", path="public")


def extend(conn: Connection, job: LeasedJob) -> object:
    return extend_leases(conn, [job.lease], lease_s=90)


def release(conn: Connection, job: LeasedJob) -> object:
    return release_jobs(conn, [job.lease])


def recover(conn: Connection, _: LeasedJob) -> object:
    (lost,) = find_expired_leases(conn, limit=1).lost
    settlement = settle_lost(lost, max_crashes=5, backoff=Backoff(), chance=0.5, now=0.0)
    return recover_jobs(conn, [(lost, settlement)])


def end_as_canceled(conn: Connection, job: LeasedJob) -> object:
    ended = settle_canceled(settle_result(job, None, 0.0, 0.0))
    return end_canceled(conn, [ended], worker_id="w", now=0.0)


def hold_canceled(conn: Connection, job: LeasedJob) -> object:
    return extend_canceled(conn, [job.lease], lease_s=90)


RUN_OUT = "UPDATE _ayb_jobs SET lease_until = now() - interval '1 second'"
TO_CANCEL = "UPDATE _ayb_jobs SET cancel_requested_at = now(), canceling_lease_id = lease_id, lease_id = NULL"
# Each statement, and what is done to the leased job before.
STATEMENTS: Mapping[Statement, str] = {
    complete: "",
    keep_result: "",
    fail: "",
    fail_beside_removals: "",
    complete_within: "",
    extend: "",
    release: "",
    recover: RUN_OUT,
    end_as_canceled: TO_CANCEL,
    hold_canceled: TO_CANCEL,
}
EXTENDING = (extend, hold_canceled)
# What a trigger makes of a row, and whether nothing is left of the change by that.
WHOLE = ("RETURN NULL;", "RETURN OLD;")
LEASE = "NEW.lease_id := OLD.lease_id; NEW.canceling_lease_id := OLD.canceling_lease_id;"
IN_PART = (
    "NEW.state := OLD.state;",
    "NEW.state := 'failed';",
    LEASE,
    f"NEW.state := OLD.state; {LEASE}",
    f"NEW.state := OLD.state; {LEASE} NEW.worker_id := OLD.worker_id;",
    "NEW.state := OLD.state; NEW.lease_until := OLD.lease_until;",
    "NEW.lease_id := gen_random_uuid(); NEW.canceling_lease_id := gen_random_uuid();",
)
# What would leave an extension as it was meant.
NO_PART_OF_EXTENDING = (*IN_PART[:1], *IN_PART[2:6])
LOSING = ("NEW.lease_id := NULL; NEW.canceling_lease_id := NULL;", "NEW.state := 'queued';")
TRIGGER = """
    CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS {};
    CREATE TRIGGER change BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION change();
"""
CASES = [
    (statement, change)
    for statement in STATEMENTS
    for change in (*WHOLE, *IN_PART, *(LOSING if statement in EXTENDING else ()))
    if not (statement in EXTENDING and change in NO_PART_OF_EXTENDING)
]


def rows(conn: Connection) -> list[dict[str, Any]]:
    """Return the jobs, and how many attempts are logged."""
    query = "SELECT *, (SELECT count(*) FROM _ayb_job_executions) AS logged FROM _ayb_jobs"
    return conn.cursor(row_factory=dict_row).execute(query).fetchall()


@pytest.mark.parametrize(("statement", "change"), CASES)
def test_what_a_trigger_keeps_or_changes_in_part_is_not_written_at_all(
    conn: Connection, statement: Statement, change: str
) -> None:
    make_job(conn)
    job = lease(conn)
    if before := STATEMENTS[statement]:
        conn.execute(before)
    found = rows(conn)
    body = f"BEGIN {change} {'' if change in WHOLE else 'RETURN NEW;'} END"
    conn.execute(sql.SQL(TRIGGER).format(body))
    if change in WHOLE:
        with conn.transaction():
            statement(conn, job)
    else:
        with pytest.raises(RowUnchanged), conn.transaction():
            statement(conn, job)
    assert rows(conn) == found
    conn.execute("DROP TRIGGER change ON _ayb_jobs")
    statement(conn, job)
    assert rows(conn) != found
