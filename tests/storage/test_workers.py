"""What workers lease and extend by SQL: the same jobs as daemons, by the same rules."""

import json
import random
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.model.job import Lease
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pausable, pauses
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.storage.fleet.draining import ask_drain
from ayb_jobs.storage.fleet.trouble import list_versions
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs
from ayb_jobs.storage.queue.canceling import cancel_running_job, extend_canceled
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import extend_leases
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.put_under import find_left, free_removed, put_under
from tests.factories import make_job, payload_bomb
from tests.sql_workers import extend, lease, settle

STORED = """
    SELECT to_jsonb(job) - ARRAY['id', 'lease_id', 'execution_id', 'created_at', 'updated_at', 'last_run_at', 'lease_until'],
        lease_until - last_run_at, execution_id IS NOT NULL, lease_id IS NOT NULL
    FROM _ayb_jobs AS job WHERE id = %s
"""


def set_limit(conn: Connection, **given: Any) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(**{"name": "few", "types": ["test"], **given}), by="ada")


def pause(conn: Connection, kind: PauseKind, name: str) -> None:
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=kind, name=name), by="ada")


def test_a_worker_is_given_what_its_handler_needs(conn: Connection) -> None:
    job_id = make_job(
        conn,
        payload={"price": 1.5},
        queue="slow",
        priority=1,
        attempts=1,
        max_attempts=7,
        traceparent="t",
        timeout_s=9.5,
    )
    (job,) = lease(conn, queues=["slow"])
    assert job.id == job_id
    assert (job.type, job.payload, job.queue, job.priority) == ("test", '{"price": 1.5}', "slow", 1)
    assert (job.attempt, job.max_attempts, job.timeout_s, job.traceparent) == (2, 7, 9.5, "t")
    assert lease(conn, queues=["slow"]) == []


def test_leasing_writes_what_a_daemons_leasing_writes(conn: Connection) -> None:
    ours, theirs = (
        make_job(conn, payload={}, unique_key=key, unique_waiting=True, progress={"a": 1}) for key in (b"1", b"2")
    )
    (job,) = lease(conn, n=1)
    assert job.id == ours
    lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=1, lease_s=60)
    ran_at = conn.execute("SELECT count(DISTINCT run_at) FROM _ayb_jobs").fetchone()
    conn.execute("UPDATE _ayb_jobs SET run_at = now()")
    assert ran_at == (2,)
    assert conn.execute(STORED, (ours,)).fetchone() == conn.execute(STORED, (theirs,)).fetchone()


def test_workers_and_daemons_lease_the_same_jobs_in_the_same_order(conn: Connection) -> None:
    chance = random.Random(7)
    for _ in range(600):
        make_job(
            conn,
            type=chance.choice("abcd"),
            queue=chance.choice("xyz"),
            priority=chance.randint(1, 4),
            run_at=sql.SQL(f"now() - interval '{chance.randint(-3, 9)} minutes'"),
        )
    pause(conn, PauseKind.QUEUE, "z")
    pause(conn, PauseKind.TYPE, "c")
    lanes = [Lane(queue, priority) for priority in range(1, 5) for queue in ("x", "z")]
    with conn.transaction(force_rollback=True):
        daemons = lease_jobs(conn, worker_id="d", lanes=lanes, types=["a", "b", "c"], limit=40, lease_s=60)
    workers = lease(conn, "a", "b", "c", queues=["x", "z"], n=40)
    assert [job.id for job in workers] == [job.id for job in daemons]
    assert len(workers) == 40
    rest = lease(conn, "a", "b", "c", queues=["x", "z"], n=1000)
    assert {job.type for job in rest} == {"a", "b"}
    assert lease(conn, "a", "b", "c", queues=["x", "z"]) == []


