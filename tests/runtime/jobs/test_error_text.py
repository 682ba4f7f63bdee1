"""What is stored of an exception tells all that belongs to it, and no more than is of use."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ayb_jobs import JobContext, Registry
from ayb_jobs.errors import Discard
from ayb_jobs.model.lifecycle import MAX_ERROR, storable_error
from ayb_jobs.runtime.jobs.error_text import MOST_TOLD, error_text
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running


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


@dataclass
class Order:
    number: int


def runs_into_it(_: JobContext, order: Order) -> None:
    lookup()


def passing_on(ctx: JobContext, call_next: Callable[[], object]) -> object:
    return call_next()


def test_the_frames_begin_with_what_is_the_applications(conn: Connection, database_url: str) -> None:
    """The slot, validation and what runs the middleware stand above the handler, and are ours."""
    registry = Registry(middleware=[passing_on])
    registry.handler("order", max_attempts=1)(runs_into_it)
    with running(database_url, registry):
        job_id = make_job(conn, type="order", payload={"number": 3}, max_attempts=1)
        eventually(lambda: state_of(conn, job_id) == "failed")
    (text,) = conn.execute("SELECT last_error FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() or ("",)
    lines = text.splitlines()
    assert lines[0] == "KeyError: 'no such customer'"
    places = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert (places[0], places[-2:]) == ("passing_on", ["runs_into_it", "lookup"])


def state_of(conn: Connection, job_id: str) -> str:
    row = conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone()
    return str(row and row[0])
