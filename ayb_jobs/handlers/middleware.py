"""Functions around handlers: what every job of a registry needs before it, after it, or if it fails."""

from collections.abc import Callable, Sequence
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.functions import is_async

# Gets the context and what runs the handler; an `async def` one awaits what that returns.
Middleware = Callable[[Any, Callable[[], Any]], Any]


def check_middleware(middleware: Sequence[Middleware]) -> None:
    """Raise `InvalidInput` for what is no function."""
    for one in middleware:
        if not callable(one):
            raise InvalidInput(
                f"middleware {one!r:.100} is no function; give one that takes (ctx, call)", field="middleware"
            )


def around(run: Callable[[Any], Any], middleware: Sequence[Middleware], *, of_async: bool) -> Callable[[Any], Any]:
    """Return a handler that runs within the middleware of its own kind; the first is the outermost."""
    for one in reversed(middleware):
        if is_async(one) == of_async:
            run = _around_async(run, one) if of_async else _around(run, one)
    return run


def _around(run: Callable[[Any], Any], one: Middleware) -> Callable[[Any], Any]:
    def within(ctx: Any) -> Any:
        return one(ctx, lambda: run(ctx))

    return within


def _around_async(run: Callable[[Any], Any], one: Middleware) -> Callable[[Any], Any]:
    async def within(ctx: Any) -> Any:
        return await one(ctx, lambda: run(ctx))

    return within
