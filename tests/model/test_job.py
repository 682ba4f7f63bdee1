"""New jobs are checked at the door; stored ones are read whatever they hold."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ayb_jobs.errors import InvalidInput, PayloadUndecodable
from ayb_jobs.model.instants import instant
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.payload import decode_payload, encode_payload


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"type": ""}, "type"),
        ({"type": " "}, "type"),
        ({"type": "x" * 101}, "type"),
        ({"type": "nul\x00"}, "type"),
        ({"type": "lone\ud800"}, "type"),
        ({"type": "t", "queue": ""}, "queue"),
        ({"type": "t", "priority": 0}, "priority"),
        ({"type": "t", "priority": 5}, "priority"),
        ({"type": "t", "max_attempts": 0}, "max_attempts"),
        ({"type": "t", "max_attempts": 2**31}, "max_attempts"),
        ({"type": "t", "idempotency_key": "k" * 256}, "idempotency_key"),
        ({"type": "t", "run_at": datetime(2026, 1, 1)}, "run_at"),
        ({"type": "t", "run_at": datetime(2026, 1, 1, tzinfo=UTC), "delay": timedelta(1)}, "run_at"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        NewJob(**values)
    assert refused.value.field == field


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "payload",
    [
        {"a": "\x00"},
        {"\x00": 1},
        [["\x00"]],
        {"a": "\ud800"},
        {"a": float("nan")},
        {"a": object()},
        {"a": "x" * 2**20},
        nested(100_000),
    ],
)
def test_a_payload_that_cannot_be_stored_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode_payload(payload)
    assert refused.value.field == "payload"


def test_an_instant_is_taken_in_utc_whatever_its_offset() -> None:
    run_at = datetime(2030, 1, 1, 23, 59, tzinfo=timezone(-timedelta(hours=23, minutes=59)))
    taken = NewJob(type="t", run_at=run_at).run_at
    assert taken == run_at
    assert taken.utcoffset() == timedelta(0)


def test_an_instant_that_has_no_year_in_utc_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="its year is not from 1 to 9999") as refused:
        NewJob(type="t", run_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))))
    assert refused.value.field == "run_at"


@pytest.mark.parametrize("payload", [{}, [], 1, "text", None, {"ä": ["\\u0000", 1.5, True]}])
def test_a_payload_comes_back_as_it_went(payload: Any) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"n": ' + "9" * 5000 + "}"])
def test_a_payload_that_python_cannot_hold_is_told_apart(text: str) -> None:
    with pytest.raises(PayloadUndecodable):
        decode_payload(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21 22:00:00.5+00", datetime(2026, 11, 21, 22, 0, 0, 500_000, UTC)),
        ("2026-11-21 22:00:00+05:30", datetime(2026, 11, 21, 16, 30, tzinfo=UTC)),
        ("infinity", datetime.max.replace(tzinfo=UTC)),
        ("20000-01-01 00:00:00+00", datetime.max.replace(tzinfo=UTC)),
        ("-infinity", datetime.min.replace(tzinfo=UTC)),
        ("0044-03-15 00:00:00+00 BC", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_an_instant_beyond_python_is_clamped(text: str, expected: datetime) -> None:
    assert instant(text) == expected
