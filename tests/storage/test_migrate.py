import psycopg


def test_the_fixture_database_is_migrated(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)
