"""`ayb-jobs limits`."""

import json

import pytest

from ayb_jobs import NewJob, enqueue
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.put_under import find_removed, free_removed
from tests.cli.conftest import Cli

OLD = "INSERT INTO _ayb_job_workers VALUES ('old', 'h', 7, '0.0.9', 1, '{default}', '{test}')"


def test_limits_are_set_listed_and_removed(cli: Cli, conn: Connection) -> None:
    said = cli.ok("limits", "set", "few", "--type", "a", "--type", "b", "--key-max-running", "3", "--rate", "100/min")
    assert said == "limit few is set: 100/min, 3 at once for each key\n"
    (one,) = json.loads(cli.ok("limits", "list", "--json"))["items"]
    assert {key: one[key] for key in ("types", "keyMaxRunning", "rate", "burst", "waiting", "running", "tokens")} == {
        "types": ["a", "b"], "keyMaxRunning": 3, "rate": "100/min", "burst": 1, "waiting": 0, "running": 0, "tokens": 1,
    }  # fmt: skip
    assert one["waitingFor"] == []
    assert "100/min, 3 at once for each key" in cli.ok("limits", "list")
    job = json.loads(cli.ok("jobs", "enqueue", "a", "--limit-key", "acme", "--json"))
    assert job["limitKey"] == "acme"
    assert cli.ok("limits", "remove", "few") == "limit few is removed\n"
    gone = cli("limits", "remove", "few")
    assert (gone.code, gone.err) == (1, "ayb-jobs: there is no limit few\n")
    deeds = conn.execute(
        "SELECT action, before->>'rate', after->>'rate' FROM _ayb_job_audit WHERE target = 'few' ORDER BY id"
    )
    assert deeds.fetchall() == [("limit.set", None, "100/min"), ("limit.remove", "100/min", None)]


def test_whoever_changes_the_key_field_is_told_that_waiting_jobs_keep_their_keys(cli: Cli, conn: Connection) -> None:
    change = ("limits", "set", "few", "--type", "a", "--max-running", "1", "--key-field")
    cli.ok(*change, "tenant")
    enqueue(conn, NewJob(type="a", payload={"tenant": 7, "customer": 8}))
    lanes = [Lane("default", 2)]
    lease_beside_limits(conn, worker_id="w", lanes=lanes, types=["a"], limit=9, lease_s=60)
    assert cli(*change, "tenant").err == ""
    said = cli(*change, "customer")
    assert said.code == 0
    assert "warning: 1 job that waits keeps its key: the new key field is for jobs that come" in said.err
    assert conn.execute("SELECT limited_key FROM _ayb_jobs").fetchone() == ("7",)
    cli.ok("limits", "remove", "few")
    assert free_removed(conn, find_removed(conn, ["few"])).jobs == 1
    assert cli(*change, "customer").err == ""
    lease_beside_limits(conn, worker_id="w", lanes=lanes, types=["a"], limit=9, lease_s=60)
    assert conn.execute("SELECT limited_key FROM _ayb_jobs").fetchone() == ("8",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing is limited; give max_running, key_max_running, rate or key_rate"),
        (["--rate", "fast"], "rate is 'fast'; give starts in a time, such as 5/s, 100/min, 1000/h or 1/15min"),
        (["--rate", "0/s"], "rate is '0/s'; from one start on to a million a second are possible"),
        (["--max-running", "1", "--burst", "2"], "burst is given without rate; give both"),
    ],
)
def test_a_limit_of_no_use_is_refused(cli: Cli, conn: Connection, arguments: list[str], told: str) -> None:
    said = cli("limits", "set", "few", "--type", "a", *arguments)
    assert said.code == 2
    assert told in said.err
    assert conn.execute("SELECT count(*) FROM _ayb_job_limits").fetchone() == (0,)


def test_a_limits_name_has_no_slash_since_the_pause_of_a_key_has_one_behind_it(cli: Cli, conn: Connection) -> None:
    said = cli("limits", "set", "a/b", "--type", "a", "--max-running", "1")
    assert (said.code, "name has a slash; a limit's name is without" in said.err) == (2, True)
    assert conn.execute("SELECT count(*) FROM _ayb_job_limits").fetchone() == (0,)


def test_whoever_has_not_confirmed_is_named_when_the_time_is_over(cli: Cli, conn: Connection) -> None:
    conn.execute(OLD)
    said = cli("limits", "set", "few", "--type", "a", "--max-running", "1", "--wait", "0.2s")
    assert said.code == 1
    assert (
        "the limit few is set, but these daemons have not confirmed it: old (pid 7 on h, version 0.0.9), after 0.2 s"
        in said.err
    )
    assert len(json.loads(cli.ok("limits", "list", "--json"))["items"]) == 1


def test_a_job_under_a_limit_says_so(cli: Cli, conn: Connection) -> None:
    cli.ok("limits", "set", "few", "--type", "a", "--max-running", "0")
    job = json.loads(cli.ok("jobs", "enqueue", "a", "--limit-key", "acme", "--priority", "3", "--json"))
    conn.execute("INSERT INTO _ayb_job_workers VALUES ('new', 'h', 7, '1', 1, '{default}', '{a}')")
    conn.execute("UPDATE _ayb_jobs SET limited_by = 'few', limited_key = limit_key, priority = priority + 4")
    shown = json.loads(cli.ok("jobs", "show", job["id"], "--json"))
    assert (shown["priority"], shown["limit"], shown["limitKey"]) == (3, "few", "acme")
    assert shown["waitReason"] == "it waits under the limit few: 0 run of 0 at once"
    assert "few, key acme" in cli.ok("jobs", "show", job["id"])
