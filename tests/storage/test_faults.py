"""What the server's own errors mean."""

from contextlib import closing

import psycopg
import pytest
from psycopg import pq

from ayb_jobs.storage.faults import is_conflict
from tests.eventually import eventually


@pytest.mark.parametrize(
    ("setting", "in_transaction", "state"),
    [("idle_session_timeout", False, "57P05"), ("idle_in_transaction_session_timeout", True, "25P03")],
)
def test_a_session_that_was_ended_because_it_was_idle_has_only_to_ask_again(
    database_url: str, setting: str, in_transaction: bool, state: str
) -> None:
    with (
        closing(psycopg.connect(database_url, autocommit=True)) as watching,
        closing(psycopg.connect(database_url, autocommit=not in_transaction)) as conn,
    ):
        pid = conn.info.backend_pid
        conn.execute("SELECT set_config(%s, '50ms', false)", (setting,))
        eventually(lambda: not watching.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone())
        with pytest.raises(psycopg.Error, match="idle") as ended:
            conn.execute("SELECT 1")
        assert conn.pgconn.status == pq.ConnStatus.BAD
    assert (ended.value.sqlstate, is_conflict(ended.value)) == (state, True)
