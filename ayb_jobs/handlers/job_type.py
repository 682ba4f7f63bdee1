"""What a type of job is: its name, what runs, and what a job of it is given."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ayb_jobs.config.tables import STOPPING_S
from ayb_jobs.errors import Discard, InvalidInput
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.model.bounds import NO_BOUNDS, Bounds
from ayb_jobs.model.checked import checked_name
from ayb_jobs.model.new_job import MAX_ATTEMPTS
from ayb_jobs.model.payload import encode_payload

# Whatever it returns, `model.results` says what that means.
Handler = Callable[[JobContext], Any]
AsyncHandler = Callable[[AsyncJobContext], Coroutine[Any, Any, Any]]
AnyHandler = Callable[[Any], Any]
"""A handler of either kind; `JobType.executor` tells which."""


Executor = Literal["thread", "async", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A type of job: its name, what runs, and how.

    `timeout_s` is how long one attempt may take, in seconds; None means no limit. `max_attempts` is None if the
    configuration's `max_retries_default` holds. `payload` is what a job without a payload is given, and `bounds` are
    the numbers that a payload may hold. `source` says where the type was defined, for error messages, and `module` is
    the module of its function. `executor` names
    what runs the handler: a thread, the event loop (`run` is then an `async def` function and gets an
    `AsyncJobContext`), or a child process; see `runtime.executors`. An attempt that was told to
    stop ends without its handler if that has not ended `stopping_s` seconds later.
    """

    name: str
    run: AnyHandler
    description: str = ""
    max_attempts: int | None = None
    timeout_s: float | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    bounds: Bounds = NO_BOUNDS
    source: str = ""
    module: str = ""
    executor: Executor = "thread"
    stopping_s: float = STOPPING_S

    def __post_init__(self) -> None:
        checked_name(self.name, "job type")
        if self.max_attempts is not None and not is_count(self.max_attempts):
            raise self._refusal("max_attempts", self.max_attempts, "give a whole number, at least 1")
        if self.timeout_s is not None and not is_duration(self.timeout_s):
            raise self._refusal("timeout_s", self.timeout_s, "give a number of seconds above 0, or None for no limit")
        encode_payload(dict(self.payload))

    def _refusal(self, name: str, value: object, wanted: str) -> InvalidInput:
        return InvalidInput(f"{name} of job type {self.name} is {value!r}; {wanted}", field=name)


class Isolated:
    """A handler that runs in a child process: called in the daemon it hands the attempt over, in the child it runs."""

    def __init__(self, run: AnyHandler) -> None:
        self._run = run

    def __call__(self, context: JobContext) -> Any:
        """Run the handler, here or there."""
        elsewhere = getattr(context, "elsewhere", None)
        return self._run(context) if elsewhere is None else elsewhere()


def isolated(job_type: JobType) -> JobType:
    """Return a job type whose handler runs in a child process; raises `InvalidInput` if it is asynchronous."""
    if job_type.executor == "process":
        return job_type
    if job_type.executor != "thread":
        raise InvalidInput(
            f"isolation of job type {job_type.name} cannot be: its handler is an `async def` function, which runs on"
            " the event loop; make it a plain function",
            field="isolation",
        )
    return replace(job_type, executor="process", run=Isolated(job_type.run))


def within(bounds: Bounds, run: AnyHandler) -> AnyHandler:
    """Return a handler of the same kind that first discards jobs whose payload is beyond the bounds."""

    def run_within(ctx: JobContext | AsyncJobContext) -> Any:
        try:
            bounds.check(ctx.payload)
        except InvalidInput as error:
            raise Discard(str(error)) from None
        return run(ctx)

    return run_within if bounds else run


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number that a count of attempts can be."""
    return type(value) is int and 1 <= value <= MAX_ATTEMPTS


def is_duration(value: object) -> bool:
    """Tell whether a value is a number of seconds above zero; infinity and NaN are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
