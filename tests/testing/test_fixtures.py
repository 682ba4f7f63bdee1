"""The plugin for pytest gives each test a database of its own, with the application's tables."""

import subprocess
import sys
from pathlib import Path

from ayb_jobs.embedded import EmbeddedPostgres

CONFTEST = """
import psycopg
import pytest

pytest_plugins = ["ayb_jobs.testing.fixtures"]
kept = []

@pytest.fixture(scope="session")
def ayb_jobs_server():
    return {server!r}

@pytest.fixture(scope="session")
def ayb_jobs_schema():
    def make(url):
        kept.append(psycopg.connect(url, autocommit=True))  # as a pool does
        kept[0].execute("CREATE TABLE orders (id int)")
    return make
"""
TESTS = """
import psycopg
import pytest

@pytest.mark.parametrize("turn", [1, 2])
def test_it(turn, ayb_jobs_url):
    with psycopg.connect(ayb_jobs_url) as conn:
        assert conn.execute("SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM _ayb_jobs)").fetchone() == (0,)
        conn.execute("INSERT INTO orders VALUES (1)")
        conn.execute("INSERT INTO _ayb_jobs (type) VALUES ('mail')")
"""


def test_each_test_has_a_database_of_its_own(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(server=postgres.url()))
    (tmp_path / "test_it.py").write_text(TESTS)
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
