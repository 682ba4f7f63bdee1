"""Job types that delete rows, batch by batch: `delete_from` and `where`, or `deletes` for several tables."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.config.section import Fault, Section, setting
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import Handler
from ayb_jobs.handlers.kinds.batches import Delete, TableMissing, delete_in_batches
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.parameters import bound, placeholder_faults
from ayb_jobs.model.results import Result

# How often a cleanup shows its progress and extends its lease.
PROGRESS_EVERY_S = 1.0

TABLE_NAME = re.compile(r'[^".%\x00]+(\.[^".%\x00]+)?')


class DeleteSettings(Section):
    """One table of a cleanup: `delete_from` and `where`."""

    delete_from: str = Field(description="The table.", min_length=1)
    where: str = Field(description="Which rows, as an SQL condition; `%(name)s` is bound to the payload's `name`.")


class CleanupSettings(JobTypeSettings):
    """`[job_types.NAME]`: rows that are deleted in batches."""

    delete_from: str = setting("", "The table whose rows are deleted, in batches.")
    where: str = setting("", "Which rows, as an SQL condition; `%(name)s` is bound to the payload's `name`.")
    deletes: list[DeleteSettings] = setting([], "Several tables, each with `delete_from` and `where`.")
    batch_size: int = setting(100_000, "Rows deleted in one transaction, at most.", ge=1, le=1_000_000)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a cleanup that does not say which rows of which tables go, or whose SQL cannot run."""
        yield from super().contradictions()
        if self.delete_from and self.deletes:
            yield ("delete_from",), "and `deletes` are both set; one job type is one or the other"
        if self.delete_from and not self.where.strip():
            yield ("where",), "is missing; say which rows of `delete_from` go, or `true` for all"
        if self.where and not self.delete_from:
            yield ("where",), "is set without `delete_from`, the table that it is about"
        if not (self.delete_from or self.deletes or self.where):
            yield (), "does nothing; give `delete_from` and `where`"
        if self.delete_from and self.where.strip():
            yield from self._faults_of((), self.delete_from, self.where)
        for index, delete in enumerate(self.deletes):
            yield from self._faults_of(("deletes", str(index)), delete.delete_from, delete.where)

    def _faults_of(self, path: tuple[str, ...], table: str, where: str) -> Iterator[Fault]:
        if not TABLE_NAME.fullmatch(table):
            yield (
                (*path, "delete_from"),
                f"is {table!r}; a table's name as it is stored is needed, without quotes, such as sessions or auth.sessions",
            )
        yield from placeholder_faults((*path, "where"), where, self.payload)


def cleanup_handler(settings: CleanupSettings, *, built_in: bool = False) -> Handler:
    """Return what runs a cleanup with these settings; a `built_in` one takes no table of an untrusted role."""
    return partial(run_deletes, deletes_of(settings, built_in=built_in), settings.payload, set[str]())


CLEANUP = Kind(name="cleanup", settings=CleanupSettings, keys="`delete_from` and `where`", handler=cleanup_handler)
BUILT_IN_CLEANUP = replace(CLEANUP, handler=partial(cleanup_handler, built_in=True))


def deletes_of(settings: CleanupSettings, *, built_in: bool = False) -> list[Delete]:
    """Return the deletes of a cleanup, in order."""
    tables = [(delete.delete_from, delete.where) for delete in settings.deletes]
    if settings.delete_from:
        tables.append((settings.delete_from, settings.where))
    return [
        Delete(table=table, where=where, batch_size=settings.batch_size, built_in=built_in) for table, where in tables
    ]


def run_deletes(deletes: Sequence[Delete], defaults: Mapping[str, Any], missing: set[str], ctx: JobContext) -> Result:
    """Delete batch by batch and return how many rows went. `missing` are the tables whose lack the log has told.

    Between batches the lease is extended, and the job ends if it is asked to stop; at a shutdown that releases it to
    the queue with its attempt, for another daemon to go on.
    """
    parameters = bound(ctx.payload, defaults)
    ctx.records_processed = 0
    told = time.monotonic()
    for deleted in batches(deletes, parameters, missing, ctx):
        ctx.records_processed += deleted
        if ctx.stop_reason is not None:
            ctx.log.info("cleanup.interrupted", reason=ctx.stop_reason, records_processed=ctx.records_processed)
            ctx.check()
        if time.monotonic() - told >= PROGRESS_EVERY_S:
            ctx.progress(ctx.records_processed)
            told = time.monotonic()
    return ctx.records_processed


def batches(
    deletes: Sequence[Delete], parameters: Mapping[str, Any], missing: set[str], ctx: JobContext
) -> Iterator[int]:
    """Yield how many rows each batch of each delete took. A table that is not there has none, with a warning once."""
    for delete in deletes:
        try:
            yield from delete_in_batches(ctx.connection, delete, parameters)
        except TableMissing:
            tell = ctx.log.debug if delete.table in missing else ctx.log.warning
            missing.add(delete.table)
            tell("cleanup.table_missing", table=delete.table)
