"""docs/operations.md: what takes ayb-jobs out of a database again."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from ayb_jobs import NewJob, enqueue
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.ayb_database import make_ayb_database
from tests.docs.reading import ROOT, blocks
from tests.factories import make_job

EVERYWHERE, ON_OUR_OWN, ON_AYBS = (block.text.encode() for block in blocks(ROOT / "docs" / "operations.md", "sql"))

# Whatever stands in a database beside what PostgreSQL itself has, with all that a table consists of.
OBJECTS = """
    WITH mine AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    SELECT 'schema', nspname::text, '' FROM pg_namespace WHERE oid IN (SELECT oid FROM mine)
    UNION ALL
    SELECT 'function', oid::regprocedure::text, '' FROM pg_proc WHERE pronamespace IN (SELECT oid FROM mine)
    UNION ALL
    SELECT relkind::text, oid::regclass::text, coalesce(pg_get_indexdef(oid), reloptions::text)
    FROM pg_class WHERE relnamespace IN (SELECT oid FROM mine)
    UNION ALL
    SELECT 'column', attrelid::regclass::text || '.' || attname,
        concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace IN (SELECT oid FROM mine) AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace IN (SELECT oid FROM mine) AND conrelid <> 0
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text || '.' || tgname, '' FROM pg_trigger WHERE NOT tgisinternal
"""
WAITS = "SELECT state, last_error FROM _ayb_jobs WHERE type = 'child'"


def objects(conn: Connection) -> set[tuple[str, ...]]:
    return set(conn.execute(OBJECTS.encode()).fetchall())


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Connection]:
    with closing(connect(empty_database_url)) as conn:
        yield conn


def test_nothing_of_ours_is_left_on_a_database_of_ones_own(empty: Connection) -> None:
    before = objects(empty)
    migrate(empty)
    enqueue(empty, NewJob(type="child", depends_on=[make_job(empty)]))
    with empty.transaction():
        empty.execute(EVERYWHERE)
        empty.execute(ON_OUR_OWN)
    assert objects(empty) == before


def test_aybs_database_is_then_as_ayb_made_it_with_its_rows(empty: Connection, empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    before = objects(empty)
    migrate(empty)
    assert objects(empty) > before
    enqueue(empty, NewJob(type="child", depends_on=[make_job(empty)]))
    with empty.transaction():
        empty.execute(EVERYWHERE)
        empty.execute(ON_AYBS)
    assert objects(empty) == before
    assert empty.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (2,)
    assert empty.execute("SELECT count(*) FROM _ayb_job_schedules").fetchone() == (4,)
    assert empty.execute(WAITS).fetchone() == ("canceled", "it waited for other jobs")
