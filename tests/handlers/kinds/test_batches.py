"""Deleting in batches: exact, bounded, in nobody's way."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pytest

from ayb_jobs.handlers.kinds import batches
from ayb_jobs.handlers.kinds.batches import Delete, TableMissing, delete_in_batches, next_span
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from tests.pgbouncer import PgBouncer

OLD = "kind = 'old'"
# Runs as a trigger after each DELETE of a table, and notes the transaction and how many rows it took.
TRANSACTION_LOG = """
    CREATE TABLE transactions (id bigint, rows int);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO transactions SELECT txid_current(), count(*) FROM deleted;
            RETURN NULL;
        END $$;
    CREATE TRIGGER note AFTER DELETE ON things REFERENCING OLD TABLE AS deleted
        FOR EACH STATEMENT EXECUTE FUNCTION note();
"""


@pytest.fixture
def things(conn: Connection) -> str:
    """A table of 20,000 rows in many blocks; two in three of them are old."""
    conn.execute("CREATE TABLE things (id int, kind text, filler text DEFAULT repeat('x', 100))")
    conn.execute(
        "INSERT INTO things SELECT i, CASE i % 3 WHEN 0 THEN 'new' ELSE 'old' END FROM generate_series(1, 20000) i"
    )
    return "things"


def run(db: Database, table: str = "things", where: str = OLD, batch_size: int = 1000, **parameters: object) -> int:
    return sum(delete_in_batches(db.transaction, Delete(table=table, where=where, batch_size=batch_size), parameters))


def count(conn: Connection, query: str = "SELECT count(*) FROM things") -> int:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_all_matching_rows_go_and_no_others(conn: Connection, db: Database, things: str) -> None:
    assert run(db) == 13334
    assert count(conn) == count(conn, "SELECT count(*) FROM things WHERE kind = 'new'") == 6666


@pytest.mark.parametrize("batch_size", [1, 7, 100, 5000])
def test_no_transaction_deletes_more_than_batch_size(
    batch_size: int, conn: Connection, db: Database, things: str
) -> None:
    conn.execute(
        "CREATE TABLE few AS SELECT * FROM things LIMIT 300; DROP TABLE things; ALTER TABLE few RENAME TO things"
    )
    conn.execute(TRANSACTION_LOG)
    assert run(db, batch_size=batch_size) == 200
    assert (
        count(conn, "SELECT max(rows) FROM (SELECT sum(rows) AS rows FROM transactions GROUP BY id) AS taken")
        <= batch_size
    )
    assert count(conn, "SELECT sum(rows) FROM transactions") == 200


def test_narrow_rows_are_bounded_too(conn: Connection, db: Database) -> None:
    conn.execute("CREATE TABLE things AS SELECT FROM generate_series(1, 5000)")
    conn.execute(TRANSACTION_LOG)
    assert run(db, where="true", batch_size=500) == 5000
    assert 250 < count(conn, "SELECT max(rows) FROM transactions") <= 500


def test_each_batch_is_committed_before_it_is_told(conn: Connection, db: Database, things: str) -> None:
    deleted = 0
    for rows in delete_in_batches(db.transaction, Delete(table=things, where=OLD, batch_size=5000), {}):
        deleted += rows
        assert count(conn) == 20000 - deleted


def test_whoever_stops_iterating_stops_the_deleting(conn: Connection, db: Database, things: str) -> None:
    batches = delete_in_batches(db.transaction, Delete(table=things, where=OLD, batch_size=500), {})
    deleted = sum(islice(batches, 2))
    assert 0 < deleted <= 1000
    assert count(conn) == 20000 - deleted


def test_an_empty_table_and_one_without_matching_rows_give_nothing(conn: Connection, db: Database, things: str) -> None:
    assert run(db, where="kind = 'none'") == 0
    conn.execute("TRUNCATE things")
    assert run(db) == 0


def test_a_table_that_does_not_exist_is_told_apart(db: Database) -> None:
    with pytest.raises(TableMissing, match="no table nothing_here"):
        run(db, "nothing_here")


def test_a_table_may_be_named_with_its_schema_and_with_odd_letters(conn: Connection, db: Database) -> None:
    conn.execute('CREATE SCHEMA "Ödd schema"')
    conn.execute('CREATE TABLE "Ödd schema"."Select; 1" AS SELECT generate_series(1, 10) AS id')
    assert run(db, "Ödd schema.Select; 1", where='"Select; 1".id <= 4') == 4


def test_conditions_may_have_parameters_percent_signs_and_comments(db: Database, things: str) -> None:
    where = "kind LIKE 'o%%' AND id %% 2 = 0 AND id <= %(most)s -- the even ones"
    assert run(db, where=where, most=9) == 3  # 2, 4, 8


def test_conditions_may_ask_other_tables(conn: Connection, db: Database, things: str) -> None:
    conn.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS id")
    assert run(db, where="kind = 'old' AND NOT EXISTS (SELECT FROM kept WHERE kept.id = things.id)") == 13334 - 67


def test_partitions_are_walked_each(conn: Connection, db: Database) -> None:
    conn.execute("""
        CREATE SCHEMA elsewhere;
        CREATE TABLE things (id int, kind text) PARTITION BY RANGE (id);
        CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (1) TO (100);
        CREATE TABLE elsewhere.things_2 PARTITION OF things FOR VALUES FROM (100) TO (3000) PARTITION BY RANGE (id);
        CREATE TABLE elsewhere.things_2a PARTITION OF elsewhere.things_2 FOR VALUES FROM (100) TO (3000);
        CREATE TABLE things_3 PARTITION OF things DEFAULT;
        INSERT INTO things SELECT i, CASE i % 3 WHEN 0 THEN 'new' ELSE 'old' END FROM generate_series(1, 5000) i;
    """)
    assert run(db, where="things.kind = 'old'") == 3334
    assert count(conn) == 1666


def test_a_partitioned_table_without_partitions_has_no_rows(conn: Connection, db: Database) -> None:
    conn.execute("CREATE TABLE things (id int, kind text) PARTITION BY RANGE (id)")
    assert run(db) == 0


def test_inheriting_tables_are_walked_to_their_own_ends(conn: Connection, db: Database) -> None:
    conn.execute("""
        CREATE TABLE things (id int, kind text);
        CREATE TABLE more_things () INHERITS (things);
        INSERT INTO things SELECT i, 'old' FROM generate_series(1, 1000) i;
        INSERT INTO more_things SELECT i, 'old' FROM generate_series(1, 5000) i;
    """)
    batches = list(delete_in_batches(db.transaction, Delete(table="things", where=OLD, batch_size=291), {}))
    assert sum(batches) == 6000
    assert max(batches) <= 291


def test_a_view_is_deleted_from_at_once(conn: Connection, db: Database, things: str) -> None:
    conn.execute("CREATE VIEW low_things AS SELECT * FROM things WHERE id <= 30")
    assert run(db, "low_things") == 20
    assert count(conn) == 19980


def test_few_rows_are_found_by_an_index_without_a_walk(conn: Connection, db: Database, things: str) -> None:
    conn.execute("CREATE INDEX ON things (id)")
    conn.execute("ANALYZE things")
    batches = delete_in_batches(db.transaction, Delete(table=things, where="id <= 12", batch_size=5), {})
    assert list(batches) == [5, 5, 2]


def test_statistics_that_promise_few_rows_do_not_end_the_deleting(
    conn: Connection, db: Database, things: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("CREATE INDEX ON things (kind)")
    conn.execute("UPDATE things SET kind = 'new'")
    conn.execute("ANALYZE things")
    conn.execute("ALTER TABLE things SET (autovacuum_enabled = false)")
    conn.execute("UPDATE things SET kind = 'old' WHERE id <= 5000")
    monkeypatch.setattr(batches, "FEW_ROWS", 100)
    assert run(db) == 5000


@pytest.fixture
def other(database_url: str) -> Iterator[Connection]:
    with closing(connect(database_url)) as connection:
        yield connection


@pytest.mark.parametrize("index", ["CREATE INDEX ON things (id)", ""])
def test_rows_that_somebody_has_locked_are_left_for_the_next_run(
    index: str, conn: Connection, db: Database, things: str, other: Connection
) -> None:
    conn.execute(f"{index}; ANALYZE things")
    with other.transaction():
        other.execute("SELECT FROM things WHERE id = 4 FOR UPDATE")
        assert run(db, where="id <= 10") == 9
    assert run(db, where="id <= 10") == 1


def test_between_batches_nobody_waits_for_a_lock(
    conn: Connection, db: Database, things: str, other: Connection
) -> None:
    batches = delete_in_batches(db.transaction, Delete(table=things, where=OLD, batch_size=500), {})
    deleted = next(batches)
    other.execute("SET lock_timeout = '1ms'")
    other.execute("INSERT INTO things VALUES (0, 'new')")
    other.execute("UPDATE things SET kind = 'new' WHERE id = 20000")
    assert deleted + sum(batches) == 13333


SETTINGS = "SELECT name, setting FROM pg_settings WHERE name ~ 'timeout|synchronous_commit' ORDER BY 1"


def set_durable(db: Database) -> None:
    """The tests' server commits without waiting for the disk; where it would wait, a batch that does not is seen."""
    with closing(connect(db.url)) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET synchronous_commit = on")