def test_a_worker_starts_no_more_than_a_limit_says_and_its_keys_take_turns(conn: Connection) -> None:
    set_limit(conn, max_running=3, key_field="key")
    for key in "abcabcabc":
        make_job(conn, payload={"key": key})
    first = lease(conn)
    assert [json.loads(job.payload)["key"] for job in first] == ["a", "b", "c"]
    assert [job.priority for job in first] == [2, 2, 2]
    assert lease(conn) == []
    served = []
    for job in first:
        settle(conn, job.id, job.lease_id)
        (following,) = lease(conn)
        served.append(json.loads(following.payload)["key"])
    assert sorted(served) == ["a", "b", "c"]


def test_a_worker_with_one_place_serves_keys_in_turn_though_nothing_else_runs(conn: Connection) -> None:
    set_limit(conn, max_running=1, key_field="key")
    for _ in range(3):
        for key in "abc":
            make_job(conn, payload={"key": key})
    served = []
    for _ in range(6):
        (job,) = lease(conn, n=1)
        served.append(json.loads(job.payload)["key"])
        settle(conn, job.id, job.lease_id)
    assert served == ["c", "b", "a", "c", "b", "a"]


def test_jobs_under_limits_and_others_both_come(conn: Connection) -> None:
    set_limit(conn, max_running=100)
    for _ in range(40):
        make_job(conn)
        make_job(conn, type="plain")
    seen = {job.type for _ in range(20) for job in lease(conn, "test", "plain", n=2)}
    assert seen == {"test", "plain"}


def test_what_a_worker_runs_counts_once_its_type_becomes_limited(conn: Connection) -> None:
    for _ in range(3):
        make_job(conn)
    (running,) = lease(conn, n=1)
    set_limit(conn, max_running=1)
    assert extend(conn, (running.id, running.lease_id)) == {running.lease_id: "extended"}
    (held,) = limits.list_limits(conn)
    assert (held.running, held.waiting_for) == (1, [])
    assert lease(conn) == []
    settle(conn, running.id, running.lease_id)
    assert len(lease(conn)) == 1


def test_what_a_worker_runs_counts_under_the_limit_that_its_type_comes_under(conn: Connection) -> None:
    for _ in range(3):
        make_job(conn)
    set_limit(conn, types=["test", "other"], max_running=1)
    (running,) = lease(conn, "test", n=9)
    set_limit(conn, types=["other"], max_running=1)
    assert lease(conn, "test", "other") == []  # what waits there waits for a daemon to move it
    set_limit(conn, name="one", max_running=1)
    assert [len(each.waiting_for) for each in limits.list_limits(conn)] == [0, 1]
    assert extend(conn, (running.id, running.lease_id)) == {running.lease_id: "extended"}
    assert [(each.new.name, each.running, each.waiting_for) for each in limits.list_limits(conn)] == [
        ("few", 0, []),
        ("one", 1, []),
    ]
    assert lease(conn, "test", "other") == []
    assert free_removed(conn, find_left(conn)).jobs == 2
    assert lease(conn, "test", "other") == []
    settle(conn, running.id, running.lease_id)
    assert len(lease(conn, "test", "other")) == 1


