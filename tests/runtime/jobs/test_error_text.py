"""What is stored of an exception tells all that belongs to it, and no more than is of use."""

from collections.abc import Callable

import pytest

from ayb_jobs.errors import Discard
from ayb_jobs.model.lifecycle import MAX_ERROR, storable_error
from ayb_jobs.runtime.jobs.error_text import MOST_TOLD, error_text


def caught(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def lookup() -> None:
    raise KeyError("no such customer")


def because() -> None:
    try:
        lookup()
    except KeyError as error:
        raise ValueError("cannot bill") from error


def meanwhile() -> None:
    try:
        lookup()
    except KeyError:
        raise ValueError("cannot bill")  # noqa: B904 - that is the point


def suppressed() -> None:
    try:
        lookup()
    except KeyError:
        raise ValueError("cannot bill") from None


def discarded() -> None:
    try:
        lookup()
    except KeyError as error:
        raise Discard("no use") from error


def grouped() -> None:
    raise ExceptionGroup("two of three mails", [caught(because), ExceptionGroup("inner", [TimeoutError("slow")])])


@pytest.mark.parametrize(
    ("act", "first", "told"),
    [
        (because, "ValueError: cannot bill", ["Caused by: KeyError: 'no such customer'", "in lookup"]),
        (meanwhile, "ValueError: cannot bill", ["While handling: KeyError: 'no such customer'"]),
        (discarded, "no use", ["Caused by: KeyError: 'no such customer'"]),
        (
            grouped,
            "ExceptionGroup: two of three mails (2 sub-exceptions)",
            [
                "Member 1 of 2: ValueError: cannot bill",
                "Caused by: KeyError: 'no such customer'",
                "Member 2 of 2: ExceptionGroup: inner (1 sub-exception)",
                "Member 1 of 1: TimeoutError: slow",
            ],
        ),
    ],
)
def test_causes_and_members_belong_to_the_text(act: Callable[[], object], first: str, told: list[str]) -> None:
    text = error_text(caught(act))
    assert text.splitlines()[0] == first
    positions = [text.find(part) for part in told]
    assert positions == sorted(positions)
    assert min(positions) > 0, text


def test_a_suppressed_context_is_left_out() -> None:
    assert "customer" not in error_text(caught(suppressed))


@pytest.mark.outer
def test_a_circle_and_an_endless_chain_come_to_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert error_text(first) == "ValueError: a\nCaused by: ValueError: b"
    chain = ValueError("end")
    for _ in range(10_000):
        longer = ValueError("link")
        longer.__cause__ = chain
        chain = longer
    assert error_text(chain).count("link") == MOST_TOLD
    wide = ExceptionGroup("wide", [ValueError("x" * 1000) for _ in range(10_000)])
    assert len(storable_error(error_text(wide))) < MAX_ERROR + 100


def test_a_member_that_cannot_be_printed_hides_no_other() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    text = error_text(ExceptionGroup("both", [Unprintable(), ValueError("seen")]))
    assert "Member 2 of 2: ValueError: seen" in text
