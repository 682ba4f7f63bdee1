"""Whether a database can be worked on."""

from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fitness import misplaced_tables
from tests.cli.conftest import Cli


@pytest.mark.parametrize("table", ["_ayb_jobs", "_ayb_job_schedules"])
def test_tables_in_another_schema_are_told_with_what_to_do(
    conn: Connection, database_url: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert misplaced_tables(conn) is None
    conn.execute('CREATE SCHEMA "an app"')
    conn.execute(f'ALTER TABLE {table} SET SCHEMA "an app"')
    cli = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    for command, code in ((["health"], ExitCode.FAILED), (["migrate"], ExitCode.CONFIG)):
        said = cli(*command)
        assert said.code == code
        assert f'ALTER TABLE "an app".{table} SET SCHEMA public' in said.out + said.err
    conn.execute(f'ALTER TABLE "an app".{table} SET SCHEMA public')
    assert misplaced_tables(conn) is None