def test_a_worker_confirms_pauses_as_it_looks_or_extends(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    pause(conn, PauseKind.TYPE, "test")
    assert len(pausable.find_pausable(conn, PauseKind.TYPE, "test").waiting_for) == 1
    extend(conn, (job.id, job.lease_id))
    assert pausable.find_pausable(conn, PauseKind.TYPE, "test").waiting_for == []
    pause(conn, PauseKind.QUEUE, "default")
    lease(conn)
    assert pausable.find_pausable(conn, PauseKind.QUEUE, "default").waiting_for == []


def test_a_lease_that_is_not_committed_keeps_pauses_and_limits_from_being_in_force(
    conn: Connection, database_url: str
) -> None:
    """Whatever the worker says on other connections, and also if it counts as dead."""
    assert lease(conn) == []
    make_job(conn)
    with closing(connect(database_url)) as other, other.transaction():
        (job,) = lease(other)
        pause(conn, PauseKind.TYPE, "test")
        pause(conn, PauseKind.QUEUE, "default")
        set_limit(conn, max_running=1)
        assert lease(conn) == []
        conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '1 hour'")
        told = f"a transaction that has leased and is not committed (pid {other.info.backend_pid})"
        for kind, name in ((PauseKind.TYPE, "test"), (PauseKind.QUEUE, "default")):
            assert pausable.find_pausable(conn, kind, name).waiting_for == [told]
            assert pauses.list_unconfirmed(conn)[kind, name] == [told]
        assert [each.waiting_for for each in limits.list_limits(conn)] == [[told]]
    assert lease(conn) == []
    for kind, name in ((PauseKind.TYPE, "test"), (PauseKind.QUEUE, "default")):
        assert pausable.find_pausable(conn, kind, name).waiting_for == []
    assert pauses.list_unconfirmed(conn) == {}
    (held,) = limits.list_limits(conn)
    assert (held.running, held.waiting_for) == (1, [])
    assert settle(conn, job.id, job.lease_id) == "completed"


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "new"])
def test_a_lease_that_is_not_committed_keeps_no_other_call_of_its_worker_waiting(
    conn: Connection, database_url: str, *, is_known: bool
) -> None:
    for _ in range(3):
        make_job(conn)
    (first,) = lease(conn, n=1)
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '11 seconds'")
    if not is_known:
        conn.execute("DELETE FROM _ayb_job_workers")
    conn.execute("SET statement_timeout = '5s'")
    conn.execute("SET lock_timeout = '7s'")
    with closing(connect(database_url)) as other, other.transaction():
        (second,) = lease(other, n=1)
        assert extend(conn, (first.id, first.lease_id)) == {first.lease_id: "extended"}
        (third,) = lease(conn, n=1)
        assert len({first.id, second.id, third.id}) == 3
        assert extend(conn, (third.id, third.lease_id)) == {third.lease_id: "extended"}
    assert conn.execute("SHOW lock_timeout").fetchone() == ("7s",)
    assert len(list_daemons(conn)[0].running) == 3


def test_a_lease_that_began_after_a_pause_keeps_it_from_nothing(conn: Connection, database_url: str) -> None:
    pause(conn, PauseKind.TYPE, "test")
    assert lease(conn, "test", "other") == []
    make_job(conn)
    make_job(conn, type="other")
    with closing(connect(database_url)) as other, other.transaction():
        assert [job.type for job in lease(other, "test", "other")] == ["other"]
        assert pausable.find_pausable(conn, PauseKind.TYPE, "test").waiting_for == []


def test_a_worker_is_known_like_a_daemon_and_its_types_are_no_longer_unclaimable(conn: Connection) -> None:
    make_job(conn)
    make_job(conn)
    assert unclaimable_jobs(conn).by_type == {"test": 2}
    lease(conn, n=1)
    assert unclaimable_jobs(conn).by_type == {}
    (seen,) = list_daemons(conn)
    assert (seen.daemon.id, seen.daemon.types, seen.daemon.queues, seen.daemon.version) == (
        "w",
        ["test"],
        ["default"],
        "sql",
    )
    assert len(seen.running) == 1
    assert list_versions(conn) == {}


def test_a_worker_that_an_operator_drains_is_given_no_more(conn: Connection) -> None:
    lease(conn)
    make_job(conn)
    with conn.transaction():
        assert ask_drain(conn, "w")
    assert lease(conn) == []
    assert len(lease(conn, worker="another")) == 1


def test_a_worker_may_not_use_a_daemons_id(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types) VALUES ('d', 'h', 1, '1', 1, '{}', '{}')"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="worker is d, the id of a daemon"):
        lease(conn, worker="d")


def test_a_job_that_the_database_refuses_to_lease_is_told_and_the_others_are_leased(conn: Connection) -> None:
    refused, dropped, good = (make_job(conn, payload={"is": name}) for name in ("refused", "dropped", "good"))
    conn.execute("""
        CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload ->> 'is' = 'refused' THEN RAISE EXCEPTION 'no'; END IF;
            RETURN CASE WHEN NEW.payload ->> 'is' <> 'dropped' THEN NEW END;
        END $$
    """)
    conn.execute("CREATE TRIGGER judge BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION judge()")
    told: list[str] = []
    conn.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    (job,) = lease(conn, n=1)
    assert job.id == good
    assert told == [f"job {refused} was not leased: no", f"job {dropped} was not leased: {KEPT}"]
    assert get_job(conn, dropped).state == "queued"


