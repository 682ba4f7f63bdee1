"""Barycenter's schema and what its queries do; imported with the first question, since graphql-core is large."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLResolveInfo,
    NoSchemaIntrospectionCustomRule,
    VariableDefinitionNode,
    build_schema,
    execute,
    get_operation_ast,
    specified_rules,
    validate,
)
from graphql.execution.values import get_variable_values

from ayb_jobs.errors import AybJobsError, DatabaseError, InvalidInput
from ayb_jobs.events import RequestFailed
from ayb_jobs.http.acting import acting
from ayb_jobs.http.edge.auth import Caller, Scope
from ayb_jobs.http.edge.problems import INTERNAL, InvalidBody, Refused
from ayb_jobs.http.parsing import MAX_PAGE
from ayb_jobs.http.routes.graphql_bounds import bounded_document
from ayb_jobs.http.services import Services
from ayb_jobs.model.checked import checked_text
from ayb_jobs.model.execution import Execution
from ayb_jobs.model.instants import instant_text
from ayb_jobs.operations import jobs as operations
from ayb_jobs.storage.queue.executions import list_executions
from ayb_jobs.storage.requests import reading
from ayb_jobs.storage.schedules.schedules import list_schedules

DEFAULT_LOGS = 100
MAX_TEXT = 1000
MAX_INT = 2**31 - 1  # GraphQL's Int
MAX_ERRORS = 20

SCHEMA = '''
"""Looking."""
type Query {
  """Every registered job, with its cron expression."""
  availableJobs: [JobInfo!]!
  """Executions, the newest first."""
  jobLogs(jobName: String, limit: Int = 100, onlyFailures: Boolean = false): [JobLog!]!
}

"""Changing."""
type Mutation {
  """Run a job now."""
  triggerJob(jobName: String!): TriggerResult!
}

"""A registered job."""
type JobInfo {
  name: String!
  description: String!
  """The cron expression; empty if no schedule makes this job."""
  schedule: String!
}

"""One execution of a job."""
type JobLog {
  id: ID!
  jobName: String!
  startedAt: String!
  """Null while the job runs."""
  completedAt: String
  """Null while the job runs."""
  success: Boolean
  errorMessage: String
  recordsProcessed: Int
}

"""What became of a trigger."""
type TriggerResult {
  success: Boolean!
  message: String!
  jobName: String!
}
'''

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """On what, and for whom, a document is executed, and until when: all of its statements share the time."""

    services: Services
    caller: Caller
    until: float

    def left_s(self, most_s: float) -> float:
        """Return how long the next statement may take; raises `DatabaseError` if the document's time is used up."""
        left_s = self.until - time.monotonic()
        if left_s <= 0:
            raise DatabaseError("the document took too long; ask for less at once, or try later")
        return min(left_s, most_s)


def available_jobs(info: "GraphQLResolveInfo[Asking]") -> list[Fields]:
    """Return the jobs that this daemon can run, by name."""
    services = info.context.services
    with reading(services.database, info.context.left_s(services.read_timeout_s)) as conn:
        crons = {each.job_type: each.cron for each in reversed(list_schedules(conn))}
    return [
        {"name": one.name, "description": one.description, "schedule": crons.get(one.name, "")}
        for one in services.registry.types()
    ]


def job_logs(
    info: "GraphQLResolveInfo[Asking]",
    *,
    jobName: str | None = None,
    limit: int | None = DEFAULT_LOGS,
    onlyFailures: bool | None = False,
) -> list[Fields]:
    """Return executions, the newest first; a limit below 1 means 100, and 500 is the most."""
    services = info.context.services
    wanted = checked_text(jobName, "jobName", MAX_TEXT) if jobName else None
    size = DEFAULT_LOGS if limit is None or limit <= 0 else min(limit, MAX_PAGE)
    with reading(services.database, info.context.left_s(services.read_timeout_s)) as conn:
        found = list_executions(conn, job_type=wanted, only_failures=bool(onlyFailures), limit=size)
    return [job_log(execution) for execution in found]


