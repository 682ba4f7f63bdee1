"""Which functions can be handlers."""

import inspect
from collections.abc import Callable

from ayb_jobs.errors import InvalidInput


def check_callable(name: str, run: object) -> None:
    """Raise `InvalidInput` if `run` is no function that can serve as the handler of job type `name`."""
    if not callable(run):
        raise InvalidInput(f"the handler of {name} is {run!r}; a function is needed", field="handler")
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise InvalidInput(
            f"the handler of {name} is a generator; a handler is a plain function or an `async def` one",
            field="handler",
        )


def check_arguments(name: str, run: Callable[..., object], count: int) -> None:
    """Raise `InvalidInput` if a handler cannot be called with so many arguments: the context, then the payload."""
    try:
        inspect.signature(run).bind(*[None] * count)
    except TypeError:
        wanted = "exactly one argument, the JobContext" if count == 1 else "the JobContext and the payload alone"
        raise InvalidInput(f"the handler of {name} must take {wanted}", field="handler") from None
    except ValueError:
        pass  # some built-in callables have no signature to look at


def is_async(run: Callable[..., object]) -> bool:
    """Tell whether a handler is one for the event loop: an `async def` function, or an object that is called as one."""
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(type(run).__call__)


def first_line(run: object) -> str:
    """Return the first line of a function's docstring, or ""."""
    return (inspect.getdoc(run) or "").partition("\n")[0]
