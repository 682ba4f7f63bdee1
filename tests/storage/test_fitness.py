"""Whether a database can be worked on."""

from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.engines import AURORA_DSQL, COCKROACHDB, YUGABYTEDB, engine_fault
from ayb_jobs.storage.fitness import misplaced_tables, unfit_kind
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


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        (
            "CockroachDB CCL v24.3.1 (x86_64-pc-linux-gnu, built 2024/12/02 20:15:45, go1.22.8 X:nocoverageredesign)",
            COCKROACHDB,
        ),
        (
            "PostgreSQL 15.12-YB-2025.1.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit",
            YUGABYTEDB,
        ),
        ("PostgreSQL 11.2-YB-2.20.1.3-b0 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit", YUGABYTEDB),
        ("PostgreSQL 16 (Aurora DSQL)", AURORA_DSQL),
        ("PostgreSQL 18.0 on x86_64-pc-linux-gnu, compiled by gcc (Debian 14.2.0-19) 14.2.0, 64-bit", None),
        (
            "PostgreSQL 17.4 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit",
            None,
        ),
        (
            "PostgreSQL 17.5 (6bc9ef8) on aarch64-unknown-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1), 64-bit",
            None,
        ),
    ],
)
def test_an_engine_that_cannot_work_is_known_by_the_words_of_its_version(version: str, fault: str | None) -> None:
    assert engine_fault(version) == fault


def test_an_engine_that_cannot_work_is_refused_in_one_sentence_before_anything_is_made(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a database is played by PostgreSQL with a view of Aurora DSQL's."""
    monkeypatch.chdir(tmp_path)
    with closing(connect(empty_database_url, name="test")) as conn:
        assert unfit_kind(conn) == []
        conn.execute("CREATE SCHEMA sys; CREATE VIEW sys.iam_pg_role_mappings AS SELECT 1 AS one")
        cli = Cli({"AYB_JOBS_DATABASE_URL": empty_database_url, "AYB_JOBS_ENABLED": "true"})
        for command, code in ((["health"], ExitCode.FAILED), (["migrate"], ExitCode.CONFIG)):
            said = cli(*command)
            assert said.code == code
            assert AURORA_DSQL in said.out + said.err
        assert conn.execute("SELECT to_regclass('_ayb_jobs')").fetchone() == (None,)
