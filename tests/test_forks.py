"""A forked child has none of the sockets that are kept from it, and its parent has all of them."""

import fcntl
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from ayb_jobs.embedded.locks import is_free, lock
from ayb_jobs.forks import PROCESS, keep_from_children, undone_in_children
from ayb_jobs.process.signals import watched_signals
from tests.eventually import eventually


def in_a_child(look: Callable[[], int]) -> int:
    """Return what `look` returns in a forked child: a small number."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = look()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_finds_another_socket_whose_other_end_is_closed() -> None:
    kept, mine = socket.socketpair()
    with kept, mine:
        keep_from_children(kept)

        def look() -> int:
            try:
                kept.send(b"from the child")
            except BrokenPipeError:
                return int(mine.send(b"x") == 0)
            return 2

        assert in_a_child(look) == 0
        assert not PROCESS.forked
        kept.send(b"from the parent")
        assert mine.recv(100) == b"from the parent"


def test_a_child_keeps_no_file_locked(tmp_path: Path) -> None:
    path = tmp_path / "users"
    held = lock(path, fcntl.LOCK_SH)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent closes its end
        os._exit(0)
    try:
        assert not is_free(path)
        held.close()
        eventually(lambda: is_free(path))  # once the child has begun
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


def test_what_is_closed_is_left_alone() -> None:
    closed = socket.socket()
    keep_from_children(closed)
    closed.close()
    reading, writing = os.pipe()
    assert in_a_child(lambda: os.write(writing, b"x") - 1) == 0
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)


def test_a_child_undoes_what_it_is_told_even_if_one_of_it_fails() -> None:
    done: list[int] = []
    with undone_in_children(lambda: 1 / 0), undone_in_children(lambda: done.append(1)):
        assert in_a_child(lambda: len(done)) == 1
    assert in_a_child(lambda: len(done)) == 0


def test_a_childs_signals_act_as_before_its_parent_watched_them() -> None:
    with watched_signals() as signals:

        def look() -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 5

        assert in_a_child(look) == -signal.SIGTERM
        assert not signals.wait(0)
