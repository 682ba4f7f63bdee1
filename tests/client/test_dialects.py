"""The texts of arrays that psycopg is given in place of lists."""

import pytest

from ayb_jobs.client.dialects import with_literals
from ayb_jobs.storage.array_text import text_array
from ayb_jobs.storage.database import Connection

NASTY = [
    "",
    " ",
    "NULL",
    "null",
    '"',
    '""',
    '","',
    "\\",
    '\\"',
    "{",
    "}",
    ",",
    "\n\t",
    "é€😀",
    '{"a": "b\\nc"}',
    "x" * 10_000,
]


@pytest.mark.parametrize(
    "values",
    [[], ["a", "b"], NASTY, [None], [None, *NASTY, None], *([one] for one in NASTY), [NASTY[5], "a"]],
)
def test_an_array_of_texts_arrives_as_it_was(conn: Connection, values: list[str | None]) -> None:
    assert conn.execute("SELECT CAST(%s AS text[])", (text_array(values),)).fetchone() == (values,)


def test_an_array_of_numbers_arrives_as_it_was(conn: Connection) -> None:
    assert conn.execute("SELECT CAST(%s AS int[])", (text_array([1, -2, None]),)).fetchone() == ([1, -2, None],)


def test_values_that_are_no_lists_stay() -> None:
    assert with_literals({"one": "a", "none": None, "many": ["a"]}) == {"one": "a", "none": None, "many": '{"a"}'}
