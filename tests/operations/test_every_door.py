"""Every operation through every door: the rows, the audit trail, the events and the answers are the same."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.operations import bulk, jobs, schedules
from ayb_jobs.storage.database import Connection, Database
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, Server, serving

JOB = "01890000-0000-7000-8000-00000000000a"
OTHER = "01890000-0000-7000-8000-00000000000b"
SCHEDULE = "01890000-0000-7000-8000-00000000000c"
API = "/api/admin"


@dataclass(frozen=True, slots=True)
class Http:
    """A call over HTTP."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command, by the database and, unless it knows that way alone, by the API."""

    arguments: Sequence[str]
    by_api: bool = True
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An operation asked for in one way, at each door that has it.

    `deeds` are the actions that the audit trail then holds, with what each is about. `refused` is what every door says
    if the operation is refused; nothing may have changed then.
    """

    operation: str
    doors: Sequence[Http | Command]
    deeds: Sequence[tuple[str, str | None]] = ()
    refused: str = ""
    before: Callable[[Connection], object] = lambda _: None


def jobs_of(*states: str) -> Callable[[Connection], object]:
    return lambda conn: [make_job(conn, state, id=id_) for state, id_ in zip(states, (JOB, OTHER), strict=False)]


def a_schedule(**columns: Any) -> Callable[[Connection], object]:
    return lambda conn: make_schedule(
        conn, id=SCHEDULE, name="nightly", job_type="send_mail", next_run_at=sql.SQL("'2090-01-01'"), **columns
    )


def a_key_of_another_type(conn: Connection) -> None:
    make_job(conn, id=JOB, type="test", idempotency_key="k")


def triggering(job_type: str) -> Http:
    query = f'mutation {{ triggerJob(jobName: "{job_type}") {{ success }} }}'
    return Http("POST", "/admin/jobs", {"query": query})


CRONTAB = "0 3 * * * /bin/true\n"
NIGHTLY = ("--name", "nightly", "--job-type", "send_mail", "--cron", "0 3 * * *", "--max-attempts", "5")
CASES: Mapping[str, Case] = {
    "enqueue": Case(
        operation="jobs.enqueue",
        doors=[
            Http("POST", f"{API}/jobs", {"type": "stale_session_cleanup"}),
            Http("POST", f"{API}/jobs", {"type": "stale_session_cleanup", "payload": None}),
            triggering("stale_session_cleanup"),
            Command(["jobs", "enqueue", "stale_session_cleanup"]),
            Command(["jobs", "enqueue", "stale_session_cleanup", "--payload", "null"]),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "enqueue with a key that a job of another type has": Case(
        operation="jobs.enqueue",
        before=a_key_of_another_type,
        doors=[
            Http("POST", f"{API}/jobs", {"type": "send_mail", "idempotencyKey": "k"}),
            Command(["jobs", "enqueue", "send_mail", "--idempotency-key", "k"]),
        ],
        refused=f"the idempotency key belongs to job {JOB}, which is of type test",
    ),
    "enqueue with a key that a job of this type has": Case(
        operation="jobs.enqueue",
        before=a_key_of_another_type,
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "idempotencyKey": "k"}),
            Command(["jobs", "enqueue", "test", "--idempotency-key", "k"]),
        ],
    ),
    "cancel": Case(
        operation="jobs.cancel",
        before=jobs_of("queued"),
        doors=[Http("POST", f"{API}/jobs/{JOB}/cancel"), Command(["jobs", "cancel", JOB])],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel an id written otherwise": Case(
        operation="jobs.cancel",
        before=jobs_of("queued"),
        doors=[Http("POST", f"{API}/jobs/{JOB.upper()}/cancel"), Command(["jobs", "cancel", JOB.upper()])],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel a job that runs": Case(
        operation="jobs.cancel",
        before=jobs_of("running"),
        doors=[Http("POST", f"{API}/jobs/{JOB}/cancel"), Command(["jobs", "cancel", JOB])],
        refused=f"job {JOB} is running; only queued jobs can be canceled",
    ),
    "retry": Case(
        operation="jobs.retry",
        before=jobs_of("failed"),
        doors=[Http("POST", f"{API}/jobs/{JOB}/retry"), Command(["jobs", "retry", JOB])],
        deeds=[("job.retry", JOB)],
    ),
    "retry a job that completed": Case(
        operation="jobs.retry",
        before=jobs_of("completed"),
        doors=[Http("POST", f"{API}/jobs/{JOB}/retry"), Command(["jobs", "retry", JOB])],
        refused=f"job {JOB} is completed; only failed jobs can be retried",
    ),
    "retry many": Case(
        operation="bulk.change",
        before=jobs_of("failed", "failed"),
        doors=[Http("POST", f"{API}/jobs/bulk", {"action": "retry"})],
        deeds=[("jobs.retry", None)],
    ),
    "cancel many": Case(
        operation="bulk.change",
        before=jobs_of("queued", "failed"),
        doors=[Http("POST", f"{API}/jobs/bulk", {"action": "cancel"})],
        deeds=[("jobs.cancel", None)],
    ),
    "count many": Case(
        operation="bulk.count",
        before=jobs_of("queued", "queued"),
        doors=[Http("POST", f"{API}/jobs/bulk", {"action": "cancel", "dryRun": True})],
    ),
    "create": Case(
        operation="schedules.create",
        doors=[
            Http(
                "POST",
                f"{API}/schedules",
                {"name": "nightly", "jobType": "send_mail", "cronExpr": "0 3 * * *", "maxAttempts": 5},
            ),
            Command(["schedules", "create", *NIGHTLY]),
        ],
        deeds=[("schedule.create", "id")],
    ),
    "create under a name that is taken": Case(
        operation="schedules.create",
        before=a_schedule(),
        doors=[
            Http("POST", f"{API}/schedules", {"name": "nightly", "jobType": "a", "cronExpr": "@daily"}),
            Command(["schedules", "create", *NIGHTLY]),
        ],
        refused="there is a schedule named nightly already",
    ),
    "import": Case(
        operation="schedules.create_all",
        doors=[
            Command(
                ["schedules", "import", "crontab", "crontab", "--create", "--timezone", "UTC"],
                by_api=False,
                files={"crontab": CRONTAB},
            )
        ],
        deeds=[("schedule.create", "id")],
    ),
    "update": Case(
        operation="schedules.update",
        before=a_schedule(),
        doors=[
            Http("PUT", f"{API}/schedules/{SCHEDULE}", {"cronExpr": "5 4 * * *", "timeoutSec": 5}),
            Http("PUT", f"{API}/schedules/nightly", {"cronExpr": "5 4 * * *", "timeoutSec": 5}),
            Command(["schedules", "update", "nightly", "--cron", "5 4 * * *", "--timeout", "5s"]),
        ],
        deeds=[("schedule.update", SCHEDULE)],
    ),
    "enable": Case(
        operation="schedules.enable",
        before=lambda conn: make_schedule(conn, id=SCHEDULE, name="nightly", enabled=False, next_run_at=None),
        doors=[
            Http("POST", f"{API}/schedules/nightly/enable"),
            Command(["schedules", "enable", "nightly"]),
        ],
        deeds=[("schedule.enable", SCHEDULE)],
    ),
    "disable": Case(
        operation="schedules.disable",
        before=a_schedule(),
        doors=[
            Http("POST", f"{API}/schedules/nightly/disable"),
            Command(["schedules", "disable", SCHEDULE]),
        ],
        deeds=[("schedule.disable", SCHEDULE)],
    ),
    "delete": Case(
        operation="schedules.delete",
        before=a_schedule(),
        doors=[Http("DELETE", f"{API}/schedules/nightly"), Command(["schedules", "delete", "nightly"])],
        deeds=[("schedule.delete", SCHEDULE)],
    ),
    "trigger": Case(
        operation="schedules.trigger",
        before=a_schedule(enabled=False),
        doors=[
            Http("POST", f"{API}/schedules/nightly/trigger"),
            Command(["schedules", "trigger", SCHEDULE]),
        ],
        deeds=[("schedule.trigger", SCHEDULE)],
    ),
    "trigger what is not there": Case(
        operation="schedules.trigger",
        doors=[Http("POST", f"{API}/schedules/nightly/trigger"), Command(["schedules", "trigger", "nightly"])],
        refused="there is no schedule nightly",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What one call left behind. Ids and instants that the database gave are made equal; who acted is left out.

    `events` is None if nobody listens at that door, `answer` if the door answers in a form of its own.
    """

    jobs: str
    schedules: str
    audit: str
    events: list[ActionTaken] | None
    answer: str | None
    refused: str


