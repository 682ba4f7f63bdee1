"""The numbers of a payload come through every door as they are, or are refused by name."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs import InvalidInput, NewJob, enqueue, enqueue_many
from ayb_jobs.config import display
from ayb_jobs.errors import ConfigError
from ayb_jobs.handlers.kinds.parameters import bound
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.shipped import shipped_schedules
from ayb_jobs.model.digits import exact, json_text, shown_json
from ayb_jobs.model.schedules.importing.celery_beat import read_beat
from ayb_jobs.model.schedules.importing.imported import Imported, as_toml
from ayb_jobs.operations import jobs as operations
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.definitions import list_drift, upsert_defaults
from ayb_jobs.storage.schedules.importing import beat_tasks
from tests.cli.conftest import Cli
from tests.config.test_config import load
from tests.factories import make_job
from tests.model.schedules.importing.reading_back import settings_of

NUMBERS = ["1.10", "0.1000000000000000055511151231257827", "12345678901234567890.5", "123456789012345678901234567890"]
JOBS = "SELECT payload::text FROM _ayb_jobs ORDER BY created_at DESC, id DESC LIMIT 1"
SCHEDULES = "SELECT payload::text FROM _ayb_job_schedules WHERE name NOT LIKE 'prune%'"
BEAT = """
    CREATE TABLE django_celery_beat_crontabschedule (id int, minute text, hour text, day_of_week text,
        day_of_month text, month_of_year text, timezone text);
    CREATE TABLE django_celery_beat_intervalschedule (id int, every int, period text);
    CREATE TABLE django_celery_beat_periodictask (name text, task text, args text, kwargs text, queue text,
        enabled bool, crontab_id int, interval_id int, one_off bool DEFAULT false, expires timestamptz);
    INSERT INTO django_celery_beat_intervalschedule VALUES (1, 2, 'hours');
"""
# Returns the payload as JSON text, after it came through a door as the text of `{"n": number, "deep": [number]}`.
Door = Callable[[Connection, str, Path, Cli], str]


def row(conn: Connection, statement: str) -> str:
    (text,) = conn.execute(statement).fetchone() or ("",)
    return str(text)


def by_enqueue(conn: Connection, payload: str, _path: Path, _cli: Cli) -> str:
    enqueue(conn, NewJob(type="t", payload=_decimals(payload)))
    return row(conn, JOBS)


def by_enqueue_many(conn: Connection, payload: str, _path: Path, _cli: Cli) -> str:
    enqueue_many(conn, [NewJob(type="t", payload=_decimals(payload))])
    return row(conn, JOBS)


def by_running_again(conn: Connection, payload: str, _path: Path, _cli: Cli) -> str:
    old = make_job(conn, "completed")
    conn.execute("UPDATE _ayb_jobs SET payload = %s", (payload,))
    operations.run_again(conn, old, {}, actor=Actor(name="test"), defaults=lambda _: Defaults({}, 3))
    return row(conn, JOBS)


def by_command(conn: Connection, payload: str, _path: Path, cli: Cli) -> str:
    said = cli("jobs", "enqueue", "t", "--payload", payload)
    if said.code:
        raise InvalidInput(said.err)
    return row(conn, JOBS)


def by_job_type(_conn: Connection, payload: str, path: Path, _cli: Cli) -> str:
    config = load(f"[job_types.t]\nstatements = ['SELECT 1']\npayload = {_toml(payload)}\n", path)
    assert json.loads(shown_json(display.as_json(config)), parse_float=Decimal)["job_types.t.payload"][
        "value"
    ] == exact(payload)
    assert load(display.as_toml(config), path).job_types["t"].payload == exact(payload)
    return json_text(config.job_types["t"].payload)


def by_schedule(conn: Connection, payload: str, path: Path, cli: Cli) -> str:
    config = load(
        f"[handlers]\npacks = []\n[job_types.t]\nstatements = ['SELECT 1']\n"
        f"[schedules.s]\njob_type = 't'\ncron = '@daily'\npayload = {_toml(payload)}\n",
        path,
    )
    shipped = shipped_schedules(config, build_registry(config))
    upsert_defaults(conn, shipped)
    stored = row(conn, SCHEDULES)
    assert list_drift(conn, shipped) == []
    conn.execute("UPDATE _ayb_job_schedules SET payload = '{\"n\": 0.5}'")
    [drift] = list_drift(conn, shipped)
    assert drift.fields == {"payload": (exact(payload), {"n": Decimal("0.5")})}
    said = cli("schedules", "diff", "--config", str(path / "ayb-jobs.toml"), "--json")
    assert json.loads(said.out, parse_float=Decimal)["items"][0]["fields"]["payload"]["defined"] == exact(payload)
    return stored


def by_beat(conn: Connection, payload: str, _path: Path, _cli: Cli) -> str:
    conn.execute(BEAT)
    statement = "INSERT INTO django_celery_beat_periodictask VALUES ('a', 'app.a', '[]', %s, NULL, true, NULL, 1)"
    conn.execute(statement, (payload,))
    [entry] = read_beat(beat_tasks(conn))
    return _printed(entry)


def _printed(entry: Imported) -> str:
    """Return what a schedule's payload is after it was printed as settings and read back."""
    if entry.schedule is None:
        raise InvalidInput(f"{entry.notes}")
    [table] = settings_of([entry]).schedules.values()
    assert table.payload == entry.schedule.payload, as_toml([entry])
    return entry.schedule.payload_text


def _decimals(payload: str) -> Any:
    return json.loads(payload, parse_float=Decimal)


def _toml(payload: str) -> str:
    return re.sub(r'"(\w+)": ', r"\1 = ", payload)


DOORS: list[Door] = [
    by_enqueue, by_enqueue_many, by_running_again, by_command, by_job_type, by_schedule, by_beat,
]  # fmt: skip


@pytest.fixture
def cli(database_url: str) -> Cli:
    return Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("number", NUMBERS)
def test_the_digits_of_a_payloads_numbers_are_kept_through_every_door(
    door: Door, number: str, conn: Connection, tmp_path: Path, cli: Cli
) -> None:
    came = json.loads(
        door(conn, f'{{"n": {number}, "deep": [{number}]}}', tmp_path, cli), parse_float=str, parse_int=str
    )
    assert came == {"n": number, "deep": [number]}


REFUSED = (
    r"payload\.n: \S+ is too (large|small) a number|payload\.n: inf cannot|1e-?\d+ is too (large|small)|are not JSON"
)


# Of a row that holds 1e400, jsonb gives the whole number, with which Python computes.
REFUSING = [
    (door, number) for door in DOORS for number in ("1e400", "-1e400", "1e-400") if door is not by_running_again
]


@pytest.mark.parametrize(("door", "number"), [*REFUSING, (by_running_again, "1e-400")])
def test_a_number_that_no_handler_could_compute_with_is_refused_at_every_door(
    door: Door, number: str, conn: Connection, tmp_path: Path, cli: Cli
) -> None:
    with pytest.raises((InvalidInput, ConfigError), match=REFUSED):
        door(conn, f'{{"n": {number}}}', tmp_path, cli)


def test_sql_sees_one_type_of_number_whether_a_job_or_the_settings_give_it() -> None:
    for given in ({}, {"days": 1.5}):
        [value] = bound(given, {"days": Decimal("1.5")}).values()
        assert (type(value), value) == (float, 1.5)
