"""Leasing beside limits and under them: places, tokens, keys."""

import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from psycopg import sql

from ayb_jobs import NewJob, Unique, enqueue, enqueue_many
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.fleet.limit_keys import LimitKey, delete_limit_keys, find_old_limit_keys
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.lateness import find_longest
from ayb_jobs.storage.queue.limited import Limited, find_waiting_limits, lease_limited
from ayb_jobs.storage.queue.put_under import find_removed, free_removed, put_under
from tests.eventually import eventually
from tests.factories import make_job, payload_bomb
from tests.recovering import recover
from tests.sql_workers import settle

LANES = [Lane("default", priority) for priority in range(1, 5)]
TYPES = ["a", "b", "test"]
LOCKS = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def limit(conn: Connection, **given: Any) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(**{"name": "few", "types": ["test"], **given}), by="ada")


def beside(conn: Connection, limit: int = 100) -> list[LeasedJob]:
    return lease_beside_limits(conn, worker_id="w", lanes=LANES, types=TYPES, limit=limit, lease_s=60).leased


def under(conn: Connection, room: int = 100, name: str = "few", **given: Any) -> Limited:
    return lease_limited(conn, name, room=room, types=TYPES, queues=["default"], worker_id="w", lease_s=60, **given)


def count(conn: Connection, where: LiteralString) -> int:
    row = conn.execute(sql.SQL("SELECT count(*) FROM _ayb_jobs WHERE ") + sql.SQL(where)).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def another(url: str) -> Iterator[Connection]:
    with closing(connect(url)) as conn:
        yield conn


def test_a_job_of_a_limited_type_is_put_under_its_limit_and_others_are_leased(conn: Connection) -> None:
    limit(conn, types=["a"], max_running=1, key_field="tenant")
    plain = make_job(conn, type="b")
    make_job(conn, type="a", payload={"tenant": 7}, priority=3)
    make_job(conn, type="a", payload={"tenant": 7}, limit_key="mine")
    make_job(conn, type="a", payload={"tenant": "x" * 201})
    make_job(conn, type="a", payload=[1])
    found = lease_beside_limits(conn, worker_id="w", lanes=LANES, types=TYPES, limit=100, lease_s=60)
    assert ([job.id for job in found.leased], found.put_under) == ([plain], 4)
    rows = conn.execute(
        "SELECT priority, limited_by, limited_key FROM _ayb_jobs WHERE type = 'a' ORDER BY created_at, id"
    )
    stamps = rows.fetchall()
    assert [row[:2] for row in stamps] == [(7, "few"), (6, "few"), (6, "few"), (6, "few")]
    assert [len(row[2]) if len(row[2]) == 64 else row[2] for row in stamps] == ["7", "mine", 64, ""]
    assert beside(conn) == []
    assert len(under(conn).leased) == 1
    assert under(conn).leased == []


def test_no_more_run_at_once_than_the_limit_says_and_each_ending_frees_a_place(conn: Connection) -> None:
    limit(conn, max_running=3, key_max_running=2)
    for key in ("x", "x", "x", "x", "y"):
        make_job(conn, limit_key=key)
    beside(conn)
    first = under(conn).leased
    keys = "SELECT limited_key, count(*) FROM _ayb_jobs WHERE state = 'running' GROUP BY 1 ORDER BY 1"
    assert conn.execute(keys.encode()).fetchall() == [("x", 2), ("y", 1)]
    assert [job.is_limited for job in first] == [True] * 3
    conn.execute("UPDATE _ayb_jobs SET state = 'queued', lease_id = NULL, lease_until = NULL WHERE limited_key = 'y'")
    assert [job.id for job in under(conn).leased] == [job.id for job in first if job.id not in running(conn, "x")]
    conn.execute("DELETE FROM _ayb_jobs WHERE state = 'running'")
    assert len(under(conn).leased) == 2


