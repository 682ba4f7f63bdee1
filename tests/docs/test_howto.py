"""The how-to pages, each followed line by line."""

from pathlib import Path

from tests.docs.walking import Walk


def test_the_page_about_tests_is_followed(database_url: str, tmp_path: Path) -> None:
    with Walk.of("testing.md", tmp_path, database_url) as walk:
        assert "2 passed" in walk.said[-1]
