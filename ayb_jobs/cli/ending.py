"""How the program ends although threads that the application's modules began run on."""

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

# Python itself waits for them for ever; those that end by themselves, such as the threads of pools, do so at once.
PATIENCE_S = 2.0


def end(code: int) -> NoReturn:
    """End the process with this code, as Python does, but wait for other threads no longer than `PATIENCE_S`."""
    if others():
        threading.Thread(target=_end_at_last, args=(code,), name="ending", daemon=True).start()
    sys.exit(code)


def others() -> Sequence[threading.Thread]:
    """Return the threads that Python waits for before it ends."""
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]


def _end_at_last(code: int) -> None:
    time.sleep(PATIENCE_S)
    names = ", ".join(thread.name for thread in others())
    with suppress(Exception):
        click.echo(f"ayb-jobs: ended without threads that do not end, begun by the application: {names}", err=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
