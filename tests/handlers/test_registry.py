"""The registry takes only what can run, and says what is wrong with anything else."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.registry import Registry


def handle(ctx: JobContext) -> None:
    """Do something.

    At length.
    """


def test_a_decorated_function_stays_itself_and_is_found() -> None:
    registry = Registry()
    assert registry.handler("send_mail", max_attempts=5, timeout_s=30)(handle) is handle
    found = registry.get("send_mail")
    assert found is not None
    assert (found.run, found.description, found.max_attempts, found.timeout_s) == (handle, "Do something.", 5, 30)
    assert registry.get("send_mails") is None


def test_types_and_names_come_in_order() -> None:
    registry = Registry()
    for name in ("b", "a", "c"):
        registry.handler(name)(handle)
    assert registry.names() == ("a", "b", "c")
    assert [found.name for found in registry.types()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"name": ""}, "job type", "is empty"),
        ({"name": " "}, "job type", "is empty"),
        ({"name": "x" * 101}, "job type", "101 characters"),
        ({"name": "a\x00b"}, "job type", "cannot store"),
        ({"max_attempts": 0}, "max_attempts", "at least 1"),
        ({"max_attempts": 2**31}, "max_attempts", "is 2147483648"),
        ({"max_attempts": True}, "max_attempts", "whole number"),
        ({"max_attempts": "3"}, "max_attempts", "'3'"),
        ({"timeout_s": 0}, "timeout_s", "above 0"),
        ({"timeout_s": -1.5}, "timeout_s", "above 0"),
        ({"timeout_s": float("inf")}, "timeout_s", "above 0"),
        ({"timeout_s": float("nan")}, "timeout_s", "above 0"),
        ({"timeout_s": timedelta(seconds=3)}, "timeout_s", "number of seconds"),
        ({"payload": {"at": {1, 2}}}, "payload", r"payload\.at"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, Any], field: str, message: str) -> None:
    registry = Registry()
    with pytest.raises(InvalidInput, match=message) as refused:
        registry.handler(**{"name": "send_mail", **values})(handle)
    assert refused.value.field == field
    assert registry.names() == ()


def no_argument() -> None: ...


def two_arguments(ctx: JobContext, more: object) -> None: ...


async def coroutine_without_argument() -> None: ...


def generator(ctx: JobContext) -> Iterator[int]:
    yield 1


async def async_generator(ctx: JobContext) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "run", [no_argument, two_arguments, coroutine_without_argument, generator, async_generator, None, "handle"]
)
def test_what_cannot_be_called_with_a_context_is_refused(run: Any) -> None:
    with pytest.raises(InvalidInput, match="send_mail"):
        Registry().handler("send_mail")(run)


def test_asynchronous_functions_methods_and_objects_run_on_the_event_loop() -> None:
    class Mailer:
        async def __call__(self, ctx: AsyncJobContext) -> None: ...

        async def send(self, ctx: AsyncJobContext, copies: int) -> None: ...

    async def send(ctx: AsyncJobContext) -> None: ...

    registry = Registry()
    registry.handler("function")(send)
    registry.handler("object")(Mailer())
    registry.handler("partial")(partial(Mailer().send, copies=2))
    registry.handler("plain")(lambda _: None)
    assert {one.name: one.executor for one in registry.types()} == {
        "function": "async",
        "object": "async",
        "partial": "async",
        "plain": "thread",
    }


def test_methods_and_callable_objects_are_handlers() -> None:
    class Mailer:
        def __call__(self, ctx: JobContext) -> int:
            return ctx.attempt

        def send(self, ctx: JobContext, copies: int = 1) -> int:
            return ctx.attempt * copies

    registry = Registry()
    registry.handler("a")(Mailer())
    registry.handler("b")(Mailer().send)
    assert registry.names() == ("a", "b")


def test_a_name_can_be_taken_once_and_the_error_names_both_places() -> None:
    registry = Registry()
    registry.handler("send_mail")(handle)
    with pytest.raises(InvalidInput, match=r"send_mail is defined twice: by .*handle and by .*other"):

        @registry.handler("send_mail")
        def other(ctx: JobContext) -> None: ...


def test_merging_adds_all_or_nothing() -> None:
    ours, theirs = Registry(), Registry()
    ours.handler("b")(handle)
    theirs.handler("a")(handle)
    ours.merge(theirs)
    assert ours.names() == ("a", "b")
    more = Registry()
    more.handler("_new")(handle)
    more.handler("a")(handle)
    with pytest.raises(InvalidInput, match="a is defined twice"):
        ours.merge(more)
    assert ours.names() == ("a", "b")


def test_a_new_job_has_its_type_s_defaults_unless_told_otherwise() -> None:
    registry = Registry()
    registry.handler("send_mail", max_attempts=5, payload={"to": "all"})(handle)
    job = registry.new_job("send_mail")
    assert (job.type, job.payload, job.max_attempts) == ("send_mail", {"to": "all"}, 5)
    job = registry.new_job("send_mail", {"to": "me"}, max_attempts=1, priority=1, delay=timedelta(hours=1))
    assert (job.payload, job.max_attempts, job.priority, job.delay) == ({"to": "me"}, 1, 1, timedelta(hours=1))


def test_the_default_payload_of_a_new_job_is_its_own() -> None:
    registry = Registry()
    registry.add(JobType(name="a", run=handle, payload={"to": "all"}))
    registry.new_job("a").payload["to"] = "none"
    assert registry.new_job("a").payload == {"to": "all"}


def test_a_new_job_of_an_unknown_type_is_refused_with_a_suggestion() -> None:
    registry = Registry()
    registry.handler("send_mail")(handle)
    with pytest.raises(InvalidInput, match="no job type sendmail; did you mean send_mail"):
        registry.new_job("sendmail")
