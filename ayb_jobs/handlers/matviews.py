"""AYB's job `materialized_view_refresh`: refreshes a view as AYB does, and notes in its registry how it went.

The view is registered first, if it is not; then refreshed, under AYB's own lock, which keeps two refreshes of a view
apart whichever of the two programs makes them; then the outcome is noted, whether it is good or bad. Each of the three
is a transaction of its own, so that a refresh that fails leaves a registration and its error behind.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from ayb_jobs.errors import AybJobsError, Discard
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.owners import refuse_anothers
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.statements import ended_with
from ayb_jobs.model.lifecycle import storable_error
from ayb_jobs.storage.database import Connection

# What AYB takes for a name; its columns hold 63 characters.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
MOST_MS = 2**31 - 1


class RefreshRefused(AybJobsError):
    """The view cannot be refreshed now."""


class RefreshInProgress(RefreshRefused):
    """Another session refreshes the view."""


class View(NamedTuple):
    """A materialized view, by its schema and its name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def matview_registry() -> Registry:
    """Return the registry of AYB's job type for materialized views."""
    registry = Registry()
    registry.handler("materialized_view_refresh", description="Refresh a materialized view")(refresh_view)
    return registry


def refresh_view(ctx: JobContext) -> None:
    """Refresh the view that the payload names, and note how it went.

    Discards the job if the payload names none; the attempt fails if the view cannot be refreshed now.
    """
    view = asked_for(ctx.payload)
    with ctx.connection() as conn:
        mode = registered_mode(conn, view)
    began = time.monotonic()
    try:
        with ctx.connection() as conn, ended_with(ctx, conn):
            refresh(conn, view, mode)
    except RefreshInProgress:
        raise  # whoever refreshes it notes how that went
    except (psycopg.Error, AybJobsError) as error:
        note_outcome(ctx, view, began, storable_error(str(error)))
        raise
    note_outcome(ctx, view, began, None)


def asked_for(payload: Any) -> View:
    """Return the view that a payload names; its schema is `public` if it names none."""
    given = payload if isinstance(payload, Mapping) else {}
    schema, name = given.get("schema") or "public", given.get("view_name")
    if not name:
        raise Discard('the payload names no view; it needs view_name, such as {"view_name": "leaderboard"}')
    for key, value in (("schema", schema), ("view_name", name)):
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise Discard(f"payload.{key} is {value!r:.100}; it should be a name of letters, digits and _, at most 63")
    return View(schema, name)


FIND_REGISTRY = "SELECT pg_catalog.to_regclass('_ayb_matview_refreshes') IS NOT NULL"
FIND_REGISTRATION = """
    SELECT refresh_mode FROM _ayb_matview_refreshes
    WHERE schema_name OPERATOR(pg_catalog.=) %(schema)s AND view_name OPERATOR(pg_catalog.=) %(name)s
"""
FIND_VIEW = """
    SELECT relispopulated, EXISTS (
        SELECT FROM pg_catalog.pg_index
        WHERE indrelid OPERATOR(pg_catalog.=) kept.oid AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
    )
    FROM pg_catalog.pg_class AS kept
    JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) relnamespace
    WHERE nspname OPERATOR(pg_catalog.=) %(schema)s AND relname OPERATOR(pg_catalog.=) %(name)s
        AND relkind OPERATOR(pg_catalog.=) 'm'
"""
REGISTER = """
    INSERT INTO _ayb_matview_refreshes (schema_name, view_name, refresh_mode)
    VALUES (%(schema)s, %(name)s, 'standard')
    ON CONFLICT (schema_name, view_name) DO NOTHING
"""


def registered_mode(conn: Connection, view: View) -> str:
    """Return in which mode a view is registered to be refreshed, `standard` or `concurrent`.

    Registers it if it is not.
    """
    if not conn.execute(FIND_REGISTRY).fetchall()[0][0]:
        raise RefreshRefused("there is no table _ayb_matview_refreshes, in which AYB registers materialized views")
    refuse_anothers(conn, "_ayb_matview_refreshes")
    found = conn.execute(FIND_REGISTRATION, view._asdict()).fetchone()
    if found is not None:
        return str(found[0])
    found_view(conn, view)
    conn.execute(REGISTER, view._asdict())
    return "standard"


class Found(NamedTuple):
    """What a concurrent refresh needs of a view: rows, and an index that tells each row from the others."""

    populated: bool
    has_unique_index: bool


def found_view(conn: Connection, view: View) -> Found:
    """Return what there is of a view; raises `RefreshRefused` if there is no such materialized view."""
    found = conn.execute(FIND_VIEW, view._asdict()).fetchone()
    if found is None:
        raise RefreshRefused(f"there is no materialized view {view}")
    return Found(*found)


# The key of AYB's session lock; ours ends with the transaction, and works behind a pooler.
TRY_LOCK = "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext(%s))"
REFRESH = sql.SQL("REFRESH MATERIALIZED VIEW {view}")
REFRESH_CONCURRENTLY = sql.SQL("REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")


def refresh(conn: Connection, view: View, mode: str) -> None:
    """Refresh a view in this transaction. Raises `RefreshRefused` if that cannot be, `RefreshInProgress` if it is."""
    if not conn.execute(TRY_LOCK, (str(view),)).fetchall()[0][0]:
        raise RefreshInProgress(f"refresh already in progress: {view}")
    found = found_view(conn, view)
    if mode == "concurrent":
        check_concurrent(view, found)
    statement = REFRESH_CONCURRENTLY if mode == "concurrent" else REFRESH
    conn.execute(statement.format(view=sql.Identifier(*view)))


def check_concurrent(view: View, found: Found) -> None:
    """Raise `RefreshRefused` if a view cannot be refreshed while others read it, saying what it lacks."""
    if not found.populated:
        raise RefreshRefused(f"{view} holds nothing yet; refresh it once in mode standard before concurrent")
    if not found.has_unique_index:
        raise RefreshRefused(
            f"{view} has no unique index without WHERE and expressions, which a concurrent refresh needs"
        )


NOTE_OUTCOME = """
    UPDATE _ayb_matview_refreshes
    SET last_refresh_at = pg_catalog.now(), last_refresh_duration_ms = %(duration_ms)s, last_refresh_status = %(status)s,
        last_refresh_error = %(error)s, updated_at = pg_catalog.now()
    WHERE schema_name OPERATOR(pg_catalog.=) %(schema)s AND view_name OPERATOR(pg_catalog.=) %(name)s
"""


def note_outcome(ctx: JobContext, view: View, began: float, error: str | None) -> None:
    """Note in AYB's registry when a refresh ended, how long it took, and what went wrong.

    `error` is None if nothing did.
    """
    outcome = {
        "duration_ms": min(MOST_MS, round((time.monotonic() - began) * 1000)),
        "status": "success" if error is None else "error",
        "error": error,
    }
    with ctx.connection() as conn:
        conn.execute(NOTE_OUTCOME, outcome | view._asdict())
