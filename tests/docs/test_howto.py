"""The how-to pages, each followed line by line."""

from pathlib import Path

import pytest

from ayb_jobs.storage.database import Connection
from tests.docs.walking import Walk
from tests.eventually import eventually

# What the commands of a page are to say.
PAGES = {"django.md": "Ran 2 tests"}


def completed(conn: Connection) -> int:
    """Return how many jobs were made, once all are completed and there is one."""
    row = conn.execute("SELECT count(*), count(*) FILTER (WHERE state = 'completed') FROM _ayb_jobs").fetchone()
    assert row is not None
    made, ended = row
    return int(made) if made == ended else 0


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_followed_until_its_jobs_are_done(
    page: str, database_url: str, conn: Connection, tmp_path: Path
) -> None:
    with Walk.of(page, tmp_path, database_url) as walk:
        eventually(lambda: completed(conn), within_s=30)
        assert PAGES[page] in "".join(walk.said)
    assert walk.codes == [0] * len(walk.codes), walk.logs()


def test_the_page_about_tests_is_followed(database_url: str, tmp_path: Path) -> None:
    with Walk.of("testing.md", tmp_path, database_url) as walk:
        assert "2 passed" in walk.said[-1]
