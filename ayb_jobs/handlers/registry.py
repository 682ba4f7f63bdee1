"""Which job types there are, and what each runs."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.functions import check_arguments, check_callable, first_line, is_async
from ayb_jobs.handlers.job_type import JobType, isolated
from ayb_jobs.handlers.middleware import Middleware, around, check_middleware
from ayb_jobs.handlers.suggestion import suggestion
from ayb_jobs.handlers.validation import model_of, validating
from ayb_jobs.model.new_job import NewJob

H = TypeVar("H", bound=Callable[..., Any])


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
    with `@registry.handler("send_mail", max_attempts=5, timeout_s=30)`. `middleware` are functions around each of them.
    """

    def __init__(self, *, middleware: Sequence[Middleware] = ()) -> None:
        check_middleware(middleware)
        self._middleware = tuple(middleware)
        self._types: dict[str, JobType] = {}

    def handler(
        self,
        name: str,
        *,
        description: str | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        payload: Mapping[str, Any] | None = None,
        isolation: Literal["process"] | None = None,
    ) -> Callable[[H], H]:
        """Return a decorator that registers a function as the handler of job type `name`, and leaves it as it is.

        The description is the first line of the function's docstring if none is given. `max_attempts`, `timeout_s`
        (seconds) and `payload` are the type's defaults, see `JobType`. A plain function runs in a thread and gets a
        `JobContext`; an `async def` function runs on the event loop and gets an `AsyncJobContext`. With
        `isolation="process"` a plain function runs in a child process. Raises `InvalidInput` for a name that is taken
        or cannot be stored, for a bad value, and for a function that takes something else than the context, and after
        it perhaps the payload as a dataclass or a pydantic model.
        """
        if isolation not in (None, "process"):
            raise InvalidInput(
                f'isolation of job type {name} is {isolation!r:.100}; give "process", or nothing', field="isolation"
            )

        def register(run: H) -> H:
            job_type = JobType(
                name=name,
                run=self._wrapped(name, run),
                description=first_line(run) if description is None else description,
                max_attempts=max_attempts,
                timeout_s=timeout_s,
                payload=payload or {},
                executor="async" if is_async(run) else "thread",
                source=f"{run.__module__}.{getattr(run, '__qualname__', type(run).__name__)}",
                module=run.__module__,
            )
            self.add(isolated(job_type) if isolation == "process" else job_type)
            return run

        return register

    def _wrapped(self, name: str, run: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return what runs a handler: itself, unless its payload is to be validated or there is middleware."""
        check_callable(name, run)
        model = model_of(name, run)
        check_arguments(name, run, 1 if model is None else 2)
        validated = run if model is None else validating(name, run, model, is_async=is_async(run))
        return around(validated, self._middleware, of_async=is_async(run))

    def add(self, job_type: JobType) -> None:
        """Add a job type; raises `InvalidInput` if its name is taken."""
        taken = self._types.get(job_type.name)
        if taken is not None:
            raise InvalidInput(
                f"job type {job_type.name} is defined twice: by {taken.source or 'one place'}"
                f" and by {job_type.source or 'another'}",
                field="job type",
            )
        self._types[job_type.name] = job_type

    def change(self, job_type: JobType) -> None:
        """Put a job type in the place of the one of its name; raises `InvalidInput` if there is none."""
        if job_type.name not in self._types:
            raise InvalidInput(
                f"there is no job type {job_type.name}{suggestion(job_type.name, self._types)}", field="type"
            )
        self._types[job_type.name] = job_type

    def merge(self, other: "Registry") -> None:
        """Add all job types of `other`; if one's name is taken, raises `InvalidInput` and adds none."""
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

    def check_payload(self, name: str, payload: Any) -> None:
        """Raise `InvalidInput` if a payload is beyond the bounds of its job type. A type that is not known has none."""
        job_type = self._types.get(name)
        if job_type is not None:
            job_type.bounds.check(payload)

    def new_job(self, name: str, payload: Any = None, **options: Unpack[JobOptions]) -> NewJob:
        """Return a job of type `name`, ready to be enqueued, with the type's defaults for what no option says.

        Without a payload it gets the type's own. Raises `InvalidInput` for an unknown type, a bad option, and a payload
        beyond the type's bounds.
        """
        job_type = self._types.get(name)
        if job_type is None:
            raise InvalidInput(f"there is no job type {name}{suggestion(name, self._types)}", field="type")
        job_type.bounds.check(payload)
        if job_type.max_attempts is not None:
            options.setdefault("max_attempts", job_type.max_attempts)
        return NewJob(type=name, payload=dict(job_type.payload) if payload is None else payload, **options)
