"""What roles may do with what is ours and beside it: who owns it, who else can reach it, and what we ourselves lack."""

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.drift import OUR_SCHEMA, made_names

LIST_OWNERS = f"""
    SELECT DISTINCT relowner::regrole::text
    FROM pg_class
    WHERE relnamespace = {OUR_SCHEMA}
        AND left(relname, 8) = '_ayb_job' AND relkind IN ('r', 'p', 'v', 'S')
    ORDER BY 1
"""


def list_owners(conn: Connection) -> list[str]:
    """Return the roles that own our tables, views and sequences: one, if all is well."""
    return [name for (name,) in conn.execute(LIST_OWNERS)]


LIST_OPEN = f"""
    SELECT DISTINCT space.nspname::text
    FROM pg_class AS relation
    JOIN pg_namespace AS space ON space.oid = relation.relnamespace
    CROSS JOIN LATERAL aclexplode(coalesce(space.nspacl, acldefault('n', space.nspowner))) AS held
    WHERE relation.relnamespace = {OUR_SCHEMA}
        AND left(relation.relname, 8) = '_ayb_job' AND held.privilege_type = 'CREATE' AND held.grantee = 0
"""


def list_open_schemas(conn: Connection) -> list[str]:
    """Return the schemas of our tables in which everybody may create objects."""
    return [name for (name,) in conn.execute(LIST_OPEN)]


# An operator or a function outlives the right to make it. Extensions belong to superusers.
LIST_SHADOWING = """
    WITH place AS (
        SELECT DISTINCT relnamespace AS oid, relowner AS owner FROM pg_class
        WHERE left(relname, 8) = '_ayb_job' AND relkind IN ('r', 'p')
    ), made AS (
        SELECT oid::regoperator::text AS words, oprnamespace AS place, oprowner AS owner FROM pg_operator
        UNION ALL
        SELECT oid::regprocedure::text, pronamespace, proowner FROM pg_proc
        WHERE proname IN (SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace)
    )
    SELECT DISTINCT made.words, role.rolname::text AS owner
    FROM made
    JOIN pg_roles AS role ON role.oid = made.owner
    WHERE made.place IN (SELECT oid FROM place) AND made.owner NOT IN (SELECT owner FROM place)
        AND NOT role.rolsuper AND role.rolname NOT IN (current_user, 'pg_database_owner')
        AND role.oid <> (SELECT datdba FROM pg_database WHERE datname = current_database())
    ORDER BY 1
    LIMIT 10
"""


def list_shadowing(conn: Connection) -> list[tuple[str, str]]:
    """Return operators, and functions of built-ins' names, that other roles made beside our tables; and those roles."""
    return [(words, owner) for words, owner in conn.execute(LIST_SHADOWING)]


LIST_PUBLIC = f"""
    SELECT oid::regclass::text
    FROM pg_class
    WHERE relnamespace = {OUR_SCHEMA}
        AND left(relname, 8) = '_ayb_job' AND relkind IN ('r', 'p', 'v', 'S')
        AND EXISTS (SELECT FROM aclexplode(relacl) AS held WHERE held.grantee = 0)
    UNION
    SELECT oid::regprocedure::text
    FROM pg_proc
    WHERE pronamespace = {OUR_SCHEMA}
        AND left(proname, 8) = '_ayb_job'
        AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) AS held WHERE held.grantee = 0)
    ORDER BY 1
"""


def list_public(conn: Connection) -> list[str]:
    """Return our tables, sequences and functions that everybody may use."""
    return [name for (name,) in conn.execute(LIST_PUBLIC)]


# Of a list of rights PostgreSQL asks whether the role has any. Whoever makes a trigger needs its function, not who
# sets it off. What an operator has made beside ours may bear a name like ours.
LIST_DENIED = f"""
    SELECT relname::text AS name
    FROM pg_class
    WHERE relnamespace = {OUR_SCHEMA} AND relname = ANY (%(names)s::text[]) AND CASE
        WHEN relkind = 'S' THEN NOT (
            has_sequence_privilege(oid, 'USAGE') AND has_sequence_privilege(oid, 'SELECT') AND has_sequence_privilege(oid, 'UPDATE')
        )
        ELSE NOT (
            has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
            AND has_table_privilege(oid, 'DELETE')
        )
    END
    UNION ALL
    SELECT format('%%s()', proname)
    FROM pg_proc
    WHERE pronamespace = {OUR_SCHEMA} AND proname = ANY (%(names)s::text[]) AND prorettype <> 'trigger'::regtype
        AND NOT has_function_privilege(oid, 'EXECUTE')
    ORDER BY name
"""


def list_denied(conn: Connection) -> list[str]:
    """Return our tables, sequences and functions on which this role lacks what a daemon needs."""
    return [name for (name,) in conn.execute(LIST_DENIED, {"names": sorted(made_names())})]
