"""Handlers that take the payload as a dataclass or a model get it validated, or their job fails at once."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from ayb_jobs import AsyncJobContext, InvalidInput, JobContext, Registry
from ayb_jobs.errors import Discard
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.conftest import Lease
from tests.running import running


@dataclass
class Item:
    price: Decimal
    count: int = 1


class Order(BaseModel):
    to: str
    items: list[Item] = Field(min_length=1)


def by_model(ctx: JobContext, order: Order) -> list[Any]:
    return [order.to, order.items[0].price, order.items[0].count]


def by_dataclass(ctx: JobContext, item: Item) -> list[Any]:
    return ["", item.price, item.count]


async def on_the_loop(ctx: AsyncJobContext, order: Order) -> list[Any]:
    return [order.to, order.items[0].price, order.items[0].count]


GOOD = {"to": "a", "items": [{"price": 1.5}]}


@pytest.mark.parametrize(
    ("handler", "good", "bad", "misfit"),
    [
        (by_model, GOOD, {"items": []}, "no Order: to: Field required; items: List should have at least 1 item"),
        (by_dataclass, {"price": "2.50", "count": 2}, {"price": "secret"}, "no Item: price: "),
        (by_dataclass, {"price": 1}, [], "no Item: payload: "),
        (
            on_the_loop,
            GOOD,
            {"to": "a", "items": [{"price": 1, "count": "x"}]},
            "no Order: items.0.count: Input should be",
        ),
    ],
)
def test_a_payload_that_does_not_fit_fails_at_once_with_the_fields_named(
    database_url: str, conn: Connection, handler: Callable[..., Any], good: Any, bad: Any, misfit: str
) -> None:
    registry = Registry()
    registry.handler("test")(handler)
    fits, fails = make_job(conn, payload=good), make_job(conn, payload=bad)
    with running(database_url, registry):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions HAVING count(*) = 2").fetchone())
    found = {
        id_: (state, error) for id_, state, error in conn.execute("SELECT id::text, state, last_error FROM _ayb_jobs")
    }
    assert found[fits] == ("completed", None)
    state, error = found[fails]
    assert state == "failed"
    assert error.startswith(f"the payload is {misfit}")
    assert "secret" not in error


def test_decimals_keep_their_digits(lease: Lease) -> None:
    registry = Registry()
    registry.handler("test")(by_dataclass)
    job_type = registry.get("test")
    assert job_type is not None
    assert str(job_type.run(lease(payload={"price": "2.50"}))[1]) == "2.50"


def test_of_many_fields_the_first_are_named(lease: Lease) -> None:
    registry = Registry()
    registry.handler("test")(by_model)
    job_type = registry.get("test")
    assert job_type is not None
    with pytest.raises(Discard, match=r"items\.8: .*; and 4 more$"):
        job_type.run(lease(payload={"items": [1] * 13}))


def other(ctx: JobContext, order: dict[str, Any]) -> None: ...


def unknown(ctx: JobContext, order: Any) -> None: ...


unknown.__annotations__["order"] = "Nothing"


def third(ctx: JobContext, order: Order, more: int) -> None: ...


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (
            lambda _ctx, _order: None,
            "a parameter '_order' that is annotated with neither a dataclass nor a pydantic model",
        ),
        (other, "a parameter 'order' that is annotated with neither"),
        (unknown, "the annotation Nothing of the handler of test cannot be found"),
        (third, "must take the JobContext and the payload alone"),
    ],
)
def test_another_signature_is_refused_when_it_is_registered(handler: Callable[..., Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        Registry().handler("test")(handler)


def test_an_annotation_may_be_a_text_and_a_default_of_another_kind_is_left_alone(lease: Lease) -> None:
    def by_text(ctx: JobContext, item: "Item") -> Decimal:
        return item.price

    def with_default(ctx: JobContext, copies: int = 2) -> int:
        return copies

    registry = Registry()
    registry.handler("text")(by_text)
    registry.handler("default")(with_default)
    text, default = registry.get("text"), registry.get("default")
    assert text is not None
    assert default is not None
    assert text.run(lease(payload={"price": 3})) == 3
    assert default.run is with_default
