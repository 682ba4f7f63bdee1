"""`ayb-jobs why`, by the database and by the API."""

import json

from ayb_jobs.checks.why import why_job
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from tests.checks.test_why import its_queue_is_paused
from tests.cli.conftest import Cli


def test_every_door_tells_the_same_reason(cli: Cli, conn: Connection) -> None:
    job_id = its_queue_is_paused(conn)
    words = why_job(conn, job_id).reason.words
    sentence = f"I{words[1:]}.\n  Do: ayb-jobs queues resume default\n"
    assert cli.ok("why", job_id) == sentence
    assert json.loads(cli.ok("jobs", "show", job_id, "--json"))["waitReason"] == words
    told = json.loads(cli.ok("why", "--queue", "default", "--json"))["items"]
    assert [(each["kind"], each["reason"], each["jobId"]) for each in told] == [("paused", words, job_id)]
    assert cli.ok("why") == f"mail {job_id} in queue default: {words}.\n  Do: ayb-jobs queues resume default\n"
    none = cli("why", "--queue", "none")
    assert (none.code, none.out) == (0, "No job waits in queue none.\n")
    assert cli("why", job_id, "--queue", "default").code == 2
    refused = cli("why", "mail")
    assert (refused.code, "'mail' is not a job's id; give an id, --queue NAME" in refused.err) == (2, True)
    assert "there is no job" in cli("why", "01234567-0123-4123-8123-012345678901").err


def test_a_queue_that_no_daemon_serves_is_told_if_none_of_its_jobs_waits(cli: Cli, conn: Connection) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=["mail"], types=["now"]))
    typed = cli("why", "--queue", "mial")
    assert (typed.code, typed.out) == (0, "No job waits in queue mial.\n")
    assert "no live daemon serves the queue mial" in typed.err
    assert cli("why", "--queue", "mail").err == ""
