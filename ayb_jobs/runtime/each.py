"""Several things of which one that fails keeps no other from being done."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def do_each(actions: Iterable[Callable[[], T]]) -> list[T]:
    """Do each of these in turn, and return what they returned; raise the first error once all were tried."""
    done: list[T] = []
    first: Exception | None = None
    for action in actions:
        try:
            done.append(action())
        except Exception as error:  # raised below
            first = first or error
    if first is not None:
        raise first
    return done