KEPT = "a trigger or a rule keeps it as it is"


@pytest.mark.parametrize("answer", ["RETURN NULL", "RETURN OLD", "RAISE EXCEPTION 'no'"])
@pytest.mark.parametrize("limited", [False, True])
def test_jobs_that_a_trigger_keeps_from_being_leased_are_told_and_hold_up_no_others(
    conn: Connection, answer: str, limited: bool
) -> None:
    kept, good = [make_job(conn, payload=sql.SQL("'\"kept\"'")) for _ in range(70)], make_job(conn)
    if limited:
        set_limit(conn, max_running=1)
        assert lease(conn, "other") == []
        put_under(conn, [*kept, good])
    conn.execute(f"""
        CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload = '"kept"' AND NEW.state = 'running' THEN {answer}; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER judge BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION judge();
    """)
    told: list[str] = []
    conn.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    (job,) = lease(conn, n=1)
    assert job.id == good
    why = "no" if answer.startswith("RAISE") else KEPT
    assert sorted(told) == sorted(f"job {job_id} was not leased: {why}" for job_id in kept)
    assert {get_job(conn, job_id).state for job_id in kept} == {"queued"}


def test_a_payload_too_large_as_text_fails_its_own_job_and_hides_no_other(conn: Connection) -> None:
    bomb = make_job(conn, payload=payload_bomb(600))
    good = make_job(conn)
    assert [job.id for job in lease(conn)] == [good]
    job = get_job(conn, bomb)
    assert (job.state, job.last_error) == ("failed", "the payload cannot be decoded: it is too large as text")


