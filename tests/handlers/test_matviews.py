"""AYB's job `materialized_view_refresh` does what AYB's own does, and neither gets in the other's way."""

from contextlib import closing
from typing import Any

import psycopg
import pytest

from ayb_jobs.config import load_config
from ayb_jobs.errors import Discard
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.matviews import RefreshInProgress, RefreshRefused
from ayb_jobs.handlers.packs import build_registry, default_schedules
from ayb_jobs.storage.database import Connection, connect
from tests.handlers.conftest import Lease

NAME = "materialized_view_refresh"
# As AYB's migration makes it.
REGISTRY = """
    CREATE TABLE _ayb_matview_refreshes (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        schema_name varchar(63) NOT NULL CHECK (schema_name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
        view_name varchar(63) NOT NULL CHECK (view_name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
        refresh_mode text NOT NULL DEFAULT 'standard' CHECK (refresh_mode IN ('standard', 'concurrent')),
        last_refresh_at timestamptz,
        last_refresh_duration_ms int,
        last_refresh_status text CHECK (last_refresh_status IN ('success', 'error')),
        last_refresh_error text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (schema_name, view_name)
    )
"""
VIEWS = """
    CREATE TABLE scores (player int, score int);
    CREATE MATERIALIZED VIEW leaderboard AS SELECT player, score FROM scores;
    CREATE SCHEMA "Sales";
    CREATE MATERIALIZED VIEW "Sales"."Order_Totals" AS SELECT sum(score) FROM scores;
    CREATE VIEW plain AS SELECT 1;
    INSERT INTO scores VALUES (1, 10)
"""
STATUS = "SELECT refresh_mode, last_refresh_status, last_refresh_error FROM _ayb_matview_refreshes WHERE view_name = %s"


@pytest.fixture
def refresh() -> JobType:
    found = build_registry(load_config()).get(NAME)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def views(conn: Connection) -> None:
    conn.execute(REGISTRY)
    conn.execute(VIEWS)


def rows(conn: Connection, view: str = "leaderboard") -> int:
    return int(conn.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0])


def status(conn: Connection, view: str = "leaderboard") -> tuple[Any, ...] | None:
    return conn.execute(STATUS, (view,)).fetchone()


def register(conn: Connection, mode: str = "standard") -> None:
    conn.execute("INSERT INTO _ayb_matview_refreshes VALUES (DEFAULT, 'public', 'leaderboard', %s)", (mode,))


def test_it_comes_with_the_pack_and_has_no_schedule() -> None:
    assert NAME in build_registry(load_config()).names()
    assert NAME not in build_registry(load_config(overrides={"handlers.packs": []})).names()
    assert all(schedule.job_type != NAME for schedule in default_schedules(load_config()).values())


def test_an_unregistered_view_is_registered_and_refreshed(refresh: JobType, lease: Lease, conn: Connection) -> None:
    assert rows(conn) == 0
    assert refresh.run(lease(NAME, {"view_name": "leaderboard"})) is None
    assert rows(conn) == 1
    assert status(conn) == ("standard", "success", None)
    told = conn.execute("SELECT last_refresh_at IS NOT NULL, last_refresh_duration_ms >= 0 FROM _ayb_matview_refreshes")
    assert told.fetchall() == [(True, True)]


def test_a_view_of_another_schema_is_found_by_its_very_name(refresh: JobType, lease: Lease, conn: Connection) -> None:
    refresh.run(lease(NAME, {"schema": "Sales", "view_name": "Order_Totals"}))
    assert conn.execute('SELECT * FROM "Sales"."Order_Totals"').fetchall() == [(10,)]
    assert status(conn, "Order_Totals") == ("standard", "success", None)


def test_a_concurrent_refresh_lets_readers_go_on(refresh: JobType, lease: Lease, conn: Connection) -> None:
    register(conn, "concurrent")
    conn.execute("CREATE UNIQUE INDEX ON leaderboard (player)")
    with conn.transaction():
        assert rows(conn) == 0  # holds a lock that a plain refresh would wait for
        refresh.run(lease(NAME, {"view_name": "leaderboard"}))
    assert rows(conn) == 1
    assert status(conn) == ("concurrent", "success", None)


