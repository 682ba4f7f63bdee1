"""`ayb-jobs queues` and `ayb-jobs types`."""

import json
import threading
from typing import Any

import pytest

from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running
from tests.runtime.test_pauses import Handlers

OLD = "INSERT INTO _ayb_job_workers VALUES ('old', 'h', 7, '0.0.9', 1, '{default}', '{test}')"


def items(cli: Cli, group: str) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(cli.ok(group, "list", "--json"))["items"]}


@pytest.mark.parametrize(("group", "name"), [("queues", "default"), ("types", "test")])
def test_pausing_and_resuming_are_told_everywhere(cli: Cli, conn: Connection, group: str, name: str) -> None:
    job_id = make_job(conn)
    kind = group[:-1]
    said = cli.ok(group, "pause", name, "--reason", "ünder repair", "--until", "2h")
    assert said == f"{kind} {name} is paused; 0 of its jobs run\n"
    one = items(cli, group)[name]
    assert (one["due"], one["running"], one["paused"]["reason"]) == (1, 0, "ünder repair")
    assert one["waitingFor"] == []
    assert one["paused"]["until"] > one["paused"]["since"]
    assert "ünder repair" in cli.ok(group, "list")
    waits = json.loads(cli.ok("jobs", "show", job_id, "--json"))["waitReason"]
    assert waits.startswith(f"its {kind} {name} is paused until 20")
    assert waits.endswith(": ünder repair")
    assert cli.ok(group, "resume", name) == f"{kind} {name} is resumed; 1 job is due\n"
    refused = cli(group, "resume", name)
    assert (refused.code, refused.err) == (1, f"ayb-jobs: the {kind} {name} is not paused\n")
    deeds = conn.execute("SELECT action, target, before->>'reason', after->>'reason' FROM _ayb_job_audit ORDER BY id")
    assert deeds.fetchall() == [
        (f"{kind}.pause", name, None, "ünder repair"), (f"{kind}.resume", name, "ünder repair", None),
    ]  # fmt: skip


def test_a_name_of_any_characters_can_be_paused(cli: Cli) -> None:
    for name in ("a/b", "ü ?#%", "..", "pause"):
        cli.ok("queues", "pause", name)
        assert "paused" in items(cli, "queues")[name]
        cli.ok("queues", "resume", name)
    for bad in ("", "x" * 101):
        assert cli("queues", "pause", bad).code == 2


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_a_pause_that_would_be_over_is_refused_and_the_one_that_stands_stays(cli: Cli, until: str) -> None:
    cli.ok("queues", "pause", "default", "--reason", "stays")
    refused = cli("queues", "pause", "default", "--until", until)
    assert (refused.code, refused.err) == (
        2,
        f"ayb-jobs: until is {until[:10]}T00:00:00Z, which is over; name a later time\n",
    )
    assert items(cli, "queues")["default"]["paused"]["reason"] == "stays"


def test_a_key_of_the_longest_name_can_be_paused(cli: Cli, conn: Connection) -> None:
    limit, key = "l" * 100, "k" * 200
    cli.ok("limits", "set", limit, "--type", "sync", "--key-field", "tenant", "--key-max-running", "1")
    cli.ok("keys", "pause", f"{limit}/{key}")
    assert "paused" in items(cli, "keys")[f"{limit}/{key}"]
    cli.ok("keys", "resume", f"{limit}/{key}")
    deeds = conn.execute("SELECT action FROM _ayb_job_audit WHERE target = %s ORDER BY id", (f"{limit}/{key}",))
    assert [action for (action,) in deeds] == ["key.pause", "key.resume"]


def test_whoever_has_not_confirmed_is_named_when_the_time_is_over(cli: Cli, conn: Connection) -> None:
    conn.execute(OLD)
    said = cli("queues", "pause", "default", "--wait", "0.2s")
    assert said.code == 1
    assert (
        "is paused, but these daemons have not confirmed it: old (pid 7 on h, version 0.0.9), after 0.2 s" in said.err
    )
    assert "paused" in items(cli, "queues")["default"]


def test_draining_waits_for_what_runs(database_url: str, cli: Cli, conn: Connection) -> None:
    handlers = Handlers()
    make_job(conn)
    with running(database_url, handlers.registry):
        eventually(lambda: handlers.began)
        late = cli("queues", "pause", "default", "--drain", "--wait", "0.5s")
        assert late.code == 1
        assert "1 of its jobs still run, after 0.5 s" in late.err
        threading.Timer(0.2, handlers.go.set).start()
        assert cli.ok("queues", "pause", "default", "--drain") == "queue default is paused; 0 of its jobs run\n"
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("completed",)


def test_a_list_of_jobs_says_which_are_paused(cli: Cli, conn: Connection) -> None:
    make_job(conn, type="held", queue="heavy")
    make_job(conn, type="mail")
    make_job(conn, "completed", type="held", queue="heavy")
    cli.ok("queues", "pause", "heavy")
    lines = [line.split("\t") for line in cli.ok("jobs", "list").splitlines()[1:]]
    assert [(line[1], line[2], line[6] == "paused") for line in lines] == [
        ("completed", "held", False), ("queued", "mail", False), ("queued", "held", True),
    ]  # fmt: skip
