"""Who may do what with our tables, sequences, views and functions.

Nobody gets a right to anything of ours unasked: neither PUBLIC, which may run every new function, nor the roles that
default privileges name, such as AYB's end users. `grant` gives a role what it needs, by name.

The statements are sent as bytes: they compare our names with those in the catalog, and `own` leaves bytes as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, LiteralString, NamedTuple

from ayb_jobs.errors import NotFound
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row

Level = Literal["enqueue", "worker", "daemon", "read"]

# Relations of our names, and the view of Barycenter's name if it is ours. Rows' types and indexes have no rights.
LIST_OURS = """
    SELECT relname::text
    FROM pg_class
    WHERE relnamespace = to_regnamespace(%(schema)s::text) AND (
        relname LIKE '\\_ayb\\_job%%' AND relkind IN ('r', 'p', 'v', 'S')
        OR relname = 'job_execution' AND relkind = 'v' AND pg_get_viewdef(oid) LIKE '%%\\_ayb\\_job\\_executions%%'
    )
    ORDER BY 1
"""


def list_ours(conn: Connection, schema: str | None) -> list[str]:
    """Return the names of our tables, views and sequences in a schema."""
    return [name for (name,) in conn.execute(LIST_OURS.encode(), {"schema": schema})]


# Tables of other purposes that AYB keeps: its own names begin with `_ayb_`, ours with `_ayb_job`.
IS_AYBS = """
    SELECT EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace = (SELECT to_regnamespace(%(schema)s::text)) AND relkind IN ('r', 'p')
            AND relname LIKE '\\_ayb\\_%%' AND relname NOT LIKE '\\_ayb\\_job%%'
    )
"""


def is_aybs(conn: Connection, schema: str | None) -> bool:
    """Tell whether AYB's own tables are beside ours."""
    row = conn.execute(IS_AYBS.encode(), {"schema": schema}).fetchone()
    return bool(row and row[0])


# What came unasked: to PUBLIC (0), and to whom default privileges of the schema or of the database name.
WITHDRAW = """
    WITH unasked AS (
        SELECT 0::oid AS grantee
        UNION
        SELECT (aclexplode(defaclacl)).grantee
        FROM pg_default_acl
        WHERE defaclnamespace IN (0, to_regnamespace(%(schema)s::text)::oid)
    ), held AS (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, oid::regclass::text AS name, relowner AS owner,
            (aclexplode(relacl)).grantee
        FROM pg_class
        WHERE relnamespace = to_regnamespace(%(schema)s::text) AND relname = ANY (%(names)s::text[])
        UNION
        SELECT 'FUNCTION', oid::regprocedure::text, proowner, (aclexplode(coalesce(proacl, acldefault('f', proowner)))).grantee
        FROM pg_proc
        WHERE pronamespace = to_regnamespace(%(schema)s::text) AND proname LIKE '\\_ayb\\_job%%'
    )
    SELECT format('REVOKE ALL ON %%s %%s FROM %%s', kind, name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
    FROM held
    WHERE grantee <> owner AND grantee IN (SELECT grantee FROM unasked)
    ORDER BY 1
"""
# Whoever may use the queue by an earlier version's grants could run our functions as one of PUBLIC. On AYB's database
# its end users hold rights on AYB's tables by default, and never asked for ours. What runs with the owner's rights
# enqueues, and is for those who may insert.
KEEP_FUNCTIONS = """
    WITH holder AS (
        SELECT held.grantee AS oid, relowner, bool_or(held.privilege_type = 'INSERT') AS may_insert
        FROM pg_class, aclexplode(relacl) AS held
        WHERE relnamespace = to_regnamespace(%(schema)s::text) AND relname = '_ayb_jobs'
        GROUP BY held.grantee, relowner
    ), unasked AS (
        SELECT (aclexplode(defaclacl)).grantee AS oid
        FROM pg_default_acl
        WHERE %(is_aybs)s AND defaclnamespace IN (0, to_regnamespace(%(schema)s::text)::oid)
    )
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%s', pg_proc.oid::regprocedure, holder.oid::regrole)
    FROM holder, pg_proc
    WHERE holder.oid NOT IN (0, relowner) AND holder.oid NOT IN (SELECT oid FROM unasked)
        AND (may_insert OR NOT prosecdef) AND prorettype <> 'trigger'::regtype
        AND pronamespace = to_regnamespace(%(schema)s::text) AND proname LIKE '\\_ayb\\_job%%'
    ORDER BY 1
"""
# A relation that an update adds is for those who may use the log of attempts, or its sequence, in the same way.
EXTEND = """
    WITH added AS (
        SELECT oid::regclass::text AS name, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
            CASE relkind WHEN 'S' THEN '_ayb_job_execution_ids' ELSE '_ayb_job_executions' END AS like_name
        FROM pg_class
        WHERE relnamespace = to_regnamespace(%(schema)s::text) AND relname = ANY (%(names)s::text[])
    ), held AS (
        SELECT relname::text AS name, relowner, (aclexplode(relacl)).*
        FROM pg_class
        WHERE relnamespace = to_regnamespace(%(schema)s::text)
            AND relname IN ('_ayb_job_executions', '_ayb_job_execution_ids')
    )
    SELECT format('GRANT %%s ON %%s %%s TO %%s', privilege_type, added.kind, added.name, grantee::regrole)
    FROM added JOIN held ON held.name = like_name
    WHERE grantee NOT IN (0, relowner)
    ORDER BY 1
"""


