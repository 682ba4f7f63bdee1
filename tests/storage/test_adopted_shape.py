"""Before anything is changed, `migrate --plan` says in which ways the tables that are there are not AYB's."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from ayb_jobs.storage.database import Connection, connect, connect_for_ourselves
from ayb_jobs.storage.preflight import preflight
from ayb_jobs.storage.throwaway import Databases
from tests.ayb_database import make_ayb_database

OLD = "ALTER TABLE _ayb_jobs RENAME TO old_jobs; "
NO_KEY = "_ayb_jobs has no primary key of id alone, and no other unique index of it; it needs one"
DROP_KEY = "ALTER TABLE _ayb_jobs DROP CONSTRAINT _ayb_jobs_pkey; "
ODD = {
    "a key that is not unique": (DROP_KEY + "CREATE INDEX ON _ayb_jobs (id)", NO_KEY),
    "a key with more in it": (DROP_KEY + "CREATE UNIQUE INDEX ON _ayb_jobs (id, type)", NO_KEY),
    "a key that was not built to its end": (
        DROP_KEY + "CREATE UNIQUE INDEX odd ON _ayb_jobs (id);"
        " UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'odd'::regclass",
        NO_KEY,
    ),
    "a view": (
        OLD + "CREATE VIEW _ayb_jobs AS SELECT * FROM old_jobs",
        "_ayb_jobs is a view; it has to be a plain table",
    ),
    "partitioned": (
        OLD + "CREATE TABLE _ayb_jobs (LIKE old_jobs INCLUDING DEFAULTS) PARTITION BY HASH (id)",
        "_ayb_jobs is a partitioned table; it has to be a plain table",
    ),
    "no key": (
        "ALTER TABLE _ayb_jobs DROP CONSTRAINT _ayb_jobs_pkey; CREATE UNIQUE INDEX ON _ayb_jobs (id) WHERE state = 'queued'",
        "_ayb_jobs has no primary key of id alone, and no other unique index of it; it needs one",
    ),
    "a column is missing": (
        "ALTER TABLE _ayb_jobs DROP COLUMN lease_until CASCADE",
        "_ayb_jobs has no column lease_until; AYB's is timestamp with time zone",
    ),
    "another type": (
        "ALTER TABLE _ayb_jobs ALTER run_at TYPE timestamp",
        "_ayb_jobs.run_at is timestamp without time zone; it has to be timestamp with time zone, as AYB makes it",
    ),
    "wider": (
        "ALTER TABLE _ayb_jobs ALTER attempts TYPE bigint",
        "_ayb_jobs.attempts is bigint; it has to be integer, as AYB makes it",
    ),
    "shorter": (
        "ALTER TABLE _ayb_jobs ALTER worker_id TYPE varchar(5)",
        "_ayb_jobs.worker_id is character varying(5); it has to be character varying(100), as AYB makes it",
    ),
    "a schedule's": (
        "ALTER TABLE _ayb_job_schedules DROP COLUMN timezone",
        "_ayb_job_schedules has no column timezone; AYB's is character varying(50)",
    ),
    "needed": (
        "ALTER TABLE _ayb_jobs ADD tenant int NOT NULL",
        "_ayb_jobs.tenant is NOT NULL and has no default; without one no row can be made here",
    ),
    "of our name": (
        "ALTER TABLE _ayb_jobs ADD queue int",
        "_ayb_jobs has a column queue already, which migrate would add; rename it",
    ),
    "a table of our name": (
        "CREATE TABLE _ayb_job_limits (x int)",
        "there is something of the name _ayb_job_limits already, which migrate would make; rename or drop it",
    ),
    "an index of our name": (
        "CREATE INDEX idx_ayb_jobs_batch ON _ayb_jobs (type)",
        "there is something of the name idx_ayb_jobs_batch already, which migrate would make; rename or drop it",
    ),
    "two schemas": (
        "CREATE SCHEMA ayb; ALTER TABLE _ayb_job_schedules SET SCHEMA ayb; SET LOCAL search_path = public, ayb",
        "the two tables are in two schemas: _ayb_jobs in public, _ayb_job_schedules in ayb; both have to be in one",
    ),
}
AS_GOOD = [
    "SELECT 1",
    "ALTER TABLE _ayb_jobs ALTER type TYPE text, ALTER state TYPE varchar, ALTER worker_id TYPE varchar(200)",
    "ALTER TABLE _ayb_jobs ADD tenant int NOT NULL DEFAULT 1, ADD note text, ADD n int GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE _ayb_jobs ADD g text GENERATED ALWAYS AS (type || state) STORED",
    (
        "CREATE SCHEMA ayb; ALTER TABLE _ayb_jobs SET SCHEMA ayb; ALTER TABLE _ayb_job_schedules SET SCHEMA ayb;"
        " SET LOCAL search_path = ayb, public"
    ),
    "DROP TABLE _ayb_jobs, _ayb_job_schedules",
    "ALTER TABLE _ayb_jobs ENABLE ROW LEVEL SECURITY",  # from which the tests' superuser is free
]


@pytest.fixture(scope="module")
def ayb_url(databases: Databases) -> Iterator[str]:
    with databases.empty() as url:
        make_ayb_database(url)
        yield url


@pytest.fixture
def aybs(ayb_url: str) -> Iterator[Connection]:
    """Yield a connection to a database of AYB's; what a test does to it is undone."""
    with closing(connect(ayb_url)) as conn, conn.transaction(force_rollback=True):
        yield conn


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_as_ayb_makes_it_is_told_before_anything_is_changed(aybs: Connection, case: str) -> None:
    change, words = ODD[case]
    aybs.execute(change.encode())
    odd = preflight(aybs).odd
    assert words in odd
    assert len(odd) == 1 or case in ("a view", "partitioned", "two schemas")


@pytest.mark.parametrize("change", AS_GOOD)
def test_tables_of_aybs_shape_are_fine_with_what_an_application_added(aybs: Connection, change: str) -> None:
    aybs.execute(change.encode())
    assert preflight(aybs).odd == []


@pytest.mark.parametrize("case", ["a column is missing", "another type", "an index of our name"])
def test_it_is_told_as_well_if_others_may_create_where_the_tables_are(databases: Databases, case: str) -> None:
    change, words = ODD[case]
    with databases.empty() as url:
        make_ayb_database(url)
        with closing(connect(url)) as conn:
            conn.execute(change.encode())
            conn.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        with closing(connect_for_ourselves(url, name="test")) as ours:
            told = preflight(ours)
    assert told.odd == [words]
    assert {"_ayb_jobs", "_ayb_job_schedules"} <= {each.table for each in told.locked}


def test_row_security_that_hides_rows_is_told(aybs: Connection) -> None:
    aybs.execute("ALTER TABLE _ayb_jobs ENABLE ROW LEVEL SECURITY")
    aybs.execute("GRANT USAGE, CREATE ON SCHEMA public TO ayb_authenticated")
    aybs.execute("SET LOCAL ROLE ayb_authenticated")
    assert preflight(aybs).odd == [
        "row security hides rows of _ayb_jobs from this role; let its owner migrate, and the daemon see every row"
    ]
