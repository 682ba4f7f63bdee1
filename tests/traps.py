"""A role that may create objects on everybody's search path, and operators of it that fit better than built-in ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from ayb_jobs.storage.database import Connection

# An operator for each pair of these types, so that whoever finds the trap takes it instead of one of PostgreSQL's own,
# that would fit after a cast, or that the path comes to later. It raises, and names the role that ran it.
SET_TRAPS = """
DO $do$
DECLARE
    types regtype[] := ARRAY['text', 'varchar', 'bpchar', 'name', '"char"', 'int2', 'int4', 'int8', 'float8', 'numeric',
        'uuid', 'timestamptz', 'interval', 'oid', 'tid', 'text[]', 'varchar[]', 'regclass'];
    one regtype; other regtype; sign text;
BEGIN
    FOREACH one IN ARRAY types LOOP
        FOREACH other IN ARRAY types LOOP
            EXECUTE format($make$
                CREATE FUNCTION public.trap(%s, %s) RETURNS boolean LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE EXCEPTION 'trapped %%', current_user;
                END
                $$ $make$, one, other);
            FOREACH sign IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '+', '-', '*', '/', '||', '~', '!~'] LOOP
                EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.trap, LEFTARG = %s, RIGHTARG = %s)',
                    sign, one, other);
            END LOOP;
        END LOOP;
    END LOOP;
    -- Functions whose built-in namesakes take any type, or would have their arguments cast.
    FOREACH sign IN ARRAY ARRAY[
        'unnest(text[])', 'unnest(int[])', 'convert_to(text, text)', 'set_bit(bytea, int, int)', 'array_agg(text)',
        'jsonb_object_agg(text, jsonb)', 'cardinality(text[])', 'pg_notify(varchar, varchar)'
    ] LOOP
        EXECUTE format($make$
            CREATE FUNCTION public.%s RETURNS text LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'trapped %%', current_user;
            END
            $$ $make$, sign);
    END LOOP;
    FOREACH sign IN ARRAY ARRAY['now()', 'set_config(text, text, boolean)', 'hashtext(text)', 'to_regclass(text)',
        'current_setting(text)', 'pg_relation_size(regclass)', 'pg_try_advisory_xact_lock(bigint)'
    ] LOOP
        EXECUTE format($make$
            CREATE FUNCTION public.%s RETURNS text LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'trapped %%', current_user;
            END
            $$ $make$, sign);
    END LOOP;
    FOR sign IN
        SELECT DISTINCT proname FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 1 AND prokind = 'f'
            AND proargtypes[0] IN ('text'::regtype, 'float8'::regtype, 'oid'::regtype, 'numeric'::regtype)
    LOOP
        EXECUTE format($make$
            CREATE FUNCTION public.%I(varchar) RETURNS text LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'trapped %%', current_user;
            END
            $$ $make$, sign);
    END LOOP;
END
$do$
"""


@contextmanager
def traps(conn: Connection, *, ahead: bool = False) -> Iterator[str]:
    """Make a role that may create objects in `public`, and its traps there; yield its name.

    From here on this connection's own path is `pg_catalog` alone. Other connections find the traps after PostgreSQL's
    own objects, or `ahead` of them.
    """
    role = f"mallory_{conn.info.dbname}"
    names = {"role": sql.Identifier(role)}
    conn.execute(sql.SQL("CREATE ROLE {role}").format(**names))
    try:
        conn.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {role}").format(**names))
        conn.execute(sql.SQL("SET ROLE {role}").format(**names))
        conn.execute("SET search_path = pg_catalog")
        conn.execute(SET_TRAPS)
        conn.execute("RESET ROLE")
        if ahead:
            named = sql.Identifier(conn.info.dbname)
            conn.execute(sql.SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(named))
        yield role
    finally:
        conn.execute("RESET ROLE")
        conn.execute(sql.SQL("DROP OWNED BY {role} CASCADE").format(**names))
        conn.execute(sql.SQL("DROP ROLE {role}").format(**names))
