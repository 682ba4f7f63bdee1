"""Locks on files, which the kernel releases however their holder ends."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(path: Path, kind: int) -> int:
    """Wait for a lock on `path` and return the open file that holds it until it is closed.

    The file is made for the owner of its folder, who may have put another file in its place: one that was there before
    is locked, and left as it is. Raises `OSError` if it is no plain file, or has other names.
    """
    file = _made(path) or os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_links(file, path)
        fcntl.flock(file, kind)
    except BaseException:
        os.close(file)
        raise
    return file


def _refuse_links(file: int, path: Path) -> None:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EINVAL, "is not a plain file of its own", str(path))


def _made(path: Path) -> int | None:
    """Make the file for the owner of its folder; None if it is there already."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return None
    if os.geteuid() == 0:
        os.fchown(file, path.parent.stat().st_uid, path.parent.stat().st_gid)
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
