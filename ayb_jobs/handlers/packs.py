"""Puts together what a daemon runs: the handlers of the user's modules, the built-in packs, and jobs written as SQL."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from ayb_jobs.config import Config, JobTypeSettings, ScheduleSettings, read_pack
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.handlers.kinds.cleanup import TableMissing, delete_in_batches
from ayb_jobs.handlers.kinds.sql import deletes_of, sql_faults, sql_job_type
from ayb_jobs.handlers.modules import load_registry
from ayb_jobs.handlers.registry import JobType, Registry
from ayb_jobs.storage.database import Connection, Database
from ayb_jobs.storage.schedules.retention import longest_retention_hours


def build_registry(config: Config) -> Registry:
    """Return all job types that the configuration names. Raises `ConfigError` with every fault, each with its key."""
    registry = Registry()
    problems = list(add_modules(registry, config.handlers.modules))
    for pack in dict.fromkeys(config.handlers.packs):
        problems += add_sql(registry, read_pack(pack).job_types, source=f"pack {pack}")
    problems += add_sql(registry, config.job_types, source="[job_types]")
    if problems:
        raise ConfigError(problems)
    return registry


def default_schedules(config: Config) -> dict[str, ScheduleSettings]:
    """Return the packs' schedules and the configuration's own, by name; the configuration's go over the packs'."""
    schedules: dict[str, ScheduleSettings] = {}
    for pack in config.handlers.packs:
        schedules |= read_pack(pack).schedules
    return schedules | dict(config.schedules)


def add_modules(registry: Registry, names: Iterable[str]) -> Iterator[str]:
    """Add the handlers of these modules; yield what is wrong with them.

    Several modules may share one registry, to which each of them adds, so that all are imported before any is read.
    """
    found: dict[int, Registry] = {}
    for name in dict.fromkeys(names):
        try:
            theirs = load_registry(name)
        except InvalidInput as error:
            yield f"handlers.modules cannot be used: {error}"
        else:
            found[id(theirs)] = theirs
    for theirs in found.values():
        for job_type in theirs.types():
            yield from add(registry, job_type, "handlers.modules")


def add_sql(registry: Registry, settings: Mapping[str, JobTypeSettings], *, source: str) -> Iterator[str]:
    """Add jobs written as SQL; yield what is wrong with them."""
    for name, job_type in settings.items():
        key = f"job_types.{name}"
        faults = list(sql_faults(job_type))
        yield from (f"{key}.{fault}" for fault in faults)
        if not faults:
            yield from add(registry, sql_job_type(name, job_type, source=source), key)


def add(registry: Registry, job_type: JobType, key: str) -> Iterator[str]:
    """Add a job type; yield what is wrong with that."""
    try:
        registry.add(job_type)
    except InvalidInput as error:
        yield f"{key} cannot be used: {error}"


# AYB's own default, in hours.
DELIVERIES_KEPT_H = 168.0


def prune_webhook_deliveries(database: Database, stopping: Callable[[], bool] = lambda: False) -> int:
    """Delete old webhook deliveries, as AYB does if jobs are not enabled; return how many went.

    Old are those older than 7 days and than the longest retention that a schedule in the database names. Runs the delete
    of the job `webhook_delivery_prune`, batch by batch, until `stopping` says so. Without the table nothing is deleted.
    """
    settings = read_pack("ayb").job_types["webhook_delivery_prune"]
    with database.connection() as conn:
        kept_h = max(DELIVERIES_KEPT_H, longest_retention_hours(conn) or 0.0)
    deleted = 0
    with suppress(TableMissing):
        for delete in deletes_of(settings):
            for rows in delete_in_batches(lambda: _transaction(database), delete, {"retention_hours": kept_h}):
                deleted += rows
                if stopping():
                    break
    return deleted


@contextmanager
def _transaction(database: Database) -> Iterator[Connection]:
    """Lend a connection that finds the application's tables, for one transaction."""
    with database.work() as conn, conn.transaction():
        yield conn