def settle_rights(conn: Connection, schema: str | None, *, before: Sequence[str], updated: bool) -> None:
    """See to the rights on what is there after a migration, in its transaction.

    `before` are the relations of our names that were there before; `updated` tells that a version of ours made them.
    Two of them may be AYB's, or relied on by applications: whoever holds rights on those keeps them.
    """
    now = list_ours(conn, schema)
    taken_over = {"_ayb_jobs", "_ayb_job_schedules"} & set(before)
    values = {"schema": schema, "names": [name for name in now if name not in taken_over]}
    _run_each(conn, WITHDRAW, values)
    if updated:
        _run_each(conn, KEEP_FUNCTIONS, {"schema": schema, "is_aybs": is_aybs(conn, schema)})
        _run_each(conn, EXTEND, {"schema": schema, "names": [name for name in now if name not in before]})


def _run_each(conn: Connection, listing: LiteralString, values: Mapping[str, object]) -> list[str]:
    statements = [statement for (statement,) in conn.execute(listing.encode(), values)]
    for statement in statements:
        conn.execute(statement.encode())
    return statements


# An application inserts, and asks back for the id, for what it notifies, and for the holder of an idempotency key. By
# SQL alone it calls the functions, which are in a schema of their own.
GRANT_ENQUEUE = """
    SELECT format(grants, %(schema)s::text, %(role)s::text)
    FROM unnest(ARRAY[
        'GRANT USAGE ON SCHEMA %%1$s TO %%2$I',
        'GRANT INSERT, SELECT (id, run_at, idempotency_key) ON %%1$s._ayb_jobs TO %%2$I',
        'GRANT INSERT ON %%1$s._ayb_job_dependencies TO %%2$I',
        'GRANT EXECUTE ON FUNCTION %%1$s._ayb_job_id() TO %%2$I'
    ]) AS grants
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', oid::regprocedure, %(role)s::text)
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(schema)s::text) AND proname IN ('_ayb_job_enqueue', '_ayb_job_batch_open', '_ayb_job_batch_join', '_ayb_job_batch_seal')
    UNION ALL
    SELECT format('GRANT USAGE ON SCHEMA %%s TO %%I', to_regnamespace(%(functions)s::text), %(role)s::text)
    WHERE to_regnamespace(%(functions)s::text) IS NOT NULL
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', oid::regprocedure, %(role)s::text)
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(functions)s::text) AND proname = ANY (%(function_names)s::text[])
"""
# A worker in any language calls three functions, and reads and writes no table itself.
GRANT_WORKER = """
    SELECT format('GRANT USAGE ON SCHEMA %%s TO %%I', to_regnamespace(%(functions)s::text), %(role)s::text)
    WHERE to_regnamespace(%(functions)s::text) IS NOT NULL
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', oid::regprocedure, %(role)s::text)
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(functions)s::text) AND proname = ANY (%(worker_functions)s::text[])
"""
GRANT_DAEMON = """
    SELECT format('GRANT USAGE ON SCHEMA %%s TO %%I', %(schema)s::text, %(role)s::text)
    UNION ALL
    SELECT format('GRANT %%s ON %%s %%s TO %%I', CASE
            WHEN relkind = 'S' THEN 'USAGE, SELECT, UPDATE'
            WHEN relkind = 'v' OR relname = '_ayb_jobs_migrations' THEN 'SELECT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE'
        END, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass, %(role)s::text)
    FROM pg_class
    WHERE relnamespace = to_regnamespace(%(schema)s::text) AND relname = ANY (%(names)s::text[])
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', oid::regprocedure, %(role)s::text)
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(schema)s::text) AND proname LIKE '\\_ayb\\_job%%'
"""
GRANT_READ = """
    SELECT format('GRANT USAGE ON SCHEMA %%s TO %%I', %(schema)s::text, %(role)s::text)
    UNION ALL
    SELECT format('GRANT SELECT ON TABLE %%s TO %%I', oid::regclass, %(role)s::text)
    FROM pg_class
    WHERE relnamespace = to_regnamespace(%(schema)s::text) AND relname = ANY (%(names)s::text[]) AND relkind <> 'S'
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', oid::regprocedure, %(role)s::text)
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(schema)s::text) AND proname IN ('_ayb_job_text', '_ayb_job_has_long_numbers', '_ayb_job_schedule_definition')
"""
GRANTS: dict[Level, LiteralString] = {
    "enqueue": GRANT_ENQUEUE,
    "worker": GRANT_WORKER,
    "daemon": GRANT_DAEMON,
    "read": GRANT_READ,
}
FUNCTIONS = ["ayb_jobs_enqueue", "ayb_jobs_cancel", "ayb_jobs_retry", "ayb_jobs_batch", "ayb_jobs_seal_batch"]
WORKER_FUNCTIONS = ["ayb_jobs_lease", "ayb_jobs_extend", "ayb_jobs_settle"]
HAS_ROLE = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s::text)"


