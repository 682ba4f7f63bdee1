"""Every interleaving of two who enqueue with the same unique key, and of a producer that leases the key's holder.

The same walk with calls that look for a holder and then insert or replace, with no index between them, finds fault.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from ayb_jobs import Conflict, NewJob, Unique, enqueue
from ayb_jobs.model.unique import OnConflict
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.interleaving import Step, actors, begun, commit, play, schedules
from tests.storage.queue.test_limited import LANES

DROP_INDEX = "DROP INDEX idx_ayb_jobs_unique"
LOOK = "SELECT id FROM _ayb_jobs WHERE unique_key = 'k' AND state = 'queued'"
INSERT = "INSERT INTO _ayb_jobs (type, payload, unique_key, unique_waiting) VALUES ('test', %s, 'k', true)"
REPLACE = "UPDATE _ayb_jobs SET payload = %s WHERE id = %s AND state = 'queued'"
QUEUED = "SELECT (payload ->> 'n')::int FROM _ayb_jobs WHERE state = 'queued'"
RUNNING = "SELECT (payload ->> 'n')::int FROM _ayb_jobs WHERE state = 'running'"
Ask = Callable[[int], list[Step]]


def lease(conn: Connection) -> None:
    lease_jobs(conn, worker_id="w", lanes=LANES, types=["test"], limit=9, lease_s=60)


def numbers(conn: Connection, statement: str) -> list[int]:
    return [number for (number,) in conn.execute(statement.encode())]


def asking(on_conflict: OnConflict, committed: list[int]) -> Ask:
    """Return what makes the steps of a call, which enqueues the payload of a number and notes its commit."""

    def act(number: int, conn: Connection) -> None:
        delay = timedelta(0) if on_conflict == "debounce" else None
        unique = Unique(key="k", scope="waiting", on_conflict=on_conflict)
        try:
            enqueue(conn, NewJob(type="test", payload={"n": number}, delay=delay, unique=unique))
        except Conflict:
            conn.execute("ROLLBACK")

    def end(number: int, conn: Connection) -> None:
        commit(conn)
        committed.append(number)

    return lambda number: [begun(partial(act, number)), partial(end, number)]


def looking_first(committed: list[int]) -> Ask:
    """Return the same for a call that looks first."""

    def act(number: int, conn: Connection) -> None:
        payload = json.dumps({"n": number})
        holder = conn.execute(LOOK).fetchone()
        conn.execute(*((REPLACE, (payload, holder[0])) if holder else (INSERT, (payload,))))

    def end(number: int, conn: Connection) -> None:
        commit(conn)
        committed.append(number)

    return lambda number: [begun(partial(act, number)), partial(end, number)]


def walk(conn: Connection, url: str, ask: Ask, committed: list[int], *, replaces: bool) -> list[str]:
    """Return what is wrong after the first interleaving after which anything is.

    Two wait with the key, or a payload is nowhere.
    """
    wrong: list[str] = []
    with actors(url, 3) as cast:
        for schedule in schedules([2, 2, 2]):
            if wrong:
                break
            conn.execute("TRUNCATE _ayb_jobs CASCADE")
            committed.clear()
            play([0, 0], cast[:1], [ask(0)])
            committed.clear()
            play(schedule, cast, [ask(1), ask(2), [begun(lease), commit]])
            queued, running = numbers(conn, QUEUED), numbers(conn, RUNNING)
            if len(queued) > 1:
                wrong.append(f"{schedule}: {queued} wait with one key")
            if replaces and committed[-1] not in queued + running:
                wrong.append(f"{schedule}: what {committed[-1]} enqueued is lost: {queued} wait, {running} run")
            if not queued + running:
                wrong.append(f"{schedule}: nothing is left")
    return wrong


@pytest.mark.parametrize("on_conflict", ["return", "reject", "replace", "debounce"])
def test_no_interleaving_makes_two_holders_of_a_key_or_loses_what_replaces(
    database_url: str, conn: Connection, on_conflict: OnConflict
) -> None:
    committed: list[int] = []
    replaces = on_conflict in {"replace", "debounce"}
    assert walk(conn, database_url, asking(on_conflict, committed), committed, replaces=replaces) == []


def test_the_same_walk_finds_fault_with_calls_that_look_before_they_enqueue(
    database_url: str, conn: Connection
) -> None:
    conn.execute(DROP_INDEX)
    committed: list[int] = []
    assert walk(conn, database_url, looking_first(committed), committed, replaces=True) != []