ENDINGS: dict[str, dict[str, Any]] = {
    "completed": {},
    "failed": {"error": "it broke"},
    "snoozed": {"delay": "1 hour"},
    "released": {},
    "canceled": {},
    "lost": {},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_becomes_of_an_attempt_its_place_is_free(conn: Connection, ending: str) -> None:
    limit(conn, max_running=1)
    make_job(conn)
    make_job(conn)
    beside(conn)
    (job,) = under(conn).leased
    assert under(conn).leased == []
    if ending == "lost":
        conn.execute("UPDATE _ayb_jobs SET lease_until = now() - interval '1 hour' WHERE state = 'running'")
        assert [each.id for each in recover(conn, backoff=Backoff()).jobs] == [job.id]
    else:
        settle(conn, job.id, job.lease_id, ending, **ENDINGS[ending])
    assert len(under(conn).leased) == 1
    assert under(conn).leased == []
    assert count(conn, "state = 'running'") == 1


def running(conn: Connection, key: str) -> set[str]:
    rows = conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'running' AND limited_key = %s", (key,))
    return {row[0] for row in rows}


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_key_that_runs_nothing_gets_the_next_free_place_however_much_of_another_waits(
    conn: Connection, goes_on: bool
) -> None:
    limit(conn, max_running=4)
    make_jobs(conn, "big", 5_000)
    beside(conn, limit=5_000)
    found = under(conn, room=50)
    assert keys_of(conn, found) == ["big"] * 4
    make_job(conn, limit_key="small", priority=4)
    beside(conn)
    conn.execute(
        "UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL WHERE id IN"
        " (SELECT id FROM _ayb_jobs WHERE state = 'running' LIMIT 1)"
    )
    assert keys_of(conn, under(conn, room=50, after=found.after if goes_on else "")) == ["small"]


def test_keys_share_alike(conn: Connection) -> None:
    limit(conn, max_running=1)
    for key in ("big", "other"):
        make_jobs(conn, key, 300)
    beside(conn, limit=600)
    seen: Counter[str] = Counter()
    after = ""
    for _ in range(100):
        found = under(conn, after=after)
        after = found.after
        seen.update(keys_of(conn, found))
        conn.execute("UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL WHERE state = 'running'")
    assert seen == {"big": 50, "other": 50}


@pytest.mark.parametrize("served_last", ["large", "small", ""])
def test_the_key_that_runs_least_gets_the_next_free_places(conn: Connection, served_last: str) -> None:
    limit(conn, max_running=8)
    make_jobs(conn, "large", 20)
    make_jobs(conn, "small", 20)
    beside(conn)
    assert sorted(keys_of(conn, under(conn, room=8))) == ["large"] * 4 + ["small"] * 4
    conn.execute("UPDATE _ayb_jobs SET state = 'completed' WHERE state = 'running' AND limited_key = 'small'")
    assert keys_of(conn, under(conn, room=3, after=served_last)) == ["small"] * 3


def make_jobs(conn: Connection, key: str, jobs: int) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type, limit_key) SELECT 'test', %s FROM generate_series(1, %s)", (key, jobs))


def keys_of(conn: Connection, found: Limited) -> list[str]:
    ids = [job.id for job in found.leased]
    return [row[0] for row in conn.execute("SELECT limited_key FROM _ayb_jobs WHERE id = ANY (%s::uuid[])", (ids,))]


def test_a_thousand_keys_and_more_are_all_served(conn: Connection) -> None:
    limit(conn, key_max_running=1)
    conn.execute("INSERT INTO _ayb_jobs (type, limit_key) SELECT 'test', i % 1500 FROM generate_series(1, 3000) AS i")
    for _ in range(7):
        beside(conn, limit=500)
    after, keys = "", Counter[str]()
    for _ in range(40):
        found = under(conn, room=100, after=after)
        after = found.after
        keys.update(keys_of(conn, found))
        if not found.more:
            break
    assert len(keys) == 1500
    assert set(keys.values()) == {1}


