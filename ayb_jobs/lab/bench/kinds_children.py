"""Isolated handlers in the children that a daemon keeps for them, with no queue around them."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ayb_jobs.lab.bench import kinds_isolated as handlers
from ayb_jobs.lab.bench.kinds_bare import Turns
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.executors.child import Settings
from ayb_jobs.runtime.executors.child_process import Child
from ayb_jobs.runtime.executors.forking import ForkServer
from ayb_jobs.runtime.executors.orders import Run
from ayb_jobs.storage.database import Timeouts

EMPTY = "empty_isolated"
RUN = Run(
    LeasedJob(
        id="01a2004a-7ce6-73df-870b-0ffd3822d729",
        lease_id="5b0c2a8e-8d5f-4b7e-9b0a-3f6f0d3c9a11",
        execution_id=1,
        type=EMPTY,
        payload_text="{}",
        queue="default",
        priority=2,
        attempt=1,
        max_attempts=3,
        crashes=0,
        run_at_text="2026-01-01 00:00:00+00",
        scheduled_for_text=None,
        schedule_id=None,
        timeout_s=None,
        traceparent=None,
    ),
    None,
)


def children() -> Turns:
    """Run an empty handler in children, one for each processor, and one at a time in each."""
    fork_server = ForkServer([handlers.__name__])
    settings = Settings(
        url="", timeouts=Timeouts(), lease_s=60, worker_id="bench", types={EMPTY: handlers.__name__}, memory_mib=0
    )
    woken, wake = os.pipe()
    kept = [Child(fork_server, settings, threading.Event(), woken=woken) for _ in os.sched_getaffinity(0)]

    def work(count: int) -> None:
        left = iter(range(count))  # a step of it is one call, which no other thread can come into
        with ThreadPoolExecutor(len(kept)) as threads:
            list(threads.map(lambda child: run_all(child, lambda: next(left, None) is not None), kept))

    def end() -> None:
        for child in kept:
            child.kill()
        fork_server.close()
        os.close(woken)
        os.close(wake)

    return Turns(work, end)


def run_all(child: Child, is_another: Callable[[], bool]) -> None:
    """Run the handler in one child for as long as there is another run to be done."""
    while is_another():
        child.order(RUN)
        child.receive(None)


KINDS: dict[str, Callable[..., Turns]] = {"children": children}
