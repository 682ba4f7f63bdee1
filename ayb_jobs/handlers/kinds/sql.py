"""Jobs written as SQL: what `[job_types.NAME]` in the configuration says, made into a job type."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg import Cursor, sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.errors import Discard, InvalidInput
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.kinds.cleanup import Delete, TableMissing, delete_in_batches
from ayb_jobs.handlers.registry import Handler, JobType, suggestion
from ayb_jobs.model.job import encode_payload
from ayb_jobs.model.results import Result

# How often a cleanup shows its progress and extends its lease.
PROGRESS_EVERY_S = 1.0

# Whatever psycopg takes for a placeholder: `%%` is a percent sign, and `%(name)s` is the payload's value of that name.
PLACEHOLDER = re.compile(r"%(?:%|\((?P<name>[^)]*)\)s)?")
TABLE_NAME = re.compile(r'[^".%\x00]+(\.[^".%\x00]+)?')
CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})


def sql_job_type(name: str, settings: JobTypeSettings, *, source: str) -> JobType:
    """Return the job type that settings without `sql_faults` describe."""
    run: Handler = partial(run_statements, settings.statements, settings.payload)
    if not settings.statements:
        run = partial(run_deletes, deletes_of(settings), settings.payload)
    return JobType(
        name=name,
        run=run,
        description=settings.description,
        max_attempts=settings.max_attempts,
        timeout_s=settings.timeout_s,
        payload=settings.payload,
        source=source,
    )


def sql_faults(settings: JobTypeSettings) -> Iterator[str]:
    """Yield what is wrong with the SQL of a job type: the key, what is wrong, and what would be right."""
    try:
        encode_payload(settings.payload)
    except InvalidInput as error:
        yield f"payload cannot be used: {error}"
    for key, delete in zip(delete_keys(settings), deletes_of(settings), strict=True):
        if not TABLE_NAME.fullmatch(delete.table):
            yield (
                f"{key}delete_from is {delete.table!r}; a table's name as it is stored is needed, without quotes,"
                " such as sessions or auth.sessions"
            )
        yield from placeholder_faults(f"{key}where", delete.where, settings.payload)
    for index, statement in enumerate(settings.statements, 1):
        yield from placeholder_faults(f"statements, number {index},", statement, settings.payload)


def deletes_of(settings: JobTypeSettings) -> list[Delete]:
    """Return the deletes of a job type, in order; none where it consists of statements."""
    tables = [(delete.delete_from, delete.where) for delete in settings.deletes]
    if settings.delete_from:
        tables.append((settings.delete_from, settings.where))
    return [Delete(table=table, where=where, batch_size=settings.batch_size) for table, where in tables]


def delete_keys(settings: JobTypeSettings) -> list[str]:
    """Return what stands before `delete_from` and `where` in the key of each of `deletes_of`."""
    return [f"deletes.{index}." for index in range(len(settings.deletes))] or [""] * bool(settings.delete_from)


def placeholder_faults(key: str, text: str, payload: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an SQL text and its placeholders."""
    if not text.strip():
        yield f"{key} is empty; SQL is needed"
    for found in PLACEHOLDER.finditer(text):
        name = found["name"]
        if found[0] == "%":
            yield f"{key} has a lone % before {text[found.end() :][:10]!r}; write %% for a percent sign"
        elif name is not None and name not in payload:
            yield (
                f"{key} uses %({name})s, for which payload has no default{suggestion(name, payload)}"
                if payload
                else f"{key} uses %({name})s, for which payload has no default; add payload = {{ {name} = … }}"
            )


def run_deletes(deletes: Sequence[Delete], defaults: Mapping[str, Any], ctx: JobContext) -> Result:
    """Delete batch by batch and return how many rows went.

    Between batches the lease is extended, and the job ends where it is asked to stop; at a shutdown that gives it back
    to the queue with its attempt, for another daemon to go on.
    """
    parameters = bound(ctx.payload, defaults)
    ctx.records_processed = 0
    told = time.monotonic()
    for deleted in batches(deletes, parameters, ctx):
        ctx.records_processed += deleted
        if ctx.stop_reason is not None:
            ctx.log.info("cleanup.interrupted", reason=ctx.stop_reason, records_processed=ctx.records_processed)
            ctx.check()
        if time.monotonic() - told >= PROGRESS_EVERY_S:
            ctx.progress(ctx.records_processed)
            told = time.monotonic()
    return ctx.records_processed


def batches(deletes: Sequence[Delete], parameters: Mapping[str, Any], ctx: JobContext) -> Iterator[int]:
    """Yield how many rows each batch of each delete took. A table that is not there has none, with a warning."""
    for delete in deletes:
        try:
            yield from delete_in_batches(ctx.connection, delete, parameters)
        except TableMissing:
            ctx.log.warning("cleanup.table_missing", table=delete.table)


def run_statements(statements: Sequence[str], defaults: Mapping[str, Any], ctx: JobContext) -> Result:
    """Run the statements in one transaction, so that an attempt does all or nothing; return how many rows they changed."""
    parameters = bound(ctx.payload, defaults)
    changed = 0
    with ctx.connection() as conn:
        for statement in statements:
            ctx.check()
            changed += changed_rows(conn.execute(sql.SQL(statement), parameters, prepare=False))
    return changed


def changed_rows(cursor: Cursor[TupleRow]) -> int:
    """Return how many rows a statement changed; what a SELECT found is not counted."""
    command = (cursor.statusmessage or "").partition(" ")[0]
    return max(0, cursor.rowcount) if command in CHANGES else 0


def bound(payload: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values to bind: those of the payload, over the defaults. A null in the payload is an SQL NULL.

    Discards the job where its payload is no object, which another attempt would not change.
    """
    given = {} if payload is None else payload
    if not isinstance(given, Mapping):
        raise Discard(f"the payload is a {type(given).__name__}; this job takes an object, such as {{}}")
    return {name: bindable(given.get(name, default)) for name, default in defaults.items()}


def bindable(value: Any) -> Any:
    """Return a JSON value as psycopg binds it: lists and objects as jsonb, anything else as it is."""
    return Jsonb(value) if isinstance(value, Mapping | list) else value
