"""The how-to pages, each followed line by line."""

from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from tests.docs.walking import Walk, missing
from tests.eventually import eventually

# What the commands of each page are to say.
PAGES = {
    "celery.md": "nightly-report",
    "cron.md": "echo",
    "django.md": "Ran 2 tests",
    "fastapi-asyncpg.md": '{"job":"',
    "fastapi-sqlalchemy.md": '{"job":"',
    "flask.md": '{"job":"',
    "node.md": "send_mail",
    "procrastinate.md": "Job types: nightly, send_mail",
    "psql.md": "INSERT 0 1",
}
OF_OTHER_LANGUAGES = {"go.md": "send_mail", "php.md": "send_mail", "ruby.md": "send_mail"}


UNDONE = "SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed' AND run_at <= now()"
DONE = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"


def are_done(conn: Connection) -> bool:
    """Tell whether there were jobs, and all that are due are completed."""
    return conn.execute(f"SELECT ({DONE}) > 0 AND ({UNDONE}) = 0").fetchone() == (True,)


@pytest.mark.parametrize("page", [*PAGES, *(pytest.param(page, marks=pytest.mark.slow) for page in OF_OTHER_LANGUAGES)])
def test_a_page_is_followed_until_its_jobs_are_done(
    page: str, database_url: str, conn: Connection, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    if lacks := missing(page):
        pytest.skip(lacks)
    with Walk.of(page, tmp_path, database_url, postgres.bin_dir) as walk:
        eventually(lambda: are_done(conn), within_s=30)
        assert (PAGES | OF_OTHER_LANGUAGES)[page] in "".join(walk.said)
    assert walk.codes == [0] * len(walk.codes), walk.logs()


def test_an_order_that_comes_while_totals_are_refreshed_has_them_refreshed_again(
    database_url: str, conn: Connection, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    runs = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'"
    sums = "SELECT (SELECT sum(amount) FROM orders), (SELECT sum(amount) FROM totals)"
    with Walk.of("psql.md", tmp_path, database_url, postgres.bin_dir), closing(connect(database_url)) as other:
        eventually(lambda: are_done(conn), within_s=30)
        order = (tmp_path / "order.sql").read_text()
        with other.transaction():
            other.execute("LOCK TABLE totals IN SHARE MODE")
            conn.execute(order)
            eventually(lambda: conn.execute(runs).fetchone() == (1,))
            conn.execute(order)
        eventually(lambda: are_done(conn), within_s=30)
        ordered, told = conn.execute(sums).fetchone() or (0, 1)
    assert ordered == told
    assert conn.execute(DONE).fetchone() == (3,)


def test_the_page_about_tests_is_followed(database_url: str, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Walk.of("testing.md", tmp_path, database_url, postgres.bin_dir) as walk:
        assert "2 passed" in walk.said[-1]
