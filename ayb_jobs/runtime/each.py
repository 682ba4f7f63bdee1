"""Several things of which one that fails keeps no other from being done."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def do_each(actions: Iterable[Callable[[], T]]) -> list[T]:
    """Do each of these in turn, and return what they returned.

    Raise the first error once all were tried; it has a note of each other one.
    """
    done: list[T] = []
    failures: list[Exception] = []
    for action in actions:
        try:
            done.append(action())
        except Exception as error:  # raised below
            failures.append(error)
    if not failures:
        return done
    first, *others = failures
    for other in others:
        first.add_note(f"beside it: {type(other).__name__}: {other}")
    raise first
