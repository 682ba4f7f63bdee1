"""What an idle daemon asks of its database, counted, not timed."""

import heapq
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from ayb_jobs.config import Config, Jobs
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.runtime.notifier import PROBE_S
from tests.running import silent_logger

MINUTE_S = 60.0
# 1.5 a second, less what the server's own autovacuum adds where everybody counts.
MOST_TRANSACTIONS = 88


class Transactions:
    """Counts the transactions that psycopg begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        execute, transaction = psycopg.Cursor.execute, psycopg.Connection.transaction

        def executed(cursor: psycopg.Cursor[Any], *args: Any, **options: Any) -> Any:
            self._note(cursor.connection)
            return execute(cursor, *args, **options)

        def begun(conn: psycopg.Connection[Any], *args: Any, **options: Any) -> Any:
            self._note(conn)
            return transaction(conn, *args, **options)

        monkeypatch.setattr(psycopg.Cursor, "execute", executed)
        monkeypatch.setattr(psycopg.Connection, "transaction", begun)

    def _note(self, conn: psycopg.Connection[Any]) -> None:
        self.count += conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_an_idle_minute_takes_few_transactions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(
        config=Config(jobs=Jobs(enabled=True)),
        url=database_url,
        registry=Registry(),
        events=Events(),
        logger=silent_logger(),
        worker_id=new_worker_id(),
    )
    daemon._parts.executors.buffers[0].idle = 4  # no worker runs here, and nobody leases for none
    ticks = {loop.name: loop._tick for loop in daemon.loops()}
    del ticks["notifier"]  # it would wait; what it asks is added below
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 0.0)  # as after a second, where the simulation waits for none
    pauses = {name: tick() for name, tick in ticks.items()}
    transactions = Transactions(monkeypatch)
    turns = simulate(ticks, pauses)
    count = transactions.count
    daemon.stop()
    assert turns["producer"] == MINUTE_S
    assert count + MINUTE_S / PROBE_S <= MOST_TRANSACTIONS


def simulate(ticks: dict[str, Callable[[], float]], pauses: dict[str, float]) -> dict[str, int]:
    """Call each tick whenever it asks for it within a minute; return how often each was called."""
    turns = dict.fromkeys(ticks, 0)
    waiting = [(pause_s, name) for name, pause_s in pauses.items()]
    heapq.heapify(waiting)
    while waiting[0][0] <= MINUTE_S:
        now, name = waiting[0]
        turns[name] += 1
        heapq.heapreplace(waiting, (now + ticks[name](), name))
    return turns