def test_a_rate_never_gives_more_than_burst_and_rate_times_time(conn: Connection) -> None:
    limit(conn, rate="1/h", burst=3)
    make_jobs(conn, "", 30)
    beside(conn)
    first = under(conn)
    assert len(first.leased) == 3
    assert 0 < (first.wait_s or 0) <= 3600
    assert under(conn).leased == []
    conn.execute("UPDATE _ayb_job_limits SET tat = tat - interval '150 min'")
    assert len(under(conn).leased) == 2
    conn.execute("UPDATE _ayb_job_limits SET tat = '-infinity'")
    assert len(under(conn).leased) == 3


LEVELS = [pytest.param("", id="rate"), pytest.param("key_", id="key_rate")]
SHIFT = """
    WITH limits AS (UPDATE _ayb_job_limits SET tat = tat + %(by)s::interval)
    UPDATE _ayb_job_limit_keys SET tat = tat + %(by)s::interval
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_clock_that_went_back_stops_a_rate_for_no_longer_than_its_burst(conn: Connection, level: str) -> None:
    limit(conn, **{f"{level}rate": "1/h", f"{level}burst": 3})
    make_jobs(conn, "", 30)
    beside(conn)
    assert len(under(conn).leased) == 3
    conn.execute(SHIFT, {"by": "10 hours"})  # the clock went back by as much
    assert find_waiting_limits(conn, idle=["few"]).limits == ["few"]
    late = under(conn)
    assert late.leased == []
    assert 0 < (late.wait_s or 0) <= 3600
    conn.execute(SHIFT, {"by": "-1 hour"})
    assert len(under(conn).leased) == 1
    assert under(conn).leased == []
    conn.execute(SHIFT, {"by": "-3 hours"})
    assert len(under(conn).leased) == 3


@pytest.mark.parametrize("level", LEVELS)
def test_after_a_failover_to_a_clock_two_seconds_behind_a_fast_rate_goes_on_at_once(
    conn: Connection, level: str
) -> None:
    limit(conn, **{f"{level}rate": "20/s", f"{level}burst": 2})
    make_jobs(conn, "", 30)
    beside(conn)
    assert under(conn).leased
    conn.execute(SHIFT, {"by": "2 seconds"})
    assert (under(conn).wait_s or 0) <= 0.1
    eventually(lambda: under(conn).leased)


@pytest.mark.parametrize("level", LEVELS)
def test_a_higher_rate_holds_for_what_was_spent_at_the_lower_one(conn: Connection, level: str) -> None:
    limit(conn, **{f"{level}rate": "1/h", f"{level}burst": 10})
    make_jobs(conn, "", 30)
    beside(conn)
    assert len(under(conn).leased) == 10
    limit(conn, **{f"{level}rate": "100/s", f"{level}burst": 10})
    eventually(lambda: under(conn).leased)


@pytest.mark.parametrize("level", LEVELS)
def test_a_lower_rate_does_not_give_back_what_was_spent(conn: Connection, level: str) -> None:
    limit(conn, **{f"{level}rate": "1/h", f"{level}burst": 3})
    make_jobs(conn, "", 30)
    beside(conn)
    assert len(under(conn).leased) == 3
    limit(conn, **{f"{level}rate": "1/2h", f"{level}burst": 1})
    assert under(conn).leased == []
    conn.execute(SHIFT, {"by": "-2 hours"})
    assert len(under(conn).leased) == 1
    assert under(conn).leased == []


def test_a_rate_for_each_key_is_spent_by_that_key_alone(conn: Connection) -> None:
    limit(conn, key_rate="1/h", key_burst=2)
    for key in "xy":
        make_jobs(conn, key, 5)
    beside(conn)
    assert Counter(keys_of(conn, under(conn))) == {"x": 2, "y": 2}
    assert under(conn).leased == []
    assert find_old_limit_keys(conn, keep=timedelta(hours=1)) == []
    conn.execute("UPDATE _ayb_job_limit_keys SET tat = '-infinity' WHERE limit_key = 'y'")
    assert delete_limit_keys(conn, [LimitKey("few", key) for key in "xy"]) == (1, 0)
    assert Counter(keys_of(conn, under(conn))) == {"y": 2}


def test_places_and_tokens_are_taken_together_or_not_at_all(conn: Connection) -> None:
    limit(conn, max_running=1, rate="1000/s", burst=5)
    make_jobs(conn, "", 9)
    beside(conn)
    assert len(under(conn).leased) == 1
    tat = conn.execute("SELECT tat FROM _ayb_job_limits").fetchone()
    assert under(conn).leased == []
    assert conn.execute("SELECT tat FROM _ayb_job_limits").fetchone() == tat


@pytest.mark.parametrize("rate", [{"rate": "1/h"}, {"key_rate": "1/h"}])
@pytest.mark.parametrize("answer", ["NULL", "OLD"])
def test_a_job_that_a_trigger_keeps_spends_nothing_of_a_rate(
    conn: Connection, rate: dict[str, str], answer: str
) -> None:
    limit(conn, **rate)
    kept, good = (make_job(conn, payload={"is": name}) for name in ("kept", "good"))
    beside(conn)
    conn.execute(
        f"""
        CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {answer}; END $$;
        CREATE TRIGGER judge BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
            WHEN (NEW.payload ->> 'is' = 'kept') EXECUTE FUNCTION judge();
        """.encode()
    )
    for _ in range(3):
        found = under(conn, only=[kept])
        assert (found.leased, found.unchanged) == ([], [kept])
    assert [job.id for job in under(conn, aside=[kept]).leased] == [good]
    assert under(conn, aside=[kept]).leased == []


def test_a_list_or_an_object_is_no_key_since_its_text_may_be_a_gigabyte(conn: Connection) -> None:
    limit(conn, types=["a", "b"], max_running=1, key_field="tenant")
    for value in ("{}", "jsonb_build_object('x', {})", "'[1]'::jsonb"):
        payload = sql.SQL("jsonb_build_object('tenant', {})").format(sql.SQL(value).format(payload_bomb(9000)))
        known, met = make_job(conn, type="a", payload=payload), make_job(conn, type="b", payload=payload)
        assert put_under(conn, [known]) == []
        assert beside(conn) == []
        keys = conn.execute("SELECT limited_key FROM _ayb_jobs WHERE id = ANY (%s::uuid[])", ([known, met],))
        assert keys.fetchall() == [("",), ("",)]


def test_a_limit_may_be_lowered_below_what_runs_raised_and_removed(conn: Connection) -> None:
    limit(conn, max_running=5)
    make_jobs(conn, "", 20)
    beside(conn)
    assert len(under(conn).leased) == 5
    for lower in (3, 0):
        limit(conn, max_running=lower)
        assert under(conn).leased == []
    limit(conn, max_running=7)
    assert len(under(conn).leased) == 2
    with conn.transaction():
        assert limits.remove_limit(conn, "few")
    assert under(conn).leased == []
    waiting = find_waiting_limits(conn)
    assert (waiting.limits, waiting.removed) == ([], ["few"])
    assert free_removed(conn, find_removed(conn, waiting.removed)) == (13, [])
    assert find_waiting_limits(conn) == ([], [], [], math.inf)
    assert len(beside(conn)) == 13
    assert count(conn, "priority <> 2 AND state = 'running'") == 7


def test_a_limit_without_a_free_place_or_token_is_known_without_its_lock(conn: Connection, database_url: str) -> None:
    given: dict[str, dict[str, Any]] = {
        "closed": {"max_running": 0},
        "full": {"max_running": 1},
        "slow": {"rate": "1/h"},
    }
    given["open"] = {"max_running": 2, "rate": "1/h", "burst": 2}
    given["keyed"] = {"key_max_running": 1}
    for name, settings in given.items():
        limit(conn, name=name, types=[name], **settings)
        make_job(conn, type=name)
        make_job(conn, type=name)
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=list(given), limit=100, lease_s=60)
    assert find_waiting_limits(conn, idle=given)[:3] == (["full", "keyed", "open", "slow"], [], ["closed"])
    for name in given:
        lease_limited(conn, name, room=1, types=[name], queues=["default"], worker_id="w", lease_s=60)
    with another(database_url) as holder, holder.transaction():
        holder.execute("SELECT FROM _ayb_job_limits FOR UPDATE")
        waiting = find_waiting_limits(conn, idle=given)
    assert find_waiting_limits(conn, idle=["full"]).full == ["full"]
    assert waiting[:3] == (["keyed", "open"], [], ["closed", "full", "slow"])
    assert 3500 < waiting.wait_s <= 3600
    conn.execute("UPDATE _ayb_jobs SET state = 'completed' WHERE type = 'full' AND state = 'running'")
    assert find_waiting_limits(conn, idle=given).full == ["closed", "slow"]
    conn.execute("UPDATE _ayb_job_limits SET tat = now() WHERE name = 'slow'")
    assert find_waiting_limits(conn, idle=given).full == ["closed"]


def test_a_limit_of_a_type_that_is_paused_or_served_elsewhere_starts_nothing(conn: Connection) -> None:
    limit(conn, max_running=5)
    make_job(conn)
    beside(conn)
    assert lease_limited(conn, "few", room=9, types=["a"], queues=["default"], worker_id="w", lease_s=9).leased == []
    assert lease_limited(conn, "few", room=9, types=TYPES, queues=["x"], worker_id="w", lease_s=9).leased == []
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('type', 'test', 'ada')")
    assert under(conn).leased == []
    conn.execute("DELETE FROM _ayb_job_pauses")
    assert len(under(conn).leased) == 1


@pytest.mark.parametrize("hindered", ["later", "served elsewhere", "paused", "key paused"])
def test_keys_that_hold_nothing_startable_keep_no_other_key_waiting(conn: Connection, hindered: str) -> None:
    limit(conn, types=["test", "a", "elsewhere"], key_max_running=1)
    kind = {"served elsewhere": "elsewhere", "paused": "a"}.get(hindered, "test")
    conn.execute(
        "INSERT INTO _ayb_jobs (type, limit_key) SELECT %s, 'a' || lpad(i::text, 3, '0') FROM generate_series(1, 40) AS i",
        (kind,),
    )
    free = make_job(conn, limit_key="b")
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=[*TYPES, "elsewhere"], limit=100, lease_s=60)
    if hindered == "later":
        conn.execute("UPDATE _ayb_jobs SET run_at = now() + interval '1 hour' WHERE limited_key < 'b'")
    if hindered == "key paused":
        conn.execute(
            "INSERT INTO _ayb_job_pauses (kind, name, paused_by)"
            " SELECT 'key', 'few/a' || lpad(i::text, 3, '0'), 'ada' FROM generate_series(1, 40) AS i"
        )
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('type', 'a', 'ada')")
    assert [job.id for job in under(conn, room=4).leased] == [free]


def test_a_walk_goes_on_behind_the_last_key_that_it_tried(conn: Connection, database_url: str) -> None:
    """Rows that somebody else has locked can start, but cannot be leased."""
    limit(conn, key_max_running=1)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, limit_key) SELECT 'test', 'b' || lpad(i::text, 3, '0') FROM generate_series(1, 20) AS i"
    )
    free = make_job(conn, limit_key="a")
    beside(conn)
    with another(database_url) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE limited_key > 'b' FOR UPDATE")
        first = under(conn, room=4)
        assert (first.leased, first.after, first.more) == ([], "b005", True)
        assert [job.id for job in under(conn, room=4, after=first.after).leased] == [free]


def test_a_limit_that_is_locked_for_long_leases_nothing_and_is_no_error(conn: Connection, database_url: str) -> None:
    limit(conn, max_running=1)
    make_job(conn)
    beside(conn)
    conn.execute("SET statement_timeout = '5s'")
    conn.execute("SET lock_timeout = '7s'")
    with another(database_url) as other, other.transaction():
        other.execute("SELECT FROM _ayb_job_limits FOR UPDATE")
        found = under(conn, after="x")
        assert found == Limited([], "x", missed=True)
    with conn.transaction():
        assert len(under(conn).leased) == 1
        assert conn.execute("SHOW lock_timeout").fetchone() == ("7s",)


def test_a_look_tells_when_the_rate_of_a_key_that_waits_allows_the_next_start(conn: Connection) -> None:
    limit(conn, key_rate="2/min", key_burst=2)
    make_jobs(conn, "x", 5)
    make_jobs(conn, "y", 2)
    beside(conn)
    assert len(under(conn).leased) == 4
    conn.execute("UPDATE _ayb_job_limit_keys SET tat = tat - interval '29 s' WHERE limit_key = 'y'")
    assert 5 < (under(conn).wait_s or 0) <= 30  # y has no job left
    conn.execute("UPDATE _ayb_jobs SET run_at = now() + interval '1 hour' WHERE state = 'queued'")
    assert under(conn).wait_s is None


@pytest.mark.parametrize("given", [{"max_running": 1}, {"key_max_running": 1}, {"rate": "1/h"}, {"key_rate": "1/h"}])
def test_two_producers_and_one_place_the_first_held_open(
    conn: Connection, database_url: str, given: dict[str, Any]
) -> None:
    """A job of higher priority that comes meanwhile makes no difference."""
    limit(conn, **given)
    make_job(conn)
    make_job(conn)
    beside(conn)
    found: list[Limited] = []
    with another(database_url) as other:
        with conn.transaction():
            assert len(under(conn).leased) == 1
            second = threading.Thread(target=lambda: found.append(under(other)))
            second.start()
            eventually(lambda: conn.execute(LOCKS.encode()).fetchone() == (1,))
            with another(database_url) as third:
                make_job(third, priority=1)
                beside(third)
        second.join(20)
    assert [one.leased for one in found] == [[]]


def test_a_job_that_waits_under_a_limit_is_not_late(conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_job_workers VALUES ('w', 'h', 7, '1', 1, '{default}', '{test}')")
    limit(conn, max_running=0)
    make_job(conn, run_at=sql.SQL("now() - interval '1 hour'"))
    assert find_longest(conn) is not None
    beside(conn)
    assert find_longest(conn) is None


def test_a_job_that_was_replaced_while_it_waited_gets_the_key_of_its_new_payload(conn: Connection) -> None:
    limit(conn, key_max_running=1, key_field="tenant")
    job_id = make_job(conn, payload={"tenant": "old"})
    beside(conn)
    conn.execute("""UPDATE _ayb_jobs SET payload = '{"tenant": "new"}', priority = 2""")  # as replacing does
    assert under(conn).leased == []
    beside(conn)
    assert [job.id for job in under(conn).leased] == [job_id]
    assert conn.execute("SELECT limited_key FROM _ayb_jobs").fetchone() == ("new",)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_key_that_an_enqueuer_gave_is_stored_however_the_job_is_made(conn: Connection, jobs: int) -> None:
    parent = enqueue(conn, NewJob(type="test", limit_key="a"))
    keyed = [
        NewJob(type="test", limit_key="b", delay=timedelta(seconds=1)),
        NewJob(type="test", limit_key="c", depends_on=[parent]),
        NewJob(type="test", limit_key="d", idempotency_key="k"),
    ]
    for job in keyed:
        enqueue(conn, job) if jobs == 1 else enqueue_many(conn, [job, NewJob(type="plain")])
    rows = conn.execute("SELECT limit_key FROM _ayb_jobs WHERE type = 'test' ORDER BY limit_key").fetchall()
    assert rows == [("a",), ("b",), ("c",), ("d",)]
    assert count(conn, "limit_key IS NULL") == (0 if jobs == 1 else 3)
    with pytest.raises(InvalidInput, match="give limit_key or a unique key, not both"):
        NewJob(type="test", limit_key="a", unique=Unique(key="k"))
