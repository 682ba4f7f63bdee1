"""Counts that end at a bound say so, in one shape, over HTTP, on the command line and on the pages."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from ayb_jobs.checks.glance import glance
from ayb_jobs.cli.commands.top.tables import daemon_row
from ayb_jobs.config import Retention
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.throwaway import Databases
from tests.cli.conftest import Cli
from tests.factories import make_job
from tests.http.conftest import ADMIN, Server, serving
from tests.http.dashboard.visiting import Guest, visiting

BATCH = "01890000-0000-7000-8000-0000000000ba"
OTHER = "01890000-0000-7000-8000-0000000000bb"
JOB = "01890000-0000-7000-8000-0000000000bc"
# A hundred thousand due jobs in one queue, of one type, batch and key; then one of each in a queue behind it.
MANY = f"""
    INSERT INTO _ayb_job_batches (id, sealed_at) VALUES ('{BATCH}', now()), ('{OTHER}', now());
    INSERT INTO _ayb_jobs (type, batch_id, limited_by, limited_key, priority, run_at)
    SELECT 'mail', '{BATCH}', 'few', 'a', 6, now() - interval '1 hour' FROM generate_series(1, 100000);
    INSERT INTO _ayb_jobs (id, type, queue, batch_id, limited_by, limited_key, priority, run_at)
    VALUES ('{JOB}', 'small', 'small', '{OTHER}', 'other', 'b', 6, now() - interval '1 hour');
    INSERT INTO _ayb_jobs (type, state, attempts, last_run_at, lease_until, lease_id, execution_id, worker_id)
    SELECT 'run', 'running', 1, now(), now() + interval '1 hour', gen_random_uuid(), nextval('_ayb_job_execution_ids'), 'full'
    FROM generate_series(1, 1001);
