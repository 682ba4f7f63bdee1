"""What a child forked in this process must not inherit: what says that its parent lives, and its signals.

A child that a handler forks has copies of all descriptors. If it outlives its daemon, the copies keep the lifeline
held, so that peers take the daemon for alive, its port in use, and the embedded database's folder locked. So in each
child the sockets and locked files are replaced, under their numbers, by a socket whose other end is closed: nothing is
sent, the parent and its server notice nothing, and whatever the child still tries on them fails at once. (A program
that is started instead inherits nothing: they are closed at an exec.)
"""

import os
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class HasDescriptor(Protocol):
    """An open socket, connection or file; `fileno` may raise once it is closed."""

    def fileno(self) -> int:
        """Return the number of its descriptor."""


class _Process:
    """What this process keeps from its children, and whether it is itself the child of one that did."""

    __slots__ = ("forked", "kept", "undone", "watched")

    def __init__(self) -> None:
        self.forked = False
        self.watched = False
        self.kept: weakref.WeakSet[HasDescriptor] = weakref.WeakSet()
        self.undone: list[Callable[[], object]] = []


PROCESS = _Process()


def keep_from_children(thing: HasDescriptor) -> None:
    """Have no child inherit this socket, connection or file, for as long as it is open."""
    _watch()
    PROCESS.kept.add(thing)


@contextmanager
def undone_in_children(undo: Callable[[], object]) -> Iterator[None]:
    """Have each child forked within the block call `undo` first of all."""
    _watch()
    PROCESS.undone.append(undo)
    try:
        yield
    finally:
        PROCESS.undone.remove(undo)


def _watch() -> None:
    if not PROCESS.watched:
        PROCESS.watched = True
        os.register_at_fork(after_in_child=_begin_as_child)


def _begin_as_child() -> None:
    PROCESS.forked = True
    for undo in PROCESS.undone:
        with suppress(Exception):
            undo()
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        for thing in list(PROCESS.kept):
            with suppress(Exception):  # it is closed already
                os.dup2(ours.fileno(), thing.fileno(), inheritable=False)
    PROCESS.kept.clear()
    PROCESS.undone.clear()