@pytest.mark.parametrize(
    ("before", "error"),
    [
        ("SELECT 1", "has no unique index"),
        ("CREATE UNIQUE INDEX ON leaderboard (player) WHERE player > 0", "has no unique index"),
        ("CREATE UNIQUE INDEX ON leaderboard ((player + 1))", "has no unique index"),
        ("CREATE INDEX ON leaderboard (player)", "has no unique index"),
        ("REFRESH MATERIALIZED VIEW leaderboard WITH NO DATA", "holds nothing yet"),
    ],
)
def test_a_concurrent_refresh_that_cannot_be_says_why(
    before: str, error: str, refresh: JobType, lease: Lease, conn: Connection
) -> None:
    register(conn, "concurrent")
    conn.execute(before)
    with pytest.raises(RefreshRefused, match=error):
        refresh.run(lease(NAME, {"view_name": "leaderboard"}))
    mode, outcome, told = status(conn) or ()
    assert (mode, outcome) == ("concurrent", "error")
    assert error in told


def test_a_refresh_that_fails_leaves_its_error_and_the_next_one_clears_it(
    refresh: JobType, lease: Lease, conn: Connection
) -> None:
    conn.execute("CREATE MATERIALIZED VIEW shares AS SELECT 1 / (score - 10) AS s FROM scores WITH NO DATA")
    with pytest.raises(psycopg.errors.DivisionByZero):
        refresh.run(lease(NAME, {"view_name": "shares"}))
    assert status(conn, "shares") == ("standard", "error", "division by zero")
    conn.execute("UPDATE scores SET score = 11")
    refresh.run(lease(NAME, {"view_name": "shares"}))
    assert status(conn, "shares") == ("standard", "success", None)


def test_aybs_own_refresh_keeps_ours_out(refresh: JobType, lease: Lease, conn: Connection, database_url: str) -> None:
    with closing(connect(database_url)) as ayb:
        assert ayb.execute("SELECT pg_try_advisory_lock(hashtext('public.leaderboard'))").fetchone() == (True,)
        with pytest.raises(RefreshInProgress, match="refresh already in progress"):
            refresh.run(lease(NAME, {"view_name": "leaderboard"}))
        assert status(conn) == ("standard", None, None)
        assert rows(conn) == 0
    refresh.run(lease(NAME, {"view_name": "leaderboard"}))
    assert rows(conn) == 1


@pytest.mark.parametrize("view", ["absent", "plain", "scores"])
def test_what_is_no_materialized_view_is_refused_and_not_registered(
    view: str, refresh: JobType, lease: Lease, conn: Connection
) -> None:
    with pytest.raises(RefreshRefused, match=rf"there is no materialized view public\.{view}"):
        refresh.run(lease(NAME, {"view_name": view}))
    assert status(conn, view) is None


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        [],
        {"view_name": ""},
        {"view_name": 7},
        {"view_name": 'x"; DROP TABLE scores; --'},
        {"view_name": "9lives"},
        {"view_name": "leaderboard\n"},
        {"view_name": "x" * 64},
        {"schema": "pub.lic", "view_name": "leaderboard"},
    ],
)
def test_a_payload_that_names_no_view_is_discarded(payload: Any, refresh: JobType, lease: Lease) -> None:
    with pytest.raises(Discard, match=r"view_name|schema"):
        refresh.run(lease(NAME, payload))


def test_without_aybs_registry_the_attempt_says_so(refresh: JobType, lease: Lease, conn: Connection) -> None:
    conn.execute("DROP TABLE _ayb_matview_refreshes")
    with pytest.raises(RefreshRefused, match="there is no table _ayb_matview_refreshes"):
        refresh.run(lease(NAME, {"view_name": "leaderboard"}))
