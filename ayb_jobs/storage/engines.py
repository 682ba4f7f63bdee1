"""Databases that speak PostgreSQL's protocol and lack what the queue stands on: known by the words of their version."""

from ayb_jobs.storage.database import Connection

COCKROACHDB = (
    "this is CockroachDB, which has no session locks and no LISTEN, and whose rows have no ctid of which lease ids are"
    " made; use PostgreSQL"
)
AURORA_DSQL = (
    "this is Aurora DSQL, which has no locks that one session waits for, no LISTEN and no sequences of PostgreSQL's kind;"
    " use PostgreSQL, or Aurora PostgreSQL"
)
YUGABYTEDB = (
    "this is YugabyteDB, which gives the same ctid to all rows of a statement, so that their leases could not be told"
    " apart; use PostgreSQL"
)

# A view of Aurora DSQL's own, whose version may read like PostgreSQL's.
ASK_ENGINE = """
    SELECT version(), EXISTS (
        SELECT FROM pg_catalog.pg_class AS relation
        JOIN pg_catalog.pg_namespace AS space ON space.oid = relation.relnamespace
        WHERE space.nspname = 'sys' AND relation.relname = 'iam_pg_role_mappings'
    )
"""


def unfit_engine(conn: Connection) -> str | None:
    """Return why a database that is not PostgreSQL cannot be worked on; None if it is PostgreSQL, or as good."""
    words, is_dsql = conn.execute(ASK_ENGINE).fetchone() or ("", False)
    return AURORA_DSQL if is_dsql else engine_fault(words)


def engine_fault(version: str) -> str | None:
    """Return what a database lacks whose `version()` reads so; None for PostgreSQL and what is made of it."""
    words = version.lower()
    if "cockroach" in words:
        return COCKROACHDB
    if "dsql" in words:
        return AURORA_DSQL
    if "yugabyte" in words or "-yb-" in words:
        return YUGABYTEDB
    return None