def test_jobs_are_leased_in_read_committed_alone(conn: Connection) -> None:
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="the transaction is REPEATABLE READ"):
        lease(conn)
    conn.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("call", "words", "field"),
    [
        ("lease(' ', '{a}')", "worker is empty", "worker"),
        ("lease(repeat('x', 101), '{a}')", "worker has 101 characters; at most 100", "worker"),
        ("lease('w', '{}')", "types names no job type", "types"),
        ("lease('w', NULL)", "types names no job type", "types"),
        ("lease('w', '{{a}}')", "types is an array of arrays", "types"),
        ("lease('w', '{a}', '{{a}}')", "queues is an array of arrays", "queues"),
        ("extend(ARRAY[ARRAY[gen_random_uuid()]], '{}')", "ids is an array of arrays", "ids"),
        ("extend('{}', ARRAY[ARRAY[gen_random_uuid()]])", "lease_ids is an array of arrays", "lease_ids"),
        ("lease('w', '{a}', '{NULL}')", "queues names no queue", "queues"),
        ("lease('w', '{a}', n => 0)", "n is 0; it goes from 1 to 1000", "n"),
        ("lease('w', '{a}', lease_s => 'NaN')", "lease_s is NaN; it goes from 1 to 86400", "lease_s"),
        ("extend('{}', NULL)", "lease_ids does not fit ids", "lease_ids"),
        ("extend(ARRAY[gen_random_uuid()], '{}')", "lease_ids does not fit ids", "lease_ids"),
        ("extend('{}', '{}', 0.5)", "lease_s is 0.5; it goes from 1 to 86400", "lease_s"),
        ("settle(NULL, NULL, 'lost')", "outcome is lost; it is completed, failed", "outcome"),
        ("settle(NULL, NULL, NULL)", "outcome is null; it is completed, failed", "outcome"),
        ("settle(NULL, NULL, 'failed')", "error is empty; it says why", "error"),
        ("settle(NULL, NULL, error => 'x')", "error does not go with the outcome completed", "error"),
        ("settle(NULL, NULL, 'failed', 'x', '1')", "result goes with the outcome completed alone", "result"),
        ("settle(NULL, NULL, result => to_jsonb(repeat('x', 65536)))", "result has more than 65536 bytes", "result"),
        ("settle(NULL, NULL, records => -1)", "records is -1; it goes from 0", "records"),
        ("settle(NULL, NULL, 'snoozed')", "delay is missing; it says for how long", "delay"),
        ("settle(NULL, NULL, delay => '1 s')", "delay goes with the outcomes snoozed, failed and timed_out", "delay"),
        ("settle(NULL, NULL, 'snoozed', delay => '-1 s')", "delay is -00:00:01; it goes from 0 seconds", "delay"),
        ("settle(NULL, NULL, 'snoozed', delay => '11 years')", "delay is 11 years; it goes from 0 seconds", "delay"),
    ],
)
def test_a_bad_value_is_refused_by_name(conn: Connection, call: str, words: str, field: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        conn.execute(f"SELECT ayb_jobs.ayb_jobs_{call}".encode())
    assert words in str(refused.value.diag.message_primary)
    assert refused.value.diag.column_name == field


# What extending finds, whoever asks: how the job stands, and what is to be told.
FOUND = {
    "held": "extended",
    "settled": "lost",
    "taken over": "lost",
    "to end canceled": "canceling",
    "locked": "unchanged",
    "kept by a trigger": "unchanged",
    "gone": "lost",
}


@pytest.mark.parametrize(("found", "told"), FOUND.items())
def test_extending_tells_what_a_daemon_is_told(conn: Connection, database_url: str, found: str, told: str) -> None:
    job_id = make_job(conn)
    (job,) = lease(conn, lease_s=1)
    asked = Lease(job_id, job.lease_id)
    if found == "settled":
        settle(conn, *asked)
    elif found == "taken over":
        conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    elif found == "to end canceled":
        cancel_running_job(conn, job_id)
    elif found == "kept by a trigger":
        conn.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        conn.execute("CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()")
    elif found == "gone":
        conn.execute("DELETE FROM _ayb_jobs")
    with closing(connect(database_url)) as other, other.transaction():
        if found == "locked":
            other.execute("SELECT FROM _ayb_jobs FOR UPDATE")
        assert extend(conn, asked, lease_s=500) == {job.lease_id: told}
        touched, canceled = extend_leases(conn, [asked], lease_s=500), extend_canceled(conn, [asked], lease_s=500)
    assert (job.lease_id in touched.done) == (told == "extended")
    assert (job.lease_id in touched.locked | touched.unchanged) == (told == "unchanged")
    assert (job.lease_id in canceled.done) == (told == "canceling")
    if found != "gone":
        heard = get_job(conn, job_id).cancel_heard_at
        assert (heard is not None) == (told == "canceling")


def test_extending_lets_a_lease_run_from_now(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn, lease_s=1)
    extend(conn, (job.id, job.lease_id), lease_s=500)
    assert conn.execute("SELECT lease_until > now() + interval '490 s' FROM _ayb_jobs").fetchone() == (True,)


LIMIT = "INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('l', '{test}', 9, '')"
ENDS = "SELECT lease_until >= %s::timestamptz + interval '60 seconds' FROM _ayb_jobs"
BEATS = "SELECT heartbeat_at >= %s::timestamptz FROM _ayb_job_workers"


@pytest.mark.parametrize("limited", [False, True])
def test_a_lease_begins_when_it_is_taken_or_extended_not_with_its_transaction(conn: Connection, limited: bool) -> None:
    if limited:
        conn.execute(LIMIT)
    make_job(conn)
    with conn.transaction():
        before = later(conn)
        (leased,) = lease(conn)
        assert conn.execute(ENDS, (before,)).fetchall() == [(True,)]
        assert conn.execute(BEATS, (before,)).fetchall() == [(True,)]
        before = later(conn)
        assert extend(conn, (leased.id, leased.lease_id)) == {leased.lease_id: "extended"}
        assert conn.execute(ENDS, (before,)).fetchall() == [(True,)]


def later(conn: Connection) -> Any:
    """Return the present, a moment after the transaction began."""
    row = conn.execute("SELECT clock_timestamp() FROM pg_sleep(0.01)").fetchone()
    assert row is not None
    return row[0]