def operations_of(module: ModuleType) -> set[str]:
    """Return the public functions that a module of operations defines."""
    short = module.__name__.rpartition(".")[2]
    return {
        f"{short}.{name}"
        for name, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_operation_is_walked_through_its_doors() -> None:
    folder = Path(jobs.__file__).parent
    others = {file.stem for file in folder.glob("*.py")} - {"__init__", "acting", "defaults"}
    assert others == {"jobs", "bulk", "schedules"}  # a new file of operations belongs into this test
    known = operations_of(jobs) | operations_of(bulk) | operations_of(schedules)
    assert {case.operation for case in CASES.values()} == known


@pytest.fixture
def server(db: Database) -> Iterator[Server]:
    with serving(db) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_an_operation_does_the_same_through_every_door(
    name: str, database_url: str, server: Server, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    found = {}
    for door, left in walked(case, database_url, server, conn):
        deeds = conn.execute("SELECT action, target FROM _ayb_job_audit ORDER BY id").fetchall()
        assert [(action, about(target)) for action, target in deeds] == list(case.deeds), door
        assert left.refused == case.refused, door
        if case.refused:
            assert (left.jobs, left.schedules) == before(case, conn), door
        if left.events is not None:
            told = [(event.action, event.target) for event in left.events]
            assert told == list(case.deeds), door
        found[door] = left
    first = next(iter(found.values()))
    for door, left in found.items():
        assert (left.jobs, left.schedules, left.audit) == (first.jobs, first.schedules, first.audit), door
    for part in ("events", "answer"):
        assert len({str(getattr(left, part)) for left in found.values() if getattr(left, part) is not None}) <= 1, part


def about(target: str | None) -> str | None:
    """Return what a deed is about: "id" stands for an id that the database has just given."""
    return target if target in {None, JOB, OTHER, SCHEDULE} else "id"


def walked(case: Case, database_url: str, server: Server, conn: Connection) -> Iterator[tuple[str, Left]]:
    """Give what each door leaves, each on the same rows."""
    by_database = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    by_api = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})
    for door in case.doors:
        match door:
            case Http():
                yield str(door), through(case, server, conn, partial(over_http, server, door))
            case Command():
                for file, text in door.files.items():
                    Path(file).write_text(text, encoding="utf-8")
                yield f"{door} by database", quiet(through(case, server, conn, partial(said, by_database, door)))
                if door.by_api:
                    yield f"{door} by API", through(case, server, conn, partial(said, by_api, door))


