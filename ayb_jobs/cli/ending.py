"""How the program ends although threads or processes that the application's modules began run on."""

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

# Python itself waits for them for ever; those that end by themselves, such as the threads of pools, do so at once.
PATIENCE_S = 2.0


def end(code: int) -> NoReturn:
    """End the process with this code, as Python does, but wait for what others began no longer than `PATIENCE_S`."""
    if others() or children():
        threading.Thread(target=_end_at_last, args=(code,), name="ending", daemon=True).start()
    sys.exit(code)


def others() -> Sequence[threading.Thread]:
    """Return the threads that Python waits for before it ends."""
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]


def children() -> Sequence["BaseProcess"]:
    """Return the processes of `multiprocessing` that Python waits for before it ends; none if nobody imported it."""
    if (module := sys.modules.get("multiprocessing.process")) is None:
        return []
    return [child for child in module.active_children() if not child.daemon]


def _end_at_last(code: int) -> None:
    time.sleep(PATIENCE_S)
    for what, left in (("threads", others()), ("processes", children())):
        names = ", ".join(one.name for one in left)
        with suppress(Exception):
            if names:
                say = f"ayb-jobs: ended without {what} that do not end, begun by the application: {names}"
                click.echo(say, err=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
