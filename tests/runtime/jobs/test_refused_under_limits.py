"""What the database refuses to put under a limit, to let go or to count holds up no other job, and is told."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.runtime import narrowing
from ayb_jobs.runtime.jobs import careful_limited, limited_look
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.aside import set_aside
from tests.eventually import eventually
from tests.factories import make_job
from tests.producing import producing
from tests.running import Running, running
from tests.runtime.test_hostile_rows import (
    EDGES,
    LOOPS,
    write_hostile_rows,
)

LIMITS = """
    INSERT INTO _ayb_job_limits (name, types, max_running, set_by, key_field)
    VALUES ('l', '{limited}', 100, '', 'k'), ('m', '{other}', 100, '', NULL)
"""
# What a trigger may do with a bad row: raise an error of any kind, leave the row out, or put it back as it was.
REFUSALS = ["RAISE 'no'", "RAISE 'no' USING ERRCODE = '40001'", "RETURN NULL", "RETURN OLD"]
# Which change of a bad row is refused, and how such a row stands before it.
CHANGES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "put under": ("NEW.limited_by IS NOT NULL AND OLD.limited_by IS NULL", {}),
    "lease": ("NEW.state = 'running'", {"limited_by": "l", "limited_key": "", "priority": 6}),
    "let go": ("NEW.limited_by IS NULL AND OLD.limited_by IS NOT NULL",
        {"limited_by": "gone", "limited_key": "", "priority": 6}),
}  # fmt: skip
TYPES = ("limited", "other", "plain")


def refuse(conn: Connection, change: str, refusal: str) -> None:
    conn.execute(
        sql.SQL("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF OLD.payload ? 'bad' THEN {}; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse();
        """).format(sql.SQL(refusal), sql.SQL(change))
    )


def all_types() -> Registry:
    registry = Registry()
    for name in TYPES:
        registry.handler(name)(lambda _: None)
    return registry


def good_left(conn: Connection) -> int:
    found = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed' AND NOT payload ? 'bad'").fetchone()
    return found[0] if found else -1


