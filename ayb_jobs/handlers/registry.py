"""Which job types there are, and what each runs."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.model.job import MAX_ATTEMPTS, NewJob, checked_name, encode_payload
from ayb_jobs.model.results import Result

Handler = Callable[[JobContext], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A kind of job: its name, what runs, and how.

    `timeout_s` is how long one attempt may take, in seconds, and None means no limit. `max_attempts` is None where the
    configuration's `max_retries_default` holds. `payload` is what a job without a payload is given. `source` says where
    the type was defined, for error messages.
    """

    name: str
    run: Handler
    description: str = ""
    max_attempts: int | None = None
    timeout_s: float | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        checked_name(self.name, "job type")
        if self.max_attempts is not None and not is_count(self.max_attempts):
            raise self._refusal("max_attempts", self.max_attempts, "give a whole number, at least 1")
        if self.timeout_s is not None and not is_duration(self.timeout_s):
            raise self._refusal("timeout_s", self.timeout_s, "give a number of seconds above 0, or None for no limit")
        encode_payload(dict(self.payload))

    def _refusal(self, name: str, value: object, wanted: str) -> InvalidInput:
        return InvalidInput(f"{name} of job type {self.name} is {value!r}; {wanted}", field=name)


class JobOptions(TypedDict, total=False):
    """What may be said of a new job besides its type and payload; see `NewJob`."""

    queue: str
    priority: int
    max_attempts: int
    run_at: datetime
    delay: timedelta
    idempotency_key: str
    traceparent: str


class Registry:
    """A set of job types, each with its handler.

    Made and passed, never global: a module makes one as `registry = Registry()`, and decorates each of its handlers
    with `@registry.handler("send_mail", max_attempts=5, timeout_s=30)`.
    """

    def __init__(self) -> None:
        self._types: dict[str, JobType] = {}

    def handler(
        self,
        name: str,
        *,
        description: str | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that registers a function as the handler of job type `name`, and leaves it as it is.

        The description is the first line of the function's docstring where none is given. `max_attempts`, `timeout_s`
        (seconds) and `payload` are the type's defaults, see `JobType`. Raises `InvalidInput` for a name that is taken
        or cannot be stored, for a bad value, and for a function that cannot be called with one argument.
        """

        def register(run: Handler) -> Handler:
            check_handler(name, run)
            self.add(
                JobType(
                    name=name,
                    run=run,
                    description=first_line(run) if description is None else description,
                    max_attempts=max_attempts,
                    timeout_s=timeout_s,
                    payload=payload or {},
                    source=f"{run.__module__}.{getattr(run, '__qualname__', type(run).__name__)}",
                )
            )
            return run

        return register

    def add(self, job_type: JobType) -> None:
        """Add a job type; raises `InvalidInput` where its name is taken."""
        taken = self._types.get(job_type.name)
        if taken is not None:
            raise InvalidInput(
                f"job type {job_type.name} is defined twice: by {taken.source or 'one place'}"
                f" and by {job_type.source or 'another'}",
                field="job type",
            )
        self._types[job_type.name] = job_type

    def merge(self, other: "Registry") -> None:
        """Add all job types of `other`; where one's name is taken, `InvalidInput` is raised and none is added."""
        before = dict(self._types)
        try:
            for job_type in other.types():
                self.add(job_type)
        except InvalidInput:
            self._types = before
            raise

    def get(self, name: str) -> JobType | None:
        """Return the job type of that name, or None."""
        return self._types.get(name)

    def types(self) -> tuple[JobType, ...]:
        """Return all job types, in the order of their names."""
        return tuple(self._types[name] for name in self.names())

    def names(self) -> tuple[str, ...]:
        """Return the names of all job types, in order."""
        return tuple(sorted(self._types))

    def new_job(self, name: str, payload: Any = None, **options: Unpack[JobOptions]) -> NewJob:
        """Return a job of type `name`, ready to be enqueued, with the type's defaults where no option says otherwise.

        Without a payload it gets the type's own. Raises `InvalidInput` for an unknown type or a bad option.
        """
        job_type = self._types.get(name)
        if job_type is None:
            raise InvalidInput(f"there is no job type {name}{suggestion(name, self._types)}", field="type")
        if job_type.max_attempts is not None:
            options.setdefault("max_attempts", job_type.max_attempts)
        return NewJob(type=name, payload=dict(job_type.payload) if payload is None else payload, **options)


def check_handler(name: str, run: object) -> None:
    """Raise `InvalidInput` where `run` cannot serve as a handler."""
    if not callable(run):
        raise InvalidInput(f"the handler of {name} is {run!r}; a function is needed", field="handler")
    if inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise InvalidInput(
            f"the handler of {name} is an async function or a generator; handlers are plain functions, run in threads",
            field="handler",
        )
    try:
        inspect.signature(run).bind(None)
    except TypeError:
        raise InvalidInput(
            f"the handler of {name} must take exactly one argument, the JobContext", field="handler"
        ) from None
    except ValueError:
        pass  # some built-in callables have no signature to look at


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number that a count of attempts can be."""
    return type(value) is int and 1 <= value <= MAX_ATTEMPTS


def is_duration(value: object) -> bool:
    """Tell whether a value is a number of seconds above zero; infinity and NaN are none."""
    return type(value) in (int, float) and 0 < value < float("inf")  # type: ignore[operator] # numbers by then


def first_line(run: object) -> str:
    """Return the first line of a function's docstring, or ""."""
    return (inspect.getdoc(run) or "").partition("\n")[0]


def suggestion(name: str, known: Mapping[str, object]) -> str:
    """Return "; did you mean …?" for the known name that is nearest, or what is known, to end an error message."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known are {', '.join(sorted(known))}" if known else "; there is none"
