"""Bare loops: the daemon's own statements on as many connections, with nothing around them.

They decode nothing, call nobody, and count on every job to complete. Each starts its threads and returns what stops it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from operator import itemgetter
from queue import SimpleQueue
from typing import Any

from ayb_jobs.runtime.jobs.look import BATCH
from ayb_jobs.storage.arrays import uuid_array
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.lanes import NO_FLOOR
from ayb_jobs.storage.queue.leasing import LEASE_JOBS
from ayb_jobs.storage.queue.settling import ALL_COMPLETED, COMPLETE_JOBS, REMOVE_COMPLETED_JOBS

Tell = Callable[[str, Any], None]
Stop = Callable[[], object]
Row = tuple[Any, ...]

PRIORITIES = [1, 2, 3, 4]
# The columns of a leased row that a bare loop looks at.
ID, LEASE_ID, PRIORITY, RUN_AT, PAYLOAD = 0, 1, 6, 10, 4
BY_TURN = itemgetter(PRIORITY, RUN_AT, ID)
# How many leased batches may wait for the settling connection.
MOST_WAITING = 2


class Leasing:
    """Leases in batches, starting where the last one ended, and from the bottom where that finds less than a batch."""

    def __init__(self, conn: Connection, limit: int = BATCH) -> None:
        self._conn = conn
        self._limit = limit
        self._floors = [NO_FLOOR] * len(PRIORITIES)

    def next(self) -> list[Row]:
        """Lease a batch."""
        rows: list[Row] = self._conn.execute(
            LEASE_JOBS,
            {
                "worker_id": "bare",
                "queues": ["default"] * len(PRIORITIES),
                "priorities": PRIORITIES,
                "floor_run_ats": [floor[0] for floor in self._floors],
                "floor_ids": [floor[1] for floor in self._floors],
                "types": ["noop"],
                "limit": self._limit,
                "lease_s": 300.0,
            },
        ).fetchall()
        rows.sort(key=BY_TURN)
        if len(rows) < self._limit:
            self._floors = [NO_FLOOR] * len(PRIORITIES)
        else:
            self._floors[rows[-1][PRIORITY] - 1] = (rows[-1][RUN_AT], rows[-1][ID])
        return rows


def settle(conn: Connection, rows: Sequence[Row], *, remove: bool = False) -> None:
    """Complete a leased batch."""
    zeros = "{" + ",".join(["0"] * len(rows)) + "}"
    conn.execute(
        REMOVE_COMPLETED_JOBS if remove else COMPLETE_JOBS,
        {
            "worker_id": "bare",
            "ids": uuid_array([row[ID] for row in rows]),
            "lease_ids": uuid_array([row[LEASE_ID] for row in rows]),
            "states": ALL_COMPLETED,
            "outcomes": ALL_COMPLETED,
            "delays": "{}",
            "errors": [],
            "records": "{}",
            "started_ago": zeros,
            "ended_ago": zeros,
        },
    )


def draining(tell: Tell, *, url: str, remove: bool = False) -> Stop:
    """Drain the queue: one thread leases, another settles."""
    stopping = threading.Event()
    batches: SimpleQueue[list[Row] | None] = SimpleQueue()
    room = threading.Semaphore(MOST_WAITING)

    def lease() -> None:
        with closing(connect(url)) as conn:
            leasing = Leasing(conn)
            began = False
            while not stopping.is_set():
                rows = leasing.next()
                if not rows:
                    stopping.wait(0.01)
                    continue
                if not began:
                    tell("began", time.monotonic())
                    began = True
                room.acquire()
                batches.put(rows)
        batches.put(None)

    def settle_all() -> None:
        with closing(connect(url)) as conn:
            while (rows := batches.get()) is not None:
                settle(conn, rows, remove=remove)
                room.release()
                tell("settled", (time.monotonic(), len(rows)))

    return started(stopping, lease, settle_all)


def listening(tell: Tell, *, url: str, poll_s: float = 1.0) -> Stop:
    """Wait for notifications, at most a second, and run what is there: lease, tell, settle."""
    stopping = threading.Event()

    def listen() -> None:
        with closing(connect(url)) as heard, closing(connect(url)) as conn:
            heard.execute("LISTEN ayb_jobs")
            leasing = Leasing(conn)
            while not stopping.is_set():
                while rows := leasing.next():
                    now = time.monotonic()
                    for row in rows:
                        tell("latency", now - float(row[PAYLOAD].partition('"sent": ')[2].partition("}")[0]))
                    settle(conn, rows)
                for _ in heard.notifies(timeout=poll_s, stop_after=1):
                    pass

    return started(stopping, listen)


def started(stopping: threading.Event, *loops: Callable[[], None]) -> Stop:
    """Start a thread for each loop, and return what stops them."""
    threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()

    def stop() -> None:
        stopping.set()
        for thread in threads:
            thread.join(10)

    return stop


BARE: dict[str, Callable[..., Stop]] = {"bare": draining, "listening": listening}
