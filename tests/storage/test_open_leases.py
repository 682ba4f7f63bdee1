"""A pause or a limit is never in force beside a lease of a worker that commits while it is asked."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pausable, pauses
from ayb_jobs.storage.fleet.open_leases import READ_OPEN_BEFORE_PAUSES, read_behind
from tests.eventually import eventually
from tests.factories import make_job
from tests.sql_workers import lease

GATE = 5
# The tables of the connection that asks, with a gate within: a statement that comes to it has its snapshot already.
GATED = f"""
    CREATE FUNCTION pg_temp.gate() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $body$
        BEGIN PERFORM pg_advisory_lock({GATE}), pg_advisory_unlock({GATE}); RETURN true; END
    $body$;
    CREATE TEMPORARY VIEW _ayb_job_workers AS SELECT * FROM public._ayb_job_workers WHERE pg_temp.gate() OFFSET 0;
"""
ANOTHER = """
    INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, pauses_confirmed, limits_confirmed)
    VALUES ('another', 'h', 7, 'sql', 1, '{other}', '{other}', 1000000, 1000000)
"""
WAITS = "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = %s"


def pause(conn: Connection, kind: PauseKind, name: str) -> None:
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=kind, name=name), by="ada")


@pytest.fixture
def worker(conn: Connection, database_url: str) -> Iterator[Connection]:
    """Return the connection of a worker that has leased for the first time, and has not committed."""
    conn.execute(ANOTHER)
    make_job(conn)
    with closing(connect(database_url)) as worker:
        worker.execute("BEGIN")
        assert len(lease(worker)) == 1
        yield worker


def told_by_limits(conn: Connection) -> list[str]:
    (limit,) = limits.list_limits(conn)
    return list(limit.waiting_for)


def told_by_queues(conn: Connection) -> list[str]:
    return list(pausable.find_pausable(conn, PauseKind.QUEUE, "default").waiting_for)


def told_by_types(conn: Connection) -> list[str]:
    return list(pausable.find_pausable(conn, PauseKind.TYPE, "test").waiting_for)


def told_by_keys(conn: Connection) -> list[str]:
    return list(pausable.find_pausable(conn, PauseKind.KEY, "few/a").waiting_for)


def told_by_doctor(conn: Connection) -> list[str]:
    return sorted({told for each in pauses.list_unconfirmed(conn).values() for told in each})


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(told_by_limits, id="limits"),
        pytest.param(told_by_queues, id="queues"),
        pytest.param(told_by_types, id="types"),
        pytest.param(told_by_keys, id="keys"),
        pytest.param(told_by_doctor, id="doctor"),
    ],
)
def test_a_lease_that_is_committed_while_it_is_asked_is_told(
    conn: Connection, worker: Connection, database_url: str, told: Callable[[Connection], list[str]]
) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1), by="ada")
    for kind, name in ((PauseKind.QUEUE, "default"), (PauseKind.TYPE, "test"), (PauseKind.KEY, "few/a")):
        pause(conn, kind, name)
    conn.execute("SELECT pg_advisory_lock(%s)", [GATE])
    with closing(connect(database_url)) as asking, ThreadPoolExecutor(1) as aside:
        asking.execute(GATED.encode())
        answer = aside.submit(told, asking)
        eventually(lambda: conn.execute(WAITS, [asking.info.backend_pid]).fetchone() == (True,))
        worker.execute("COMMIT")
        conn.execute("SELECT pg_advisory_unlock(%s)", [GATE])
        assert answer.result() == [
            f"a transaction that has leased and is not committed (pid {worker.info.backend_pid})"
        ]
        lease(worker)  # it looks again, and confirms
        assert told(asking) == []


class Row(NamedTuple):
    id: int


def test_a_pause_that_comes_after_the_locks_were_read_has_them_read_again(conn: Connection, database_url: str) -> None:
    make_job(conn)
    with closing(connect(database_url)) as worker:

        def read() -> list[Row]:
            if not pauses.list_pauses(conn):
                worker.execute("BEGIN")
                assert len(lease(worker)) == 1
                pause(conn, PauseKind.TYPE, "test")
            return [Row(paused.id) for paused in pauses.list_pauses(conn)]

        ((_, told),) = read_behind(conn, READ_OPEN_BEFORE_PAUSES, read)
        assert told == [f"a transaction that has leased and is not committed (pid {worker.info.backend_pid})"]