"""


class Doors(NamedTuple):
    """The ways in to one database that nobody changes."""

    conn: Connection
    server: Server
    guest: Guest
    clis: tuple[Cli, Cli]

    def get(self, path: str) -> dict[str, Any]:
        with self.server.client() as api:
            found: dict[str, Any] = api.get(path).raise_for_status().json()
            return found

    def printed(self, *command: str) -> str:
        """Return what a command prints, which is the same on both ways."""
        by_database, by_api = (cli.ok(*command) for cli in self.clis)
        assert by_database == by_api
        return by_database


@pytest.fixture(scope="module")
def doors(databases: Databases) -> Iterator[Doors]:
    with databases.migrated() as url, closing(Database(url)) as db, serving(db) as server, db.connection() as conn:
        for name, types in (("few", ["mail"]), ("other", ["small"])):
            with conn.transaction():
                set_limit(conn, NewLimit(name=name, types=types, max_running=0), by="ada")
        conn.execute(MANY)
        for name in ("full", "idle"):
            daemon = DaemonRecord(
                id=name, host=name, pid=1, version="1", concurrency=2000, queues=["none"], types=["none"]
            )
            beat(conn, daemon)
        make_job(conn, "running", worker_id="idle")
        by_api = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})
        with visiting(server) as guest:
            yield Doors(conn, server, guest, (Cli({"AYB_JOBS_DATABASE_URL": url, "AYB_JOBS_ENABLED": "true"}), by_api))


LISTS = {
    "queues": ("due", "default", 10_000, "small"),
    "keys": ("due", "few/a", 10_000, "other/b"),
    "limits": ("waiting", "few", 10_000, "other"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_count_that_ends_at_its_bound_is_at_least_so_much(doors: Doors, what: str) -> None:
    field, many, bound, one = LISTS[what]
    answer = doors.get(f"/api/admin/{what}")
    found = {item["name"]: item for item in answer["items"]}
    assert (found[many][field], found[many]["atLeast"]) == (bound, True)
    assert (found[one][field], found[one]["atLeast"]) == (1, False)
    assert doors.get(f"/api/admin/{what}/{many}")["atLeast"]
    lines = {line.split("\t")[0]: line for line in doors.printed(what, "list").splitlines()}
    assert f"\t{bound}+\t" in lines[many]
    assert "\t1\t" in lines[one]


def test_of_types_all_counts_are_at_least_so_much_if_not_all_due_jobs_were_looked_at(doors: Doors) -> None:
    found = {item["name"]: item for item in doors.get("/api/admin/types")["items"]}
    assert (found["mail"]["due"], found["mail"]["atLeast"]) == (10_000, True)
    assert (found["run"]["due"], found["run"]["atLeast"]) == (0, True)
    assert "mail\t10000+\t0" in doors.printed("types", "list")
    small = doors.get("/api/admin/types/small")
    assert (small["due"], small["atLeast"]) == (0, True)


def test_jobs_that_nobody_can_run_are_at_least_so_many(doors: Doors) -> None:
    stats = doors.get("/api/admin/jobs/stats")
    assert (stats["unclaimable"]["small"], stats["unclaimableAtLeast"]) == (1, True)
    assert 10_000 <= stats["unclaimable"]["mail"] < 100_000
    for cli in doors.clis:
        assert re.search(
            r"no live daemon can run them: mail [0-9,]+, small 1, and there may be more\.", cli("jobs", "stats").err
        )


def test_reasons_are_of_at_least_so_many_jobs(doors: Doors) -> None:
    found = {item["type"]: item for item in doors.get("/api/admin/why")["items"]}
    assert (found["mail"]["jobs"], found["mail"]["atLeast"]) == (1000, True)
    assert (found["small"]["jobs"], found["small"]["atLeast"]) == (1, False)
    words = doors.printed("why")
    assert "At least 1,000 mail jobs in queue default" in words or "at least 1,000 mail jobs in queue default" in words
    assert f"small {JOB} in queue small" in words


def test_a_large_batch_has_at_least_so_many_jobs_and_no_percentage(doors: Doors) -> None:
    found = {item["id"]: item for item in doors.get("/api/admin/batches")["items"]}
    assert (found[BATCH]["progress"]["queued"], found[BATCH]["progress"]["atLeast"]) == (100_000, True)
    assert "percent" not in found[BATCH]["progress"]
    assert found[BATCH]["waitsFor"] == "at least 100,000 of its jobs to end"
    assert (found[OTHER]["progress"]["percent"], found[OTHER]["progress"]["atLeast"]) == (0, False)
    lines = {line.split("\t")[0]: line for line in doors.printed("batches", "list").splitlines()}
    assert "\t100000+\t\t" in lines[BATCH]
    assert "\t1\t0 %\t" in lines[OTHER]
    one = doors.get(f"/api/admin/batches/{BATCH}")["progress"]
    assert (one["total"], one["percent"], one["atLeast"]) == (100_000, 0, False)
    assert "0+ of 100,000+" in doors.guest.get("/batches").text


def test_a_daemon_runs_at_least_so_many(doors: Doors) -> None:
    found = {item["id"]: item for item in doors.get("/api/admin/workers")["items"]}
    assert (len(found["full"]["running"]), found["full"]["atLeast"]) == (1000, True)
    assert (len(found["idle"]["running"]), found["idle"]["atLeast"]) == (1, False)
    assert "1,001+ of 4,000 slots busy" in doors.guest.get("/daemons").text
    details = glance(doors.conn, Retention()).details
    assert details
    assert {each.daemon.id: daemon_row(each, "alive")[2] for each in details.daemons} == {
        "full": "1,000+ of 2,000",
        "idle": "1 of 2,000",
    }


@pytest.mark.parametrize("what", ["queues", "types", "keys", "why"])
def test_a_list_that_ends_at_its_bound_says_so(doors: Doors, what: str) -> None:
    """Made and taken back, since the other tests want to see short lists."""
    limited = ", limited_by, limited_key, priority"
    made = f"INSERT INTO _ayb_jobs (type, queue, run_at{limited}) SELECT 't' || n, 'q' || n, now(), 'few', 'k' || n, 6"
    doors.conn.execute(f"{made} FROM generate_series(1, 1001) AS n")
    doors.conn.execute(
        "INSERT INTO _ayb_job_pauses (kind, name, paused_by) SELECT 'type', 't' || n, 'x' FROM generate_series(1, 1001) AS n"
    )
    try:
        path, command = f"/api/admin/{what}", [what] if what == "why" else [what, "list"]
        assert doors.get(path)["atLeast"]
        for cli in doors.clis:
            nouns = "groups of waiting jobs" if what == "why" else what
            assert f"There are more {nouns} than are listed here." in cli(*command).err
            assert "There are more of them than are listed here." in cli(*command, "--output", "json").err
            assert isinstance(json.loads(cli(*command, "--output", "json").out), list)
        if what == "queues":
            assert doors.get(f"{path}/q999")["due"] == 1
    finally:
        doors.conn.execute("DELETE FROM _ayb_jobs WHERE queue LIKE 'q%'; DELETE FROM _ayb_job_pauses")
        assert not doors.get(path)["atLeast"]