@contextmanager
def bad_and_good(url: str, conn: Connection, change: str, refusal: str) -> Iterator[tuple[Running, Sequence[str]]]:
    """Run a daemon on more bad jobs than it has slots, in front of good ones of each type."""
    when, columns = CHANGES[change]
    conn.execute(LIMITS)
    bad = [make_job(conn, type="limited", payload={"bad": 1}, **columns) for _ in range(5)]
    for _ in range(10):
        for name in TYPES:
            make_job(conn, type=name)
    refuse(conn, when, refusal)
    with running(url, all_types(), worker_concurrency=4) as daemon:
        yield daemon, bad


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("change", CHANGES)
def test_jobs_that_are_refused_under_a_limit_are_set_aside_and_the_others_run(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, change: str, refusal: str
) -> None:
    monkeypatch.setattr(narrowing, "PATIENCE", 1)
    with bad_and_good(database_url, conn, change, refusal) as (daemon, bad):
        eventually(lambda: good_left(conn) == 0)
        eventually(lambda: set(set_aside(daemon.recorder.events)) == set(bad))
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")
        eventually(lambda: conn.execute("SELECT FROM _ayb_jobs WHERE state <> 'completed'").fetchone() is None)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_running_job_that_cannot_be_counted_keeps_no_other_from_it_and_its_daemon_from_confirming(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(narrowing, "PATIENCE", 1)
    end = threading.Event()
    registry = Registry()

    @registry.handler("limited")
    def run(_: JobContext) -> None:
        end.wait(30)

    refuse(conn, CHANGES["put under"][0], refusal)
    bad, good = make_job(conn, type="limited", payload={"bad": 1}), make_job(conn, type="limited")
    with running(database_url, registry) as daemon:
        eventually(lambda: conn.execute("SELECT FROM _ayb_jobs WHERE state = 'running'").rowcount == 2)
        conn.execute(LIMITS)
        conn.execute("SELECT pg_notify('ayb_jobs', 'limits')")
        eventually(lambda: bad in set_aside(daemon.recorder.events))
        counted = conn.execute("SELECT id::text FROM _ayb_jobs WHERE limited_by IS NOT NULL").fetchall()
        assert counted == [(good,)]
        confirmed = "SELECT limits_confirmed FROM _ayb_job_workers"
        assert conn.execute(confirmed).fetchall()[0][0] in (None, 0)
        end.set()
        eventually(lambda: (conn.execute(confirmed).fetchall()[0][0] or 0) > 0)


def test_hostile_limits_keys_and_jobs_under_them_keep_no_job_waiting(database_url: str, conn: Connection) -> None:
    for seed, (table, always) in enumerate(LOOPS["limits"].hostile):
        write_hostile_rows(conn, table, always, seed)
    for seed, (name, known) in enumerate({"l": "limited", "m": "other"}.items()):
        always = {"type": f"'{known}'", "limited_by": f"'{name}'", "limited_key": "md5(random()::text)"}
        write_hostile_rows(conn, "_ayb_jobs", always | {"priority": "6"}, seed)
    conn.execute(LIMITS)
    for interval in EDGES["interval"]:
        conn.execute(
            "INSERT INTO _ayb_job_limits (name, types, set_by, rate, every, key_rate, key_every)"
            f" SELECT name, ARRAY[name], '', 'r', every, 'r', every"
            f" FROM (SELECT md5({sql.Literal(interval).as_string()}), {interval}::interval) AS given (name, every)"
            " WHERE every > '0' AND every <= '36500 days'"
        )
    good = [make_job(conn, type=name, payload={"good": 1}) for name in TYPES]
    with running(database_url, all_types()):
        left = "SELECT FROM _ayb_jobs WHERE id = ANY (%s::uuid[]) AND state <> 'completed'"
        eventually(lambda: conn.execute(left, (good,)).rowcount == 0)


@pytest.mark.parametrize("refusal", ["RAISE 'no'", "RETURN NULL"])
def test_jobs_behind_many_that_are_refused_under_a_limit_are_leased_without_a_pause(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(careful_limited, "FIRST_RETRY_S", 0.0)  # those that are tried again are no hindrance either
    monkeypatch.setattr(careful_limited, "FOUND_AT_ONCE", 50)
    monkeypatch.setattr(limited_look, "LONGEST_TURN_S", 3600.0)
    monkeypatch.setattr(limited_look, "MOST_STEPS", 1000)
    conn.execute("INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('l', '{test}', 100, '')")
    make_many(conn, 200, "bad")
    make_many(conn, 4, "good")
    refuse(conn, CHANGES["lease"][0], refusal)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    producing(db, buffer, InFlight(), concurrency=4, limits=Limits(exist=True)).producer.tick()
    assert len(buffer) == 4


def make_many(conn: Connection, number: int, key: str) -> None:
    conn.execute(
        "INSERT INTO _ayb_jobs (type, payload, limited_by, limited_key, priority, run_at)"
        " SELECT 'test', jsonb_build_object(%s::text, 1), 'l', '', 6, now() - interval '1 minute' * %s"
        " FROM generate_series(1, %s)",
        (key, 2 if key == "bad" else 1, number),
    )


def test_a_refused_job_behind_those_of_a_key_without_a_place_is_found(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_limited, "FOUND_AT_ONCE", 5)
    conn.execute("INSERT INTO _ayb_job_limits (name, types, key_max_running, set_by) VALUES ('l', '{test}', 1, '')")
    under: dict[str, Any] = {"type": "test", "limited_by": "l", "priority": 6}
    make_job(conn, "running", limited_key="a", **under)
    for _ in range(10):
        make_job(conn, limited_key="a", **under)
    make_job(conn, limited_key="b", payload={"bad": 1}, **under)
    good = make_job(conn, limited_key="c", **under)
    refuse(conn, CHANGES["lease"][0], "RAISE 'no'")
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    producing(db, buffer, InFlight(), concurrency=4, limits=Limits(exist=True)).producer.tick()
    assert len(buffer) == 1
    taken = buffer.take()
    assert taken is not None
    assert taken.job.id == good


@pytest.mark.parametrize("places", ["max_running", "key_max_running"])
@pytest.mark.parametrize("others", [0, 40])
def test_a_job_that_was_refused_once_takes_its_turn_when_a_full_limit_has_a_place(
    db: Database, conn: Connection, places: str, others: int
) -> None:
    conn.execute(
        f"INSERT INTO _ayb_job_limits (name, types, {places}, set_by) VALUES ('l', '{{test}}', 1, '')".encode()
    )
    under: dict[str, Any] = {"type": "test", "limited_by": "l", "limited_key": ""}
    make_many(conn, others, "bad")
    first = make_job(conn, payload={"bad": 1}, priority=5, **under)
    refuse(conn, CHANGES["lease"][0], "RAISE 'no'")
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    daemon = producing(db, buffer, InFlight(), limits=Limits(exist=True))
    daemon.producer.tick()
    conn.execute("DROP TRIGGER refuse ON _ayb_jobs")

    running = make_job(conn, "running", priority=6, **under)
    make_job(conn, priority=6, **under)
    for _ in range(10):
        daemon.look._limited._careful._refused._aside.waits.end_all()
        daemon.producer.tick()
    assert len(buffer) == 0
    conn.execute("UPDATE _ayb_jobs SET state = 'completed' WHERE id = %s", (running,))
    daemon.producer.tick()
    assert len(buffer) == 1
    taken = buffer.take()
    assert taken is not None
    assert taken.job.id == first
