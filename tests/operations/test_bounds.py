"""A payload beyond the bounds of its type is refused by every operation that takes one, and nothing changes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.bounds import Bounds
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.operations import jobs, schedules
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.factories import make_schedule

ACTOR = Actor(name="test")
HOSTILE = {"days": -10}
PRUNING = """
[job_types.prune]
delete_from = "carts"
where = "age > %(days)s"
payload = { days = 30 }
payload_min = { days = 1 }
"""


def defaults(job_type: str) -> Defaults:
    assert job_type == "prune"
    return Defaults({"days": 30}, 3, Bounds(least={"days": 1}))


def enqueue(conn: Connection, payload: Any) -> object:
    return jobs.enqueue(conn, {"type": "prune", "payload": payload}, actor=ACTOR, defaults=defaults)


def create(conn: Connection, payload: Any) -> object:
    new = NewSchedule(name="new", job_type="prune", cron="@daily", payload=payload)
    return schedules.create(conn, new, actor=ACTOR, defaults=defaults)


def update(conn: Connection, payload: Any) -> object:
    return schedules.update(conn, "old", {"payload": payload}, actor=ACTOR, defaults=defaults)


OPERATIONS = [enqueue, create, update]


def everything(conn: Connection) -> list[tuple[Any, ...]]:
    return [
        *conn.execute("SELECT type, payload FROM _ayb_jobs"),
        *conn.execute("SELECT name, payload FROM _ayb_job_schedules"),
        *conn.execute("SELECT action FROM _ayb_job_audit"),
    ]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_with_a_payload_keeps_to_its_bounds(
    operation: Callable[[Connection, Mapping[str, Any]], object], conn: Connection
) -> None:
    make_schedule(conn, name="old", job_type="prune")
    before = everything(conn)
    with pytest.raises(InvalidInput, match=r"^payload\.days is -10; it should be a number of at least 1$"):
        operation(conn, HOSTILE)
    assert everything(conn) == before
    operation(conn, {"days": 1})
    assert everything(conn) != before


def test_the_command_line_keeps_to_the_settings_bounds(database_url: str, tmp_path: Path, conn: Connection) -> None:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(PRUNING)
    cli = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_CONFIG": str(file)})
    said = cli("jobs", "enqueue", "prune", "--payload", '{"days": -10}')
    assert said.code == 2
    assert "payload.days is -10; it should be a number of at least 1" in said.err
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)
