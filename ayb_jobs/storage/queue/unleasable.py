"""Find the jobs that the database refuses to lease: a thousand in one statement, since each may stand in the way."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import errors

from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged, may_pass, was_refused
from ayb_jobs.storage.rows import one_row

# A block takes no values and returns none, so both pass through settings, which end with the transaction.
GIVE_JOBS = """
    SELECT set_config('ayb_jobs.tried', %(ids)s, true), set_config('ayb_jobs.enough', %(enough)s::text, true),
        set_config('ayb_jobs.tries', %(worker_id)s, true), set_config('ayb_jobs.lease_s', %(lease_s)s::text, true)
"""
# Each job is leased by itself, by the same daemon and for as long, as far as a trigger can tell, and that is undone.
TRY_JOBS = """
    DO $$
    DECLARE
        tried uuid;
        now_is text;
        enough int := current_setting('ayb_jobs.enough');
        refused jsonb := '[]';
    BEGIN
        FOREACH tried IN ARRAY current_setting('ayb_jobs.tried')::uuid[] LOOP
            BEGIN
                PERFORM FROM _ayb_jobs WHERE id = tried AND state = 'queued' FOR UPDATE SKIP LOCKED;
                CONTINUE WHEN NOT FOUND;
                UPDATE _ayb_jobs
                SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
                    lease_id = gen_random_uuid(),
                    lease_until = now() + current_setting('ayb_jobs.lease_s')::float8 * interval '1 second',
                    worker_id = current_setting('ayb_jobs.tries'),
                    execution_id = nextval('_ayb_job_execution_ids'),
                    progress = NULL, last_run_at = now(), updated_at = now(),
                    unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
                WHERE id = tried
                RETURNING CASE WHEN lease_id IS NOT NULL THEN state END INTO now_is;
                RAISE SQLSTATE 'AYB00';
            EXCEPTION
                WHEN SQLSTATE 'AYB00' THEN
                    IF now_is IS DISTINCT FROM 'running' THEN
                        refused := refused || jsonb_build_array(jsonb_build_array(tried, NULL, NULL));
                    ELSE
                        enough := enough - 1;
                    END IF;
                WHEN OTHERS THEN
                    refused := refused || jsonb_build_array(jsonb_build_array(tried, SQLSTATE, SQLERRM));
            END;
            EXIT WHEN enough <= 0;
        END LOOP;
        PERFORM set_config('ayb_jobs.refused', refused::text, true);
    END
    $$
"""
GET_REFUSED = "SELECT current_setting('ayb_jobs.refused')::jsonb"


class Unleasable(NamedTuple):
    """A job that the database refuses to lease, and its error; `RowUnchanged` if it raises none."""

    job_id: str
    error: Exception


def find_unleasable(
    conn: Connection, ids: Sequence[str], *, worker_id: str, lease_s: float, enough: int
) -> list[Unleasable]:
    """Return those of these queued jobs that this daemon cannot lease, tried in their order until `enough` can be.

    Nothing is changed. What may pass by itself is not told, nor what is refused at the end of a transaction only. If a
    trigger raises what no block catches, none is told.
    """
    if not ids:
        return []
    try:
        with conn.transaction():
            conn.execute(
                GIVE_JOBS, {"ids": plain_array(ids), "enough": enough, "worker_id": worker_id, "lease_s": lease_s}
            )
            conn.execute(TRY_JOBS)
            rows = one_row(conn.execute(GET_REFUSED))[0]
    except psycopg.Error as error:
        if not was_refused(error):
            raise
        return []
    refused = [Unleasable(job_id, _error(sqlstate, message)) for job_id, sqlstate, message in rows]
    return [each for each in refused if was_refused(each.error) and not may_pass(each.error)]


def _error(sqlstate: str | None, message: str) -> Exception:
    if sqlstate is None:
        return RowUnchanged()
    try:
        return errors.lookup(sqlstate)(message)
    except KeyError:  # a code of the application's own
        return errors.RaiseException(message)
