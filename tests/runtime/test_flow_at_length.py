"""Limits and batches of the size that they are promised for: a hundred thousand jobs, drained by running daemons."""

import threading
from collections import Counter
from typing import Any

import pytest

from ayb_jobs import NewJob, batch
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.batches import BatchState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.batch_views import get_batch
from ayb_jobs.storage.rows import one_row
from tests.eventually import eventually
from tests.running import running
from tests.runtime.test_limits import Handlers, left, limit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOBS = 100_000
MANY_JOBS = "INSERT INTO _ayb_jobs (type, payload) SELECT 'test', jsonb_build_object('key', i %% 7) FROM generate_series(1, %s) AS i"
SLOTS = 8


def is_in_force(conn: Connection, most: int, most_of_key: int) -> bool:
    """Whether all daemons have confirmed, and what ran before has ended down to the limit."""
    (held,) = limits.list_limits(conn)
    keys = [key.running for key in limits.list_keys(conn, held.new.name)]
    return held.waiting_for == [] and held.running <= most and max(keys, default=0) <= most_of_key


def starts(handlers: Handlers, more: int) -> None:
    """Wait until so many more have started."""
    begun = handlers.began
    eventually(lambda: handlers.began >= begun + more, within_s=120)


def test_a_limit_that_changes_under_a_hundred_thousand_waiting_jobs_is_never_exceeded_and_all_of_them_run(
    database_url: str, conn: Connection
) -> None:
    limit(conn, max_running=5, key_field="key")
    conn.execute(MANY_JOBS, (JOBS,))
    handlers = Handlers(run_s=0.001)

    def obeyed(most: int, **given: Any) -> None:
        limit(conn, max_running=most, key_field="key", **given)
        eventually(lambda: is_in_force(conn, most, given.get("key_max_running", most)), within_s=120)
        handlers.most.clear()
        starts(handlers, 300)
        assert 0 < handlers.most["all"] <= most

    with (
        running(database_url, handlers.registry, worker_concurrency=SLOTS),
        running(database_url, handlers.registry, worker_concurrency=SLOTS),
    ):
        obeyed(5)
        obeyed(2)
        obeyed(11)
        with conn.transaction():
            assert limits.remove_limit(conn, "few")
        starts(handlers, 300)
        obeyed(6, key_max_running=1)
        assert max(most for key, most in handlers.most.items() if key != "all") == 1
        obeyed(2, key_max_running=2)
        assert left(conn) > JOBS / 2
        obeyed(2 * SLOTS)
        eventually(lambda: left(conn) == 0, within_s=600)
    assert handlers.began == JOBS
    assert conn.execute("SELECT DISTINCT state, attempts FROM _ayb_jobs").fetchall() == [("completed", 1)]


def test_a_batch_of_a_hundred_thousand_calls_back_once_and_its_progress_is_true(
    database_url: str, conn: Connection
) -> None:
    called: Counter[str] = Counter()
    lock = threading.Lock()
    registry = Registry()
    registry.handler("member")(lambda _: None)

    @registry.handler("callback")
    def callback(context: Any) -> None:
        with lock:
            called[f"{context.payload['batch']['event']} of {context.payload['batch']['completed']}"] += 1

    callbacks: dict[str, Any] = {f"on_{event}": NewJob(type="callback") for event in ("success", "failure", "done")}
    with conn.transaction(), batch(conn, **callbacks) as made:
        made.enqueue_many([NewJob(type="member")] * JOBS)
    ended = "SELECT count(*) FROM _ayb_jobs WHERE batch_id IS NOT NULL AND state = 'completed'"
    seen: list[int] = []

    def is_done() -> bool:
        """Look at its progress, which lies between what has ended before the look and after it."""
        least = one_row(conn.execute(ended))[0]
        found = get_batch(conn, made.id)
        assert found.queued + found.running + found.completed == found.total == JOBS
        if not least <= found.completed <= one_row(conn.execute(ended))[0]:
            raise ValueError(f"{found.completed} are told to have ended, at least {least} had")
        seen.append(found.completed)
        return found.state is BatchState.SUCCEEDED

    with running(database_url, registry), running(database_url, registry):
        eventually(is_done, within_s=600)
        eventually(lambda: sum(called.values()) == 2)
        eventually(lambda: left(conn) == 0)
    assert called == {f"success of {JOBS}": 1, f"done of {JOBS}": 1}
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE type = 'callback'").fetchone() == (2,)
