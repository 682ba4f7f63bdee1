"""What is compared with what the migrations make: alike on a fresh database and on an adopted one."""

from contextlib import closing

from ayb_jobs.checks.drift import changed
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.shape import compare_shapes
from ayb_jobs.storage.throwaway import Databases
from tests.ayb_database import make_ayb_database


def differing(conn: Connection) -> dict[tuple[str, str], tuple[str, str | None]]:
    found, made = compare_shapes(conn)
    return {
        key: (thing.definition, found[key].definition if key in found else None)
        for key, thing in made.items()
        if key not in found or (found[key].definition, found[key].in_force) != (thing.definition, thing.in_force)
    }


def test_a_fresh_database_is_as_the_migrations_make_it(conn: Connection) -> None:
    found, made = compare_shapes(conn)
    assert differing(conn) == {}
    assert {kind for kind, _ in made} == {"column", "index", "constraint", "trigger", "function"}
    assert {name.partition(".")[0] for _, name in found.keys() - made.keys()} <= {
        "_ayb_jobs_migrations",
        "_ayb_jobs_migrations_pkey",
    }


def test_nothing_is_left_of_the_comparison(conn: Connection) -> None:
    count = "SELECT count(*) FROM pg_class, pg_namespace WHERE nspname LIKE '%doctor%'"
    compare_shapes(conn)
    assert conn.execute(count).fetchone() == (0,)


def test_a_database_in_another_schema_is_as_the_migrations_make_it(databases: Databases) -> None:
    with databases.empty() as url, closing(connect(url)) as conn:
        conn.execute('CREATE SCHEMA "Our jobs"')
        conn.execute("SELECT set_config('search_path', '\"Our jobs\"', false)")
        migrate(conn)
        assert differing(conn) == {}


def test_an_adopted_database_is_found_to_be_as_it_should(databases: Databases) -> None:
    with databases.empty() as url:
        make_ayb_database(url)
        with closing(connect(url)) as conn:
            migrate(conn)
            assert differing(conn) != {}
            assert list(changed(conn)) == []
            conn.execute("ALTER TABLE _ayb_jobs ALTER COLUMN id DROP DEFAULT")
            assert [each.evidence["names"] for each in changed(conn)] == [["_ayb_jobs.id"]]
