"""What a payload may hold, how it is written, and what is said of the rest."""

import copy
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Field

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.digits import exact
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.payload import encode_payload


class Size(Enum):
    LARGE = Decimal("1.50")


class Kind(StrEnum):
    MAIL = "mail"


@dataclass
class Item:
    price: Decimal
    size: Size = Size.LARGE
    next: Any = None


class Order(BaseModel):
    number: int = Field(alias="orderNumber")
    total: Decimal
    lines: dict[uuid.UUID, list[Decimal]] = {}
    tags: set[str] = set()
    lasts: timedelta = timedelta(seconds=1)


ID = uuid.UUID("01890000-0000-7000-8000-00000000000a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ID, '"01890000-0000-7000-8000-00000000000a"'),
        (datetime(2030, 1, 31, 8, tzinfo=UTC), '"2030-01-31T08:00:00+00:00"'),
        (date(2030, 1, 31), '"2030-01-31"'),
        (Decimal("19.90"), "19.90"),
        (Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        (Size.LARGE, "1.50"),
        (Kind.MAIL, '"mail"'),
        (Item(Decimal("1.10")), '{"price":1.10,"size":1.50,"next":null}'),
        ((1, ID), '[1,"01890000-0000-7000-8000-00000000000a"]'),
        (
            Order(orderNumber=7, total=Decimal("9.00"), lines={ID: [Decimal("0.10")]}, tags={"a"}),
            '{"orderNumber":7,"total":9.00,"lines":{"01890000-0000-7000-8000-00000000000a":[0.10]},"tags":["a"],"lasts":"PT1S"}',
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_payload_holds_what_applications_hold(value: Any, text: str) -> None:
    assert encode_payload(value) == text
    assert encode_payload({"deep": [{"in": value}]}) == f'{{"deep":[{{"in":{text}}}]}}'


def test_a_model_is_read_back_by_its_own_class() -> None:
    order = Order(orderNumber=7, total=Decimal("9.00"), lines={ID: [Decimal("0.10")]})
    assert Order.model_validate(exact(encode_payload(order))) == order


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"items": [1, 2, 3, {"price": {1}}]}, "payload.items[3].price: a set cannot be stored; JSON's values are"),
        ({"unit price": b"x"}, 'payload["unit price"]: a bytes cannot be stored'),
        ({"a": {"b": object()}}, "payload.a.b: an object cannot be stored"),
        ({"a": Item}, "payload.a: a type cannot be stored"),
        ({"a": Item(Decimal(1), next=[timedelta(1)])}, "payload.a.next[0]: a timedelta cannot be stored"),
        ({"a": float("inf")}, "payload.a: inf cannot be stored; JSON has finite numbers alone"),
        ([Decimal("NaN")], "payload[0]: NaN cannot be stored"),
        ({"a": {ID: 1}}, "payload.a: a UUID cannot be a key; JSON's keys are strings"),
        ({"a": ["\x00"]}, "payload.a[0]: a text with a NUL character cannot be stored"),
        ({"a": {"b\x00": 1}}, "payload.a: in a key, a text with a NUL character cannot be stored"),
        ({"a": {"b": "\ud800"}}, "payload.a.b: a text with a lone surrogate cannot be stored"),
        ({"a": Item(Decimal(1), next="\x00")}, "payload.a.next: a text with a NUL character"),
        ({"a" * 60: b""}, f"payload[\"{'a' * 50}…\"]: a bytes"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_stored_is_named_by_its_path(payload: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode_payload(payload)
    assert str(refused.value).startswith(sentence)
    assert refused.value.field == "payload"


def test_a_payload_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    item = Item(Decimal(1))
    item.next = item
    for payload in (endless, item):
        with pytest.raises(InvalidInput, match="nested too deeply, or holds itself"):
            encode_payload(payload)


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "u0000", "\\"])
def test_what_looks_like_a_nul_is_none(text: str) -> None:
    assert json.loads(encode_payload({"a": text})) == {"a": text}


@pytest.mark.parametrize("text", ["\x00", "\\\x00", "\\\\\x00", "a\x00b"])
def test_a_nul_is_found_behind_backslashes(text: str) -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        encode_payload({"a": text})


def test_a_new_job_is_a_value() -> None:
    job = NewJob(type="mail", payload={"to": "ada"}, delay=timedelta(1), idempotency_key="k")
    assert copy.deepcopy(job) == job  # as pickle does it
    assert type(copy.copy(job)) is NewJob
    assert NewJob(type="a").payload == {}
    assert NewJob(type="a").payload is not NewJob(type="a").payload
    assert NewJob(type="a", payload=None).payload is None
    with pytest.raises(AttributeError):
        job.type = "other"  # type: ignore[misc] # that is the point


@pytest.mark.parametrize(
    "values",
    [
        {"type": 5}, {"type": ["mail"]}, {"queue": None}, {"max_attempts": "3"}, {"priority": "high"},
        {"priority": True}, {"priority": 1.0}, {"max_attempts": True}, {"max_attempts": 1.0},
        {"run_at": "2030-01-31"}, {"delay": 60}, {"idempotency_key": 7},
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_name(values: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        NewJob(**{"type": "t", **values})
    assert refused.value.field in values


def test_a_type_may_be_a_word_of_an_enum() -> None:
    assert NewJob(type=Kind.MAIL).type == "mail"
