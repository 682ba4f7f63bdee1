"""Barycenter's schema and what its queries do; imported with the first question, since strawberry is large."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import (
    DisableIntrospection,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    QueryDepthLimiter,
    SchemaExtension,
)
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types import ExecutionResult, Info

from ayb_jobs.errors import AybJobsError, InvalidInput
from ayb_jobs.events import JobsEnqueued, RequestFailed
from ayb_jobs.http.edge.auth import Caller, Scope
from ayb_jobs.http.edge.problems import INTERNAL, Refused
from ayb_jobs.http.requests import MAX_PAGE
from ayb_jobs.http.services import Services
from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import checked_text
from ayb_jobs.storage.audit import record_deed, snapshot
from ayb_jobs.storage.queue import jobs
from ayb_jobs.storage.queue.executions import list_executions
from ayb_jobs.storage.requests import reading, writing
from ayb_jobs.storage.schedules.schedules import list_schedules
from ayb_jobs.wire.jobs import instant_text

MAX_DEPTH = 6
MAX_TOKENS = 1000
MAX_ALIASES = 15
DEFAULT_LOGS = 100
MAX_TEXT = 1000
MAX_INT = 2**31 - 1  # GraphQL's Int


@dataclass(frozen=True, slots=True)
class Asking:
    """On what, and for whom, a document is executed."""

    services: Services
    caller: Caller


Context = Info[Asking, None]


@strawberry.type(description="A registered job.")
class JobInfo:
    """A registered job; `schedule` is its cron expression, "" where it has none."""

    name: str
    description: str
    schedule: str


@strawberry.type(description="One execution of a job.")
class JobLog:
    """One execution; `success` and `completed_at` are null while it runs."""

    id: strawberry.ID
    job_name: str
    started_at: str
    completed_at: str | None
    success: bool | None
    error_message: str | None
    records_processed: int | None


@strawberry.type(description="What became of a trigger.")
class TriggerResult:
    """What became of a trigger."""

    success: bool
    message: str
    job_name: str


def available_jobs(info: Context) -> list[JobInfo]:
    """Return the jobs that this daemon can run, by name."""
    services = info.context.services
    with reading(services.database, services.read_timeout_s) as conn:
        crons = {each.job_type: each.cron for each in reversed(list_schedules(conn))}
    return [
        JobInfo(name=one.name, description=one.description, schedule=crons.get(one.name, ""))
        for one in services.registry.types()
    ]


def job_logs(
    info: Context,
    job_name: str | None = strawberry.UNSET,
    limit: int | None = DEFAULT_LOGS,
    only_failures: bool | None = False,  # noqa: FBT001, FBT002 - GraphQL's arguments have names
) -> list[JobLog]:
    """Return executions, the newest first; a limit below 1 means 100, and 500 is the most."""
    services = info.context.services
    wanted = checked_text(job_name, "jobName", MAX_TEXT) if job_name else None
    size = DEFAULT_LOGS if limit is None or limit <= 0 else min(limit, MAX_PAGE)
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_executions(conn, job_type=wanted, only_failures=bool(only_failures), limit=size)
    return [job_log(execution) for execution in found]


def trigger_job(info: Context, job_name: str) -> TriggerResult:
    """Enqueue a job of a registered type."""
    services, caller = info.context.services, info.context.caller
    if caller.scope < Scope.OPERATE:
        raise Refused(403, f"the token {caller.name} has scope {caller.scope.name.lower()}; operate is needed")
    job_type = services.registry.get(job_name)
    if job_type is None:
        shown = job_name.encode(errors="replace").decode()  # JSON cannot carry a lone surrogate
        return TriggerResult(success=False, message=f"Unknown job: {shown}", job_name=shown)
    attempts = job_type.max_attempts or services.config.jobs.max_retries_default
    new = services.registry.new_job(job_name, max_attempts=attempts)
    with writing(services.database, services.write_timeout_s) as conn:
        made = jobs.enqueue(conn, new)
        after_text = snapshot(conn, "job", made.id)
        record_deed(conn, actor=caller.name, action="job.trigger", target=made.id, after_text=after_text)
    services.events.emit(JobsEnqueued(source="api", counts={job_name: 1}))
    return TriggerResult(success=True, message=f"Job {job_name} triggered successfully", job_name=job_name)


@strawberry.type
class Query:
    """Looking."""

    available_jobs: list[JobInfo] = strawberry.field(
        resolver=available_jobs, description="Every registered job, with its cron expression."
    )
    job_logs: list[JobLog] = strawberry.field(resolver=job_logs, description="Executions, the newest first.")


@strawberry.type
class Mutation:
    """Changing."""

    trigger_job: TriggerResult = strawberry.field(resolver=trigger_job, description="Run a job now.")


class QuietSchema(strawberry.Schema):
    """A schema that leaves errors to its caller, where strawberry would log each of them."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Do nothing."""


def schema(*, introspection: bool) -> strawberry.Schema:
    """Return the schema, with bounds on what a document may ask."""
    bounds: list[Callable[[], SchemaExtension]] = [
        partial(QueryDepthLimiter, max_depth=MAX_DEPTH),
        partial(MaxTokensLimiter, max_token_count=MAX_TOKENS),
        partial(MaxAliasesLimiter, max_alias_count=MAX_ALIASES),
    ]
    if not introspection:
        bounds.append(DisableIntrospection)
    return QuietSchema(query=Query, mutation=Mutation, extensions=bounds)


class Executor:
    """Executes documents, and tells the schema itself where `introspection` allows it."""

    def __init__(self, *, introspection: bool) -> None:
        self._schema = schema(introspection=introspection)

    def __call__(
        self,
        services: Services,
        caller: Caller,
        query: str,
        variables: dict[str, Any] | None = None,
        operation_name: str | None = None,
    ) -> Mapping[str, Any]:
        """Return a document's answer, with `errors` where there are any.

        Raises `InvalidInput` where the document has no operation of the name given.
        """
        try:
            result = self._schema.execute_sync(
                query,
                variable_values=variables,
                operation_name=operation_name,
                context_value=Asking(services, caller),
            )
        except CannotGetOperationTypeError:
            raise InvalidInput("the document has no operation of that name", field="operation_name") from None
        return _answer(services, result)


def job_log(execution: Execution) -> JobLog:
    """Return an attempt as Barycenter shows it. GraphQL's Int ends at 2,147,483,647, and so do the records shown."""
    records = execution.records_processed
    return JobLog(
        id=strawberry.ID(str(execution.id)),
        job_name=execution.job_type,
        started_at=instant_text(execution.started_at),
        completed_at=None if execution.ended_at is None else instant_text(execution.ended_at),
        success=execution.success,
        error_message=execution.error,
        records_processed=None if records is None else min(records, MAX_INT),
    )


def _answer(services: Services, result: ExecutionResult) -> dict[str, Any]:
    answered: dict[str, Any] = {"data": result.data}
    if result.errors:
        answered["errors"] = [_error(services, error) for error in result.errors]
    return answered


def _error(services: Services, error: GraphQLError) -> Mapping[str, Any]:
    """Return an error as GraphQL formats it, without the words of an exception that is no caller's business."""
    cause = error.original_error
    if cause is None or isinstance(cause, AybJobsError):
        return error.formatted
    services.events.emit(RequestFailed(request="POST /admin/jobs", error=cause))
    return {**error.formatted, "message": INTERNAL}