def trigger_job(info: "GraphQLResolveInfo[Asking]", *, jobName: str) -> Fields:
    """Enqueue a job of a registered type."""
    services, caller = info.context.services, info.context.caller
    if caller.scope < Scope.OPERATE:
        raise Refused(403, f"the token {caller.name} has scope {caller.scope.name.lower()}; operate is needed")
    if services.registry.get(jobName) is None:
        shown = jobName.encode(errors="replace").decode()  # JSON cannot carry a lone surrogate
        return {"success": False, "message": f"Unknown job: {shown}", "jobName": shown}
    timeout_s = info.context.left_s(services.write_timeout_s)
    with acting(services, caller, timeout_s=timeout_s) as (conn, actor):
        operations.enqueue(conn, {"type": jobName}, actor=actor, defaults=services.defaults)
    return {"success": True, "message": f"Job {jobName} triggered successfully", "jobName": jobName}


RESOLVERS = {"availableJobs": available_jobs, "jobLogs": job_logs, "triggerJob": trigger_job}


class Executor:
    """Executes documents, and tells the schema itself if `introspection` allows it."""

    def __init__(self, *, introspection: bool) -> None:
        self._schema = build_schema(SCHEMA)
        self._rules = [*specified_rules] if introspection else [*specified_rules, NoSchemaIntrospectionCustomRule]

    def __call__(
        self,
        services: Services,
        caller: Caller,
        query: str,
        variables: dict[str, Any] | None = None,
        operation_name: str | None = None,
    ) -> Mapping[str, Any]:
        """Return a document's answer, with `errors` if there are any.

        Raises `InvalidInput` if the document has no operation of the name given, or if a variable has a wrong type.
        """
        try:
            document = bounded_document(query)
        except GraphQLError as error:
            return refused([error])
        if errors := validate(self._schema, document, self._rules, max_errors=MAX_ERRORS):
            return refused(errors)
        self._check_variables(document, variables or {}, operation_name)
        until = time.monotonic() + services.write_timeout_s
        result = execute(
            self._schema,
            document,
            RESOLVERS,
            Asking(services, caller, until),
            variables,
            operation_name,
        )
        assert isinstance(result, ExecutionResult)  # noqa: S101 - no resolver is a coroutine
        return _answer(services, result)

    def _check_variables(self, document: DocumentNode, variables: dict[str, Any], operation_name: str | None) -> None:
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            raise InvalidInput("operationName names no single operation of the document", field="operationName")
        values = get_variable_values(self._schema, operation.variable_definitions or (), variables, MAX_ERRORS)
        if isinstance(values, list):
            raise InvalidBody({f"variables.{name_of(error)}": ("invalid", error.message) for error in values})


def name_of(error: GraphQLError) -> str:
    """Return the variable that an error is about."""
    defined = [node for node in error.nodes or () if isinstance(node, VariableDefinitionNode)]
    return defined[0].variable.name.value if defined else ""


def job_log(execution: Execution) -> Fields:
    """Return an attempt as Barycenter shows it. GraphQL's Int ends at 2,147,483,647, and so do the records shown."""
    records = execution.records_processed
    return {
        "id": str(execution.id),
        "jobName": execution.job_type,
        "startedAt": instant_text(execution.started_at),
        "completedAt": None if execution.ended_at is None else instant_text(execution.ended_at),
        "success": execution.success,
        "errorMessage": execution.error,
        "recordsProcessed": None if records is None else min(records, MAX_INT),
    }


def refused(errors: list[GraphQLError]) -> Mapping[str, Any]:
    """Return the answer to a document that is not executed."""
    return {"data": None, "errors": [error.formatted for error in errors]}


def _answer(services: Services, result: ExecutionResult) -> Mapping[str, Any]:
    answered: dict[str, Any] = {"data": result.data}
    if result.errors:
        answered["errors"] = [_error(services, error) for error in result.errors]
    return answered


def _error(services: Services, error: GraphQLError) -> Mapping[str, Any]:
    """Return an error as GraphQL formats it, without the words of an exception that is no caller's business."""
    cause = error.original_error
    if cause is None or isinstance(cause, AybJobsError | GraphQLError):
        return error.formatted
    services.events.emit(RequestFailed(request="POST /admin/jobs", error=cause))
    return {**error.formatted, "message": INTERNAL}
