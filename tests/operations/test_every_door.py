"""Every operation through every door: the rows, the audit trail, the events and the answers are the same."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from psycopg import sql

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.words import as_sentence
from ayb_jobs.operations import batches, bulk, daemons, jobs, limits, queues, schedules
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.throwaway import Databases
from tests.cli.conftest import Cli
from tests.http.conftest import ADMIN, Server, serving
from tests.http.dashboard.visiting import Guest, Page, visiting
from tests.operations.cases import CASES, DAEMON, JOB, OTHER, SCHEDULE, Case, Command, Form, Http, Seen, Sent

# Deleting a few rows takes a tenth of the time that truncating takes.
EMPTY = """
    DELETE FROM _ayb_job_dependencies; DELETE FROM _ayb_job_results; DELETE FROM _ayb_job_steps;
    DELETE FROM _ayb_job_outputs; DELETE FROM _ayb_job_executions; DELETE FROM _ayb_job_fires;
    DELETE FROM _ayb_job_batch_callbacks; DELETE FROM _ayb_jobs; DELETE FROM _ayb_job_batches;
    DELETE FROM _ayb_job_schedules; DELETE FROM _ayb_job_audit; DELETE FROM _ayb_job_pauses;
    DELETE FROM _ayb_job_limit_keys; DELETE FROM _ayb_job_limits; DELETE FROM _ayb_job_workers;
"""


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


# A reckoning, and what the command does for a role that may enqueue and see nothing.
OF_ONE_DOOR = {"bulk.most_calls", "jobs.enqueue_unseen"}


def test_every_operation_is_walked_through_its_doors() -> None:
    folder = Path(jobs.__file__).parent
    others = {file.stem for file in folder.glob("*.py")} - {"__init__", "acting", "defaults"}
    assert others == {
        "jobs",
        "batches",
        "bulk",
        "daemons",
        "limits",
        "queues",
        "schedules",
    }  # a new file of operations belongs into this test
    known = operations_of(jobs) | operations_of(bulk) | operations_of(queues) | operations_of(schedules)
    known |= operations_of(limits) | operations_of(daemons) | operations_of(batches)
    known -= OF_ONE_DOOR
    assert {case.operation for case in CASES.values()} == known


# What people do not do by hand: many at once, batches, and whole files.
WITHOUT_A_FORM = {"jobs.enqueue_many", "batches.create", "schedules.create_all"}


def test_every_operation_of_a_person_has_a_form() -> None:
    by_form = {case.operation for case in CASES.values() if any(isinstance(door, Form | Seen) for door in case.doors)}
    assert by_form == {case.operation for case in CASES.values()} - WITHOUT_A_FORM


# One server for all: each door begins on tables that are emptied.
@pytest.fixture(scope="module")
def shared_server(databases: Databases) -> Iterator[Server]:
    with databases.migrated() as url, closing(Database(url, name="test")) as db, serving(db) as running:
        yield running


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.told.clear()
    return shared_server


@pytest.fixture
def database_url(server: Server) -> str:
    return server.services.database.url


def without_advice(refused: str | None) -> str | None:
    """Return a refusal without the flag that the command line names, and other doors do not have."""
    return refused and refused.removesuffix("; --running has it end canceled")


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
        assert without_advice(left.refused) == case.refused, door
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
    return target if target in {None, JOB, OTHER, SCHEDULE, "reports", "test", "few", "few/acme", DAEMON} else "id"


def walked(case: Case, database_url: str, server: Server, conn: Connection) -> Iterator[tuple[str, Left]]:
    """Give what each door leaves, each on the same rows."""
    by_database = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    by_api = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})
    with visiting(server) as guest:
        for door in case.doors:
            match door:
                case Http():
                    yield str(door), through(case, server, conn, partial(over_http, server, door))
                case Form() | Sent() | Seen():
                    yield str(door), through(case, server, conn, partial(in_the_dashboard, guest, door, case.refused))
                case Command():
                    for file, text in door.files.items():
                        Path(file).write_text(text, encoding="utf-8")
                    yield f"{door} by database", quiet(through(case, server, conn, partial(said, by_database, door)))
                    if door.by_api:
                        yield f"{door} by API", through(case, server, conn, partial(said, by_api, door))


def through(case: Case, server: Server, conn: Connection, act: Callable[[], tuple[str | None, str]]) -> Left:
    """Make the rows anew, act, and return what is left."""
    conn.execute(EMPTY)
    case.before(conn)
    server.told.clear()
    answer, refused = act()
    return Left(
        jobs=rows(conn, "_ayb_jobs"),
        schedules=rows(conn, "_ayb_job_schedules"),
        audit=uncounted(rows(conn, "_ayb_job_audit")),
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


def in_the_dashboard(guest: Guest, door: Form | Sent | Seen, refusal: str) -> tuple[str | None, str]:
    """Act as somebody who visits the dashboard; the answer is a page, whose words are compared if it refuses."""
    page = pressed(guest, door)
    if page.status < 400:
        return None, ""
    return None, refusal if refusal and as_sentence(refusal) in page.text else f"{page.status} {page.text}"


def pressed(guest: Guest, door: Form | Sent | Seen) -> Page:
    match door:
        case Form():
            return guest.press(guest.get(door.page), door.button, **door.typed)
        case Sent():
            key = guest.get("/zone").form("Use it").fields["form_key"]
            return guest.send(door.path, {"form_key": key, **door.fields})
        case Seen():
            page = guest.get(door.page)
            assert page.headline == door.words
            return page


def said(cli: Cli, door: Command) -> tuple[str | None, str]:
    told = cli(*door.arguments, "--json")
    if told.code:
        assert told.out == ""
        return None, told.err.removeprefix("ayb-jobs: ").strip()
    return (None if door.arguments[1] in {"delete", "import"} else told.out), ""


def before(case: Case, conn: Connection) -> tuple[str, str]:
    """Return the rows as they are made for a case."""
    conn.execute(EMPTY)
    case.before(conn)
    return rows(conn, "_ayb_jobs"), rows(conn, "_ayb_job_schedules")


def rows(conn: Connection, table: str) -> str:
    """Return a table's rows as JSON, without what differs from call to call."""
    statement = sql.SQL("SELECT to_jsonb(row)::text FROM {} AS row ORDER BY 1").format(sql.Identifier(table))
    return "\n".join(plain(row[0]) for row in conn.execute(statement))


def uncounted(audit: str) -> str:
    """Return deeds without when a form counted: it leaves out what was made since, and says so."""
    return audit.replace(', "until": "now"', "")


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
    text = re.sub(r'"form:[0-9a-f]+"', "null", text)
    text = re.sub(r'("silentSec": )[^,}]+', r"\1 0", text)
    text = re.sub(r'("(execution_)?id": )\d+', r"\1 0", text)
    return re.sub(r'"(actor|by|setBy)": "[^"]*"', r'"\1": ""', text)
