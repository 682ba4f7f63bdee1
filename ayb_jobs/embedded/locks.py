"""Locks on files, which the kernel releases however their holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(path: Path, kind: int) -> int:
    """Wait for a lock on `path` and return the open file that holds it until it is closed."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(file, path.parent.stat().st_uid, path.parent.stat().st_gid)
        fcntl.flock(file, kind)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` alone for the time of the `with` block; waits until others let go."""
    file = lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def is_free(path: Path) -> bool:
    """Tell whether nobody holds `path`, not even shared."""
    try:
        os.close(lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