HAS_FUNCTIONS = """
    SELECT count(*) = cardinality(%(names)s::text[])
    FROM pg_proc
    WHERE pronamespace = to_regnamespace(%(schema)s::text) AND proname = ANY (%(names)s::text[])
"""


def functions_schema(schema: str | None) -> str:
    """Return the schema of the functions that are called by SQL, as the migration that makes them chooses it."""
    if schema is None or schema in {"public", "ayb_jobs"}:
        return "ayb_jobs"
    return f'"ayb_jobs_{schema.strip(chr(34))}"'


def has_functions(conn: Connection, schema: str | None) -> bool:
    """Tell whether the functions that are called by SQL are there: a role that may make no schema cannot make them."""
    values = {"schema": functions_schema(schema), "names": [*FUNCTIONS, *WORKER_FUNCTIONS]}
    row = conn.execute(HAS_FUNCTIONS.encode(), values).fetchone()
    return bool(row and row[0])


MAY_SEE_DAEMONS = "SELECT has_table_privilege('_ayb_job_workers', 'SELECT')"


def may_see_daemons(conn: Connection) -> bool:
    """Tell whether the connection's role may read which daemons there are; one with `--enqueue` alone may not."""
    return bool(one_row(conn.execute(MAY_SEE_DAEMONS))[0])


MAY_CHANGE_JOBS = """
    SELECT has_table_privilege('_ayb_jobs', 'SELECT') AND has_table_privilege('_ayb_jobs', 'UPDATE')
        AND has_table_privilege('_ayb_job_audit', 'INSERT')
"""


def may_change_jobs(conn: Connection) -> bool:
    """Tell whether the connection's role may read and change jobs, and record that; an application need not."""
    return bool(one_row(conn.execute(MAY_CHANGE_JOBS))[0])


class Granted(NamedTuple):
    """What `grant` did: the statements, which can be run by hand as well."""

    statements: Sequence[str]


def grant(conn: Connection, schema: str | None, role: str, levels: Sequence[Level]) -> Granted:
    """Give a role what it needs, in one transaction. What it has already it keeps.

    Raises `NotFound` if there is no such role.
    """
    found = conn.execute(HAS_ROLE, {"role": role}).fetchone()
    if not found or not found[0]:
        raise NotFound(f"there is no role {role} in this database server; make it with CREATE ROLE")
    with conn.transaction():
        values: dict[str, object] = {
            "schema": schema,
            "role": role,
            "names": list_ours(conn, schema),
            "functions": functions_schema(schema),
            "function_names": FUNCTIONS,
            "worker_functions": WORKER_FUNCTIONS,
        }
        statements = [done for level in levels for done in _run_each(conn, GRANTS[level], values)]
    return Granted(list(dict.fromkeys(statements)))
