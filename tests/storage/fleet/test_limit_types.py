"""A type has one limit at most, whoever writes it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from psycopg.errors import UniqueViolation

from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.limits import list_limits
from tests.eventually import eventually

INSERT = "INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES (%s, %s, 1, 'ada')"
SET_TYPES = "UPDATE _ayb_job_limits SET types = %s WHERE name = %s"
WAITS = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
TWICE = "the type a cannot have both limits one and other; a type has one at most"


def types(conn: Connection) -> dict[str, list[str]]:
    return {each.new.name: list(each.new.types) for each in list_limits(conn)}


def test_the_table_refuses_a_second_limit_of_a_type(conn: Connection) -> None:
    conn.execute(INSERT, ("one", ["a", "b", "b"]))
    with pytest.raises(UniqueViolation, match=TWICE):
        conn.execute(INSERT, ("other", ["c", "a"]))
    conn.execute(INSERT, ("other", ["c"]))
    with pytest.raises(UniqueViolation, match=TWICE):
        conn.execute(SET_TYPES, (["a"], "other"))
    assert types(conn) == {"one": ["a", "b", "b"], "other": ["c"]}


def test_a_type_moves_from_one_limit_to_another_in_one_transaction_in_any_order(conn: Connection) -> None:
    conn.execute(INSERT, ("one", ["a", "b"]))
    conn.execute(INSERT, ("other", ["c"]))
    with conn.transaction():
        conn.execute(SET_TYPES, (["a", "c"], "other"))
        conn.execute(SET_TYPES, (["b"], "one"))
    assert types(conn) == {"one": ["b"], "other": ["a", "c"]}


def test_of_two_transactions_that_are_committed_at_once_one_is_refused(conn: Connection, database_url: str) -> None:
    with closing(connect(database_url)) as other, ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            conn.execute(INSERT, ("one", ["a"]))
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what its commit begins with
            refused = pool.submit(other.execute, INSERT, ("other", ["a"]))
            eventually(lambda: refused.done() or conn.execute(WAITS).fetchone() is not None)
        with pytest.raises(UniqueViolation, match=TWICE):
            refused.result()
    assert types(conn) == {"one": ["a"]}
