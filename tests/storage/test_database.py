"""Connections: what they outlive, and how soon."""

import threading
from contextlib import closing

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.database import Database, Timeouts
from tests.eventually import eventually


def test_handlers_get_connections_as_soon_as_the_database_is_back() -> None:
    with (
        EmbeddedPostgres.throwaway() as server,
        closing(Database(server.url(), work_connections=2, timeouts=Timeouts(connect_s=2.0))) as database,
    ):
        with database.work() as conn:
            conn.execute("SELECT 1")
        server.stop()
        for _ in range(3):  # long enough for a wait that doubles each time to become long
            assert not can_work(database)
        answers: list[bool] = []
        waiting = threading.Thread(target=lambda: answers.append(can_work(database)))
        waiting.start()
        server.start()
        eventually(lambda: answers == [True], within_s=2.5)
        waiting.join()


def can_work(database: Database) -> bool:
    try:
        with database.work() as conn:
            conn.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
