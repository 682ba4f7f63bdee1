"""A schedule's fields are listed once; whatever must list them beside that lists the same."""

import re
from dataclasses import fields

import click
import pytest

from ayb_jobs.cli.commands.schedules.create import create
from ayb_jobs.cli.commands.schedules.fields import body_of
from ayb_jobs.cli.commands.schedules.update import update
from ayb_jobs.http.bodies import ScheduleShape
from ayb_jobs.http.routes.schedules import CreateBody, PatchBody
from ayb_jobs.model.schedules.fields import FIELDS
from ayb_jobs.model.schedules.schedule import NewSchedule, Schedule
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.schedules import CHANGE_SCHEDULE, CREATE_SCHEDULE, create_schedule
from ayb_jobs.wire.names import api_name
from ayb_jobs.wire.schedules import BODY_FIELDS, READ_ONLY, SHOWN, schedule_fields, schedule_text
from ayb_jobs.wire.text import object_text

# What has no flag: the bounds of catching up are for the settings and the API.


def test_the_models_have_the_fields() -> None:
    assert {field.name for field in fields(NewSchedule)} == FIELDS.keys()
    known = {field.name for field in fields(Schedule)}
    assert FIELDS.keys() - known == {"payload"}
    assert "payload_text" in known


def test_the_bodies_have_the_fields() -> None:
    assert set(CreateBody.model_fields) == set(PatchBody.model_fields) == set(FIELDS)
    required = {name for name, field in CreateBody.model_fields.items() if field.is_required()}
    assert required == {"name", "job_type", "cron"}
    assert not any(field.is_required() for field in PatchBody.model_fields.values())


@pytest.mark.parametrize("statement", [CREATE_SCHEDULE, CHANGE_SCHEDULE])
def test_the_statements_write_the_fields(statement: str) -> None:
    assert set(FIELDS) <= set(re.findall(r"%\((\w+)\)s", statement))


@pytest.mark.parametrize("command", [create, update])
def test_each_flag_is_a_field(command: click.Command) -> None:
    flags = {parameter.name for parameter in command.params if parameter.expose_value} - {"schedule"}
    body = body_of({str(flag): 1 for flag in flags})
    assert set(schedule_fields(body)) == FIELDS.keys()


def test_what_is_shown_is_what_the_document_says(conn: Connection) -> None:
    made = create_schedule(conn, NewSchedule(name="n", job_type="t", cron="@daily", ping_url="https://secret.example"))
    shown = ScheduleShape.model_validate_json(schedule_text(made))
    assert shown.model_fields_set >= {name for name in SHOWN.values() if getattr(made, name) is not None}
    assert {field.alias for field in ScheduleShape.model_fields.values()} == {*SHOWN, "payload", "pingUrlSet"}
    assert "secret" not in schedule_text(made)


def test_a_schedule_can_be_sent_back_as_it_was_shown() -> None:
    assert {*SHOWN, "payload", "pingUrlSet"} <= {*BODY_FIELDS, *READ_ONLY}
    assert BODY_FIELDS.keys().isdisjoint(READ_ONLY)


def test_names_are_those_of_ayb() -> None:
    names = {name: api_name(name) for name in ("name", "job_type", "cron", "max_attempts", "next_run_at", "timeout_s")}
    assert object_text(names) == (
        '{"name":"name","job_type":"jobType","cron":"cronExpr","max_attempts":"maxAttempts",'
        '"next_run_at":"nextRunAt","timeout_s":"timeoutSec"}'
    )
    assert api_name("[3].delay") == "[3].delaySec"
    assert api_name("payload.retention_hours") == "payload.retention_hours"
