"""Notices a module that replaces Python's threads or waiting while it is imported, as gevent and eventlet do.

What the daemon has made before belongs to the threads of old: it would wait for ever, and say nothing. Patched before
anything else is imported, everything is of one kind, and works.
"""

import _thread
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ayb_jobs.errors import InvalidInput


@contextmanager
def unpatched(name: str) -> Iterator[None]:
    """Raise `InvalidInput`, which says what to do, if the block, which imports module `name`, replaces the threads."""
    before = threading_parts()
    yield
    replaced = [part for part, old in zip(threading_parts(), before, strict=True) if part is not old]
    if replaced:
        raise InvalidInput(f"{name} {what(replaced[0])}; {REMEDY}")


REMEDY = (
    "patch before the daemon starts, by `python -m gevent.monkey $(command -v ayb-jobs) run`,"
    " or leave the patching out of what is imported here"
)


def threading_parts() -> tuple[object, ...]:
    """Return what threads and waiting are made of."""
    return (_thread.start_new_thread, _thread.allocate_lock, select.select, getattr(select, "poll", None), time.sleep)


def what(replaced: object) -> str:
    """Say who has replaced something, as far as it shows."""
    owner = str(getattr(replaced, "__module__", None) or "").partition(".")[0]
    who = f" by {owner}'s" if owner in ("gevent", "eventlet") else ""
    return f"replaces Python's threads or waiting{who} while it is imported, with which the daemon has begun already"
