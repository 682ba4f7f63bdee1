"""Rows in any state, written straight into the tables: what tests begin with."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.database import Connection

_numbers = count(1)

# What the table requires of each state, or the daemon leaves in it, in SQL since the database's clock is the clock.
_OF_STATE: Mapping[str, Mapping[str, str]] = {
    "queued": {},
    "running": {
        "attempts": "1",
        "last_run_at": "now()",
        "lease_until": "now() + interval '5 minutes'",
        "lease_id": "gen_random_uuid()",
        "execution_id": "nextval('_ayb_job_execution_ids')",
        "worker_id": "'factory'",
    },
    "completed": {"attempts": "1", "last_run_at": "now()", "completed_at": "now()"},
    "failed": {"attempts": "3", "last_run_at": "now()", "last_error": "'it broke'"},
    "canceled": {"canceled_at": "now()"},
}


def make_job(conn: Connection, state: str = "queued", **columns: Any) -> str:
    """Insert a job in `state` and return its id.

    `columns` override what is filled in. A dict or list is stored as JSON, a `psycopg.sql.SQL` as it stands
    (`lease_until=SQL("now() - interval '1 second'")`), anything else as a bound value.
    """
    return _insert(conn, "_ayb_jobs", {"type": "test", "state": state}, _OF_STATE[state], columns)


def leased_job(**fields: Any) -> LeasedJob:
    """Return a job as its worker holds it, that stands in no database; `fields` override what is filled in."""
    usual: dict[str, Any] = {
        "id": "job",
        "lease_id": "lease",
        "execution_id": 1,
        "type": "test",
        "payload_text": "{}",
        "queue": "default",
        "priority": 2,
        "attempt": 1,
        "max_attempts": 3,
        "crashes": 0,
        "run_at_text": "2026-01-01 00:00:00+00",
    }
    nothing: dict[str, Any] = dict.fromkeys(LeasedJob._fields)
    return LeasedJob(**nothing | usual | fields)


def payload_bomb(numbers: int) -> sql.SQL:
    """Return JSON that is small as stored, and 131 kB of text for each of its numbers.

    It is read from a short text, since `jsonb_agg` would write each number out.
    """
    return sql.SQL(f"('[1e131071' || repeat(',1e131071', {numbers - 1:d}) || ']')::jsonb")


def make_schedule(conn: Connection, **columns: Any) -> str:
    """Insert an enabled schedule, due now and every minute, and return its id; `columns` as in `make_job`."""
    filled_in = {"name": f"schedule_{next(_numbers)}", "job_type": "test", "cron_expr": "* * * * *"}
    return _insert(conn, "_ayb_job_schedules", filled_in, {"next_run_at": "now()"}, columns)


def _insert(
    conn: Connection,
    table: str,
    filled_in: Mapping[str, Any],
    expressions: Mapping[str, str],
    columns: Mapping[str, Any],
) -> str:
    row = dict(filled_in) | {name: sql.SQL(text) for name, text in expressions.items()} | dict(columns)
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id::text").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(_as_sql(value) for value in row.values()),
    )
    inserted = conn.execute(statement).fetchone()
    assert inserted is not None
    return str(inserted[0])


def _as_sql(value: Any) -> sql.Composable:
    if isinstance(value, sql.Composable):
        return value
    return sql.Literal(Jsonb(value) if isinstance(value, dict | list) else value)
