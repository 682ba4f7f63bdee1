"""pg_cron's jobs: their SQL and their times come over as they are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ayb_jobs.handlers.kinds.sql import SqlSettings
from ayb_jobs.model.schedules.importing.imported import Imported
from ayb_jobs.model.schedules.importing.pg_cron import PgCronJob, needs_no_transaction, read_pg_cron
from tests.model.schedules.importing.reading_back import settings_of


def job(**values: Any) -> PgCronJob:
    usual: dict[str, Any] = {
        "jobid": 1,
        "jobname": "j",
        "schedule": "0 3 * * *",
        "command": "SELECT 1",
        "database": "app",
        "username": "ana",
        "active": True,
    }
    return PgCronJob(**usual | values)


def only(**values: Any) -> Imported:
    [entry] = read_pg_cron([job(**values)], "GMT")
    return entry


@pytest.mark.parametrize(
    "command",
    [
        "VACUUM events",
        "  vacuum (analyze) events;",
        "/* nightly */ VACUUM",
        "-- nightly\nCREATE INDEX CONCURRENTLY i ON t (a)",
        "create unique index concurrently i on t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY t",
        "REINDEX (VERBOSE) DATABASE app",
        "CALL archive();",
        "DO $$ BEGIN COMMIT; END $$",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "SELECT 1; VACUUM t",
        "CLUSTER",
        "CLUSTER VERBOSE",
        "CLUSTER (VERBOSE);",
        "DISCARD ALL",
        "PREPARE TRANSACTION 'x'",
        "ROLLBACK PREPARED 'x'",
        "SELECT 1; ROLLBACK",
        "DELETE FROM t; END; DELETE FROM u",
        "ABORT",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        r"SELECT '\'; VACUUM t; SELECT '\'",
        r"SELECT E'\\'; VACUUM t",
        "SELECT a$b$; VACUUM t; SELECT a$b$",
        "/* a /* b */ c */ VACUUM t",
        r"SELECT name'\'; VACUUM t; SELECT name'\'",
    ],
)
def test_what_cannot_run_in_a_transaction_runs_without(command: str) -> None:
    assert needs_no_transaction(command)
    job_type = settings_of([only(command=command)]).job_types["j"]
    assert isinstance(job_type, SqlSettings)
    assert not job_type.transaction


@pytest.mark.parametrize(
    "command",
    [
        "DELETE FROM t WHERE name = 'VACUUM; CALL x()'",
        "SELECT $a$; VACUUM $a$",
        r"SELECT E'\'; VACUUM t'",
        r"SELECT e'a\\\'; CALL x();''b'",
        "SELECT $$; VACUUM $a$ $$",
        "/* a /* b */; VACUUM t */ SELECT 1",
        "SELECT U&'; VACUUM', \"; CALL x()\"",
        "CREATE INDEX i ON t (a)",
        "REINDEX TABLE t",
        "SELECT do_it(); SELECT call_me()",
        "CLUSTER t USING i",
        "CLUSTER VERBOSE t",
        "DISCARD TEMP",
        "SAVEPOINT s; ROLLBACK TO s",
        "SAVEPOINT s; ROLLBACK TRANSACTION TO SAVEPOINT s",
        "SELECT CASE WHEN true THEN 1 END",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ],
)
def test_what_can_run_in_a_transaction_does(command: str) -> None:
    assert not needs_no_transaction(command)


@pytest.mark.parametrize(
    ("schedule", "cron"),
    [
        ("30 seconds", "@every 30s"),
        ("1 second", "@every 1s"),
        ("0 0 $ * *", "0 0 L * *"),
        ("0 0 1,$ * *", "0 0 1,L * *"),
        ("@daily", "@daily"),
        ("0 0 1-31 * 1", "0 0 * * *"),
    ],
)
def test_a_time_is_what_pg_cron_means(schedule: str, cron: str) -> None:
    found = only(schedule=schedule).schedule
    assert found is not None
    assert found.cron == cron


def test_where_it_ran_is_named_and_an_inactive_job_stays_off() -> None:
    entry = only(active=False, jobname=None, nodename="db2.example.org")
    assert entry.schedule is not None
    assert (entry.schedule.name, entry.schedule.enabled) == ("pg_cron_1", False)
    assert any("app as ana" in note for note in entry.notes)
    assert any("db2.example.org" in note for note in entry.notes)


@pytest.mark.parametrize("command", ["", " \n\t"])
def test_a_job_without_a_command_is_named_and_not_imported(command: str) -> None:
    entry = only(command=command)
    assert (entry.schedule, entry.notes) == (None, ("not imported: there is no command",))


statements = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(statements, statements, st.booleans()), min_size=1, max_size=3))
def test_what_is_printed_loads_and_means_what_was_read(rows: list[tuple[str, str, bool]]) -> None:
    jobs = [
        job(jobid=number, jobname=name, command=f"SELECT '{command}%'", active=active)
        for number, (name, command, active) in enumerate(rows)
    ]
    found = list(read_pg_cron(jobs, "Europe/Berlin"))
    loaded = settings_of(found)
    for row, entry in zip(jobs, found, strict=True):
        assert entry.schedule is not None
        stored = loaded.schedules[entry.schedule.name].model_dump()
        assert (stored["cron"], stored["timezone"], stored["enabled"]) == (row.schedule, "Europe/Berlin", row.active)
        job_type = loaded.job_types[entry.schedule.job_type]
        assert isinstance(job_type, SqlSettings)
        [statement] = job_type.statements
        assert statement.replace("%%", "%") == row.command


@pytest.mark.parametrize("schedule", ["5/15 * * * *", "0 0 * * fri-mon"])
def test_what_pg_cron_itself_does_not_read_is_named(schedule: str) -> None:
    entry = only(schedule=schedule)
    assert entry.schedule is None
    assert "not imported" in entry.notes[-1]
