"""Whose tables the built-in jobs work on: a table's owner can give it triggers, which run as the daemon's role.

The tables of an application need not be there yet. Whoever may create tables on the search path could make one of such
a name, with rows and a trigger, and wait for the job.
"""

from psycopg import sql

from ayb_jobs.errors import AybJobsError
from ayb_jobs.storage.database import Connection


class AnothersTable(AybJobsError):
    """A table belongs to a role that could run code as the daemon's."""


# A role that is neither ourselves nor one that we belong to, no superuser, and owns neither the database nor our
# tables. Asked on a handler's connection, so that every name and every operator has its schema.
FIND_STRANGER = """
    SELECT owner.rolname::pg_catalog.text, we.rolname::pg_catalog.text
    FROM pg_catalog.pg_class AS held
    JOIN pg_catalog.pg_roles AS owner ON owner.oid OPERATOR(pg_catalog.=) held.relowner
    JOIN pg_catalog.pg_roles AS we ON we.rolname OPERATOR(pg_catalog.=) current_user
    WHERE held.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(table)s)::pg_catalog.oid
        AND NOT owner.rolsuper AND owner.oid OPERATOR(pg_catalog.<>) we.oid
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_database
            WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND datdba OPERATOR(pg_catalog.=) owner.oid
        )
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_class AS ours
            WHERE ours.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('_ayb_jobs')::pg_catalog.oid
                AND ours.relowner OPERATOR(pg_catalog.=) owner.oid
        )
        AND (we.rolsuper OR NOT pg_catalog.pg_has_role(we.oid, owner.oid, 'MEMBER'))
"""


def refuse_anothers(conn: Connection, *names: str) -> None:
    """Raise `AnothersTable` if a table, by its schema and its name or its name alone, belongs to an untrusted role."""
    table = sql.Identifier(*names).as_string(conn)
    found = conn.execute(FIND_STRANGER, {"table": table}).fetchone()
    if found is not None:
        owner, we = found
        raise AnothersTable(
            f"{'.'.join(names)} belongs to the role {owner}, who could run code as {we} by a trigger: a built-in job "
            f"leaves it alone; if {owner} is to be trusted, GRANT {owner} TO {we}, else drop the table"
        )
