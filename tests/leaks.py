"""What a test must not leave behind: threads that run, and descriptors that are open."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.eventually import eventually

DESCRIPTORS = Path("/proc/self/fd")
SOON_S = 0.2
PATIENCE_S = 10.0
SHOWN = 5
# Descriptors that the tests' own parts hold until this process ends.
KEPT: set[str] = set()


@contextmanager
def no_leaks() -> Iterator[None]:
    """Assert that after the block no thread lives and no descriptor is open that was not before.

    What is on its way to its end has ten seconds to come there.
    """
    before = held()
    yield
    give_up = time.monotonic() + SOON_S
    while (left := held() - before) and time.monotonic() < give_up:
        time.sleep(0.005)
    if left:
        gc.collect()  # objects that refer to one another close what they hold only then
        eventually(lambda: not_held(before), within_s=PATIENCE_S)


def not_held(before: set[str]) -> bool:
    left = held() - before
    assert not left, f"the test has left behind {len(left)}: {', '.join(sorted(left)[:SHOWN])}"
    return True


def held() -> set[str]:
    """Return the threads and descriptors of this process, each as what tells it from others."""
    threads = {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}
    return (threads | set(descriptors())) - KEPT


def keep(descriptor: int) -> None:
    """Count a descriptor as no test's: it stays open until this process ends."""
    KEPT.add(f"descriptor {descriptor} ({(DESCRIPTORS / str(descriptor)).readlink()})")


def descriptors() -> Iterator[str]:
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        with suppress(FileNotFoundError):  # the listing's own
            yield f"descriptor {entry.name} ({entry.readlink()})"
