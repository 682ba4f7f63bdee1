"""`ayb-jobs drain`."""

import json
import threading

from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat, forget_daemons
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

LISTENING = "SELECT FROM pg_stat_activity WHERE application_name = 'ayb-jobs-notifier'"


def alive(conn: Connection, *ids: str) -> list[DaemonRecord]:
    made = [
        DaemonRecord(id=id_, host="h", pid=7, version="1", concurrency=1, queues=["default"], types=[]) for id_ in ids
    ]
    for daemon in made:
        beat(conn, daemon)
    return made


def asked(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT id FROM _ayb_job_workers WHERE drain_requested_at IS NOT NULL")]


def test_the_only_daemon_need_not_be_named(cli: Cli, conn: Connection) -> None:
    assert cli("drain").err == "ayb-jobs: no daemon is alive\n"
    alive(conn, "h:1:a")
    make_job(conn, "running", worker_id="h:1:a")
    assert cli.ok("drain") == "daemon h:1:a drains; it holds 1 job\n"
    assert asked(conn) == ["h:1:a"]
    told = json.loads(cli.ok("drain", "h:1", "--json"))
    assert (told["id"], "drainRequestedAt" in told) == ("h:1:a", True)
    assert cli.ok("drain", "--output", "csv").splitlines() == ["ID,RUNNING", "h:1:a,1"]


def test_several_daemons_are_listed_and_none_is_drained(cli: Cli, conn: Connection) -> None:
    alive(conn, "h:1:a", "h:2:b")
    said = cli("drain")
    assert said.code == 2
    assert said.err.splitlines() == [
        "h:1:a holds 0 jobs",
        "h:2:b holds 0 jobs",
        "ayb-jobs: 2 daemons are alive; name one, by its id or a part of it that no other has",
    ]
    assert asked(conn) == []


def test_a_daemon_that_is_silent_or_gone_is_not_drained(cli: Cli, conn: Connection) -> None:
    alive(conn, "h:1:a")
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes'")
    assert cli("drain", "h:1:a").err == "ayb-jobs: there is no live daemon h:1:a\n"
    assert cli("drain", "a/b ü?").err == "ayb-jobs: there is no live daemon a/b ü?\n"
    assert asked(conn) == []


def test_waiting_tells_what_is_held_until_the_daemon_is_gone(cli: Cli, conn: Connection) -> None:
    alive(conn, "h:1:a")
    late = cli("drain", "--wait", "0.1s")
    assert (late.code, late.err.splitlines()) == (
        1, ["waiting: it holds 0 jobs", "ayb-jobs: daemon h:1:a drains, but still holds 0 jobs, after 0.1 s"],
    )  # fmt: skip
    threading.Timer(0.2, forget_daemons, (conn, ["h:1:a"])).start()
    assert cli.ok("drain", "--wait", "1m") == "daemon h:1:a has ended\n"


def test_a_request_is_heard_with_each_beat_and_outlives_them(db: Database, conn: Connection, database_cli: Cli) -> None:
    heard: list[int] = []
    (daemon,) = alive(conn, "h:1:a")
    heartbeat = Heartbeat(database=db, daemon=daemon, emit=lambda _: None, on_drain=lambda: heard.append(1))
    heartbeat.tick()
    assert heard == []
    database_cli.ok("drain", "h:1:a")
    (first,) = conn.execute("SELECT drain_requested_at FROM _ayb_job_workers").fetchall()
    heartbeat.tick()
    database_cli.ok("drain", "h:1:a")
    heartbeat.tick()
    assert heard == [1, 1]
    assert conn.execute("SELECT drain_requested_at FROM _ayb_job_workers").fetchall() == [first]


def test_a_daemon_without_notifications_hears_by_its_heartbeat(
    database_url: str, conn: Connection, database_cli: Cli
) -> None:
    heard = threading.Event()
    with running(database_url, Registry(), notify=False) as one:
        one.daemon.on_drain_asked = heard.set
        eventually(lambda: conn.execute("SELECT FROM _ayb_job_workers").fetchone() is not None)
        database_cli.ok("drain")
        assert not heard.is_set()
        one.daemon._parts.loops["heartbeat"].wake()  # the next beat, 20 s early
        assert heard.wait(10)
    assert asked(conn) == []


def test_a_notification_tells_a_daemon_at_once(database_url: str, conn: Connection, database_cli: Cli) -> None:
    heard = threading.Event()
    with running(database_url, Registry()) as one:
        one.daemon.on_drain_asked = heard.set
        eventually(lambda: conn.execute("SELECT FROM _ayb_job_workers").fetchone() is not None)
        eventually(lambda: conn.execute(LISTENING).fetchone() is not None)
        database_cli.ok("drain")
        assert heard.wait(10)  # a beat comes every 20 s
