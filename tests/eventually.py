"""Waiting for what happens in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within_s: float = 10) -> T:
    """Call `condition` until it returns something true or passes its assertions, and return that.

    Within the time, its AssertionErrors count as "not yet"; at the end the last one, or its last answer, is the
    failure. Any other exception is a failure at once.
    """
    give_up = time.monotonic() + within_s
    while True:
        late = time.monotonic() > give_up
        try:
            answer = condition()
        except AssertionError:
            if late:
                raise
        else:
            if answer:
                return answer
            assert not late, f"after {within_s} s still {answer!r}"
        time.sleep(0.01)
