"""Pinned: the same drain while an old transaction keeps every dead row and index entry from being removed."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import Drained, drain
from ayb_jobs.lab.bench.scratch import Bench, load_jobs
from ayb_jobs.storage.database import connect

PARTS = 5


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain free and pinned in turn; compare the first fifths, and the last pinned fifth with the first."""
    firsts, lasts = [], []
    for _ in range(bench.rounds):
        free, pinned = drained(bench, pin=False), drained(bench, pin=True)
        firsts.append(Pair(pinned.part(0, PARTS), free.part(0, PARTS)))
        lasts.append(Pair(pinned.part(PARTS - 1, PARTS), pinned.part(0, PARTS)))
    of = f"fifth of {bench.jobs:,}, pinned"
    yield figure("pinned", f"first {of}", "jobs/s", firsts, against="first fifth, not pinned")
    yield figure("pinned", f"last {of}", "jobs/s", lasts, against="first fifth, pinned")


def drained(bench: Bench, *, pin: bool) -> Drained:
    """Drain a fresh database."""
    bench.tell(f"pinned: {'with' if pin else 'without'} an old transaction")
    with bench.database() as url, old_transaction(url, pin=pin):
        load_jobs(url, bench.jobs)
        return drain("daemon", url, bench.jobs)


@contextmanager
def old_transaction(url: str, *, pin: bool) -> Iterator[None]:
    """Keep a snapshot open for the time of the block, where `pin` says so."""
    with closing(connect(url)) as conn:
        if not pin:
            yield
            return
        with conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            conn.execute("SELECT txid_current()")
            yield