def test_no_setting_stays_behind_on_a_connection(db: Database, things: str) -> None:
    set_durable(db)
    with db.connection() as borrowed:
        before = borrowed.execute(SETTINGS).fetchall()
    run(db)
    with db.connection() as borrowed:
        assert borrowed.execute(SETTINGS).fetchall() == before


def test_no_setting_stays_behind_on_a_pooler_s_connections(
    things: str, database_url: str, pgbouncer: PgBouncer
) -> None:
    url = pgbouncer.url(database_url)
    with closing(Database(url, name="test")) as pooled, closing(connect(url)) as anyone:
        before = anyone.execute(SETTINGS).fetchall()
        assert run(pooled) == 13334
        assert anyone.execute(SETTINGS).fetchall() == before


@pytest.mark.parametrize(
    ("span", "took_s", "most", "then"),
    [
        (1000, 0.001, 100_000, 2000),
        (1000, 0.0, 100_000, 2000),
        (1000, batches.TARGET_S, 100_000, 1000),
        (1000, batches.TARGET_S * 2, 100_000, 500),
        (1000, 60.0, 100_000, 250),
        (1000, 0.001, 1500, 1500),
        (1, 60.0, 100, 1),
    ],
)
def test_batches_grow_and_shrink_towards_their_time(span: int, took_s: float, most: int, then: int) -> None:
    assert next_span(span, took_s, most) == then
