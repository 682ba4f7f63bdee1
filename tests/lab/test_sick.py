"""The sick database of the demo has every finding of doctor that one database can have at once."""

import re
from contextlib import closing
from pathlib import Path

import pytest

import ayb_jobs.checks
from ayb_jobs.checks import server
from ayb_jobs.cli.commands.doctor import examine
from ayb_jobs.config import Retention
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.demo.sick import SERVER, sick
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.migrate import migrate

pytestmark = pytest.mark.outer

HIDES = "doctor asks nothing else of such a database"
OF_A_DAEMON = "a daemon tells it of itself"
OF_THE_CONFIGURATION = "check-config finds it in a file"
NOT_SHOWN = {
    "clock.skew": "nobody may set this machine's clock for a demo",
    "column.missing": "the daemon that serves the pages would fail",
    "daemon.none": "daemons of several versions are alive there",
    "daemon.stopping": OF_A_DAEMON,
    "database.disk_full": "it needs a disk that is full",
    "database.read_only": HIDES,
    "database.unavailable": HIDES,
    "database.unfit": HIDES,
    "database.unusable": HIDES,
    "jobs.disabled": OF_THE_CONFIGURATION,
    "loop.failing": OF_A_DAEMON,
    "loop.stuck": OF_A_DAEMON,
    "notify.unheard": "it needs a pooler between",
    "queue.not_served": OF_THE_CONFIGURATION,
    "job_type.doubtful": OF_THE_CONFIGURATION,
    "rights.missing": "doctor looks as the superuser, who lacks none",
    "schedule.unknown_job_type": OF_THE_CONFIGURATION,
    "schema.migrating": HIDES,
    "schema.outdated": HIDES,
    "server.notify_queue": "half of the queue is 4 GiB",
    "settings.noted": OF_THE_CONFIGURATION,
    "trigger.changed": "there are two triggers: one is off, and one is missing",
    "zones.differ": "it needs a server with other rules for time zones",
}


def catalogue() -> set[str]:
    """Return the names of all findings, as the checks write them."""
    folder = Path(ayb_jobs.checks.__file__).parent
    written = "".join(path.read_text() for path in folder.glob("*.py"))
    assert 'f"{kind}s.unobeyed"' in written
    return {*re.findall(r'"([a-z]+\.[a-z_]+)"', written), "limits.unobeyed", "pauses.unobeyed"}


def test_the_sick_database_has_every_finding_that_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.0)  # its idle session is found once it has been idle for a minute
    with EmbeddedPostgres.throwaway(settings=SERVER) as own, closing(connect(own.url())) as conn:
        migrate(conn)
        with sick(conn, own.url()):
            report = examine(conn, own.url(), Retention())
    assert report.not_checked == {}
    assert {each.name for each in report.findings} == catalogue() - NOT_SHOWN.keys()
