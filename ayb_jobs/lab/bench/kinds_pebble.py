"""What does nothing in the processes of Pebble's pool, which one would use without a queue; it has to be installed."""

import importlib
import os

from ayb_jobs.lab.bench.kinds_bare import Turns


def nothing() -> None:
    """Do nothing."""


def pool() -> Turns:
    """Call a function in a pool's processes, one for each processor."""
    kept = importlib.import_module("pebble").ProcessPool(max_workers=len(os.sched_getaffinity(0)))

    def work(count: int) -> None:
        for begun in [kept.schedule(nothing) for _ in range(count)]:
            begun.result()

    def end() -> None:
        kept.stop()
        kept.join()

    return Turns(work, end)


KINDS = {"Pebble": pool}
