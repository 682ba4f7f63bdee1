"""Limits follow the file, until an operator changes them."""

from contextlib import closing
from dataclasses import replace

import pytest
from psycopg.errors import LockNotAvailable

from ayb_jobs.errors import ConfigError
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.fleet.limits_of_file import follow_file


def test_limits_follow_the_file_until_somebody_changes_them(conn: Connection) -> None:
    first, wider = (NewLimit(name="few", types=["test"], max_running=most) for most in (1, 2))
    by_hand = NewLimit(name="few", types=["test"], max_running=7)
    renamed = NewLimit(name="less", types=["test"], max_running=2)
    assert follow_file(conn, [first], by="file") == ["few"]
    assert follow_file(conn, [first], by="file") == []
    assert follow_file(conn, [wider], by="file") == ["few"]
    assert follow_file(conn, [renamed], by="file") == ["less"]
    assert [one.new.name for one in limits.list_limits(conn)] == ["less"]
    assert follow_file(conn, [wider], by="file") == ["few"]
    with conn.transaction():
        limits.set_limit(conn, by_hand, by="ada")
    assert follow_file(conn, [first], by="file") == []
    assert limits.list_limits(conn)[0].new == by_hand
    with pytest.raises(ConfigError, match=r"limits.less.types cannot be used: the type test has the limit few already"):
        follow_file(conn, [renamed], by="file")
    with conn.transaction():
        assert limits.remove_limit(conn, "few")
    assert follow_file(conn, [first], by="file") == ["few"]


def test_a_file_of_limits_that_are_there_waits_for_nobody_and_another_not_for_long(
    conn: Connection, database_url: str
) -> None:
    first, wider = (NewLimit(name="few", types=["test"], max_running=most) for most in (1, 2))
    follow_file(conn, [first], by="file")
    conn.execute("SET statement_timeout = '10s'")
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_job_limits FOR UPDATE")
        assert follow_file(conn, [first], by="file") == []
        with pytest.raises(LockNotAvailable):
            follow_file(conn, [wider], by="file")
    assert follow_file(conn, [wider], by="file") == ["few"]


def test_types_move_between_limits_that_both_stay(conn: Connection) -> None:
    a, b = NewLimit(name="a", types=["x"], max_running=1), NewLimit(name="b", types=["y"], max_running=2)
    follow_file(conn, [a, b], by="file")
    assert follow_file(conn, [replace(b, types=["x"]), replace(a, types=["y"])], by="file") == ["b", "a"]
    assert {one.new.name: one.new.types for one in limits.list_limits(conn)} == {"a": ["y"], "b": ["x"]}
    with pytest.raises(ConfigError, match="the type y has the limit a already"):
        follow_file(conn, [replace(b, types=["y"]), replace(a, types=["y"])], by="file")