def through(case: Case, server: Server, conn: Connection, act: Callable[[], tuple[str | None, str]]) -> Left:
    """Make the rows anew, act, and return what is left."""
    conn.execute("TRUNCATE _ayb_jobs, _ayb_job_schedules, _ayb_job_audit, _ayb_job_executions CASCADE")
    case.before(conn)
    server.told.clear()
    answer, refused = act()
    return Left(
        jobs=rows(conn, "_ayb_jobs"),
        schedules=rows(conn, "_ayb_job_schedules"),
        audit=rows(conn, "_ayb_job_audit"),
        events=[same(event) for event in server.told if isinstance(event, ActionTaken)],
        answer=None if answer is None else plain(json.dumps(json.loads(answer), sort_keys=True)),
        refused=refused,
    )


def quiet(left: Left) -> Left:
    """Return what a door left at which nobody listens: its own process is gone with the answer."""
    assert left.events == []
    return Left(**{name: getattr(left, name) for name in Left.__slots__} | {"events": None})


def over_http(server: Server, door: Http) -> tuple[str | None, str]:
    with server.client() as client:
        answer = client.request(door.method, door.path, json=door.body)
    if answer.is_error:
        return None, answer.json()["message"]
    return (None if door.path == "/admin/jobs" or not answer.text else answer.text), ""


def said(cli: Cli, door: Command) -> tuple[str | None, str]:
    told = cli(*door.arguments, "--json")
    if told.code:
        assert told.out == ""
        return None, told.err.removeprefix("ayb-jobs: ").strip()
    return (None if door.arguments[1] in {"delete", "import"} else told.out), ""


def before(case: Case, conn: Connection) -> tuple[str, str]:
    """Return the rows as they are made for a case."""
    conn.execute("TRUNCATE _ayb_jobs, _ayb_job_schedules CASCADE")
    case.before(conn)
    return rows(conn, "_ayb_jobs"), rows(conn, "_ayb_job_schedules")


def rows(conn: Connection, table: str) -> str:
    """Return a table's rows as JSON, without what differs from call to call."""
    statement = sql.SQL("SELECT to_jsonb(row)::text FROM {} AS row ORDER BY 1").format(sql.Identifier(table))
    return "\n".join(plain(row[0]) for row in conn.execute(statement))


def same(event: ActionTaken) -> ActionTaken:
    """Return an event about no id that the database gave."""
    return ActionTaken(
        actor="", action=event.action, target=about(event.target), count=event.count, enqueued=dict(event.enqueued)
    )


def plain(text: str) -> str:
    """Return JSON with one id for all that the database gave, one instant for all that lie in these years, no actor."""
    for known in (JOB, OTHER, SCHEDULE):
        text = text.replace(known, known[-1])
    text = re.sub(r'"[0-9a-f]{8}-[0-9a-f-]{27}"', '"id"', text)
    text = re.sub(r'"20[2-4]\d-[^"]+"', '"now"', text)
    text = re.sub(r'("(execution_)?id": )\d+', r"\1 0", text)
    return re.sub(r'"actor": "[^"]*"', '"actor": ""', text)
