"""Locks on files, which the kernel releases however their holder ends."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from ayb_jobs.forks import keep_from_children


def lock(path: Path, kind: int) -> FileIO:
    """Wait for a lock on `path` and return the open file that holds it until it is closed.

    A child that is forked meanwhile does not hold it. The file is made for the owner of its folder, who may have put
    another file in its place: one that was there before is locked, and left as it is. Raises `OSError` if it is no
    plain file, or has other names.
    """
    descriptor = _made(path) or os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = FileIO(descriptor, "r+")
    try:
        keep_from_children(file)
        _refuse_links(file, path)
        fcntl.flock(file, kind)
    except BaseException:
        file.close()
        raise
    return file


def _refuse_links(file: FileIO, path: Path) -> None:
    found = os.fstat(file.fileno())
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
    with lock(path, fcntl.LOCK_EX):
        yield


def is_free(path: Path) -> bool:
    """Tell whether nobody holds `path`, not even shared."""
    try:
        lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB).close()
    except BlockingIOError:
        return False
    return True
