"""Puts together what a daemon runs: the handlers of the user's modules, the built-in packs, and `[job_types.*]`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import ParamSpec

from ayb_jobs.config import Config, JobTypeSettings, Pack, ScheduleTable, read_pack
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.handlers.isolation import isolation_faults
from ayb_jobs.handlers.job_type import AnyHandler, Executor, JobType, isolated, within
from ayb_jobs.handlers.kinds.batches import TableMissing, delete_in_batches
from ayb_jobs.handlers.kinds.cleanup import BUILT_IN_CLEANUP, CLEANUP, CleanupSettings, deletes_of
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.table import KINDS, kind_of
from ayb_jobs.handlers.matviews import matview_registry
from ayb_jobs.handlers.modules import load_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.retention import longest_retention_hours

P = ParamSpec("P")
# The kinds as the packs use them.
BUILT_IN = [BUILT_IN_CLEANUP if kind is CLEANUP else kind for kind in KINDS]


def build_registry(config: Config, kinds: Sequence[Kind] = KINDS) -> Registry:
    """Return all job types that the configuration names. Raises `ConfigError` with every fault, each with its key."""
    registry = Registry()
    problems = list(add_modules(registry, config.handlers.modules))
    for name in dict.fromkeys(config.handlers.packs):
        problems += add_types(registry, types_in_python(name), f"pack {name}")
        problems += add_settings(registry, pack(name).job_types, source=f"pack {name}", kinds=BUILT_IN)
    problems += add_settings(registry, config.job_types, source="[job_types]", kinds=kinds)
    problems += isolation_faults(registry)
    problems += schedules_beyond_bounds(registry, config.schedules)
    if problems:
        raise ConfigError([placed(problem, config) for problem in problems])
    return registry


def placed(problem: str, config: Config) -> str:
    """Return what is wrong with where the setting that it begins with came from, if that is known."""
    key = max(
        (known for known in config.origins if f"{problem} ".startswith((f"{known} ", f"{known}."))), key=len, default=""
    )
    place = config.place(key) if key else ""
    return f"{problem} ({place})" if place else problem


def pack(name: str) -> Pack:
    """Return the job types and schedules of a built-in pack."""
    return read_pack(name, KINDS)


def types_in_python(name: str) -> Iterable[JobType]:
    """Return the job types of a built-in pack that its language cannot express."""
    return matview_registry().types() if name == "ayb" else ()


def default_schedules(config: Config) -> dict[str, ScheduleTable]:
    """Return the packs' schedules and the configuration's own, by name; the configuration's replace the packs'."""
    schedules: dict[str, ScheduleTable] = {}
    for name in config.handlers.packs:
        schedules |= pack(name).schedules
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
        yield from add_types(registry, theirs.types(), "handlers.modules")


def add_types(registry: Registry, job_types: Iterable[JobType], key: str) -> Iterator[str]:
    """Add job types; yield what is wrong with them."""
    for job_type in job_types:
        yield from told(key, registry.add, job_type)


def add_settings(
    registry: Registry, settings: Mapping[str, JobTypeSettings], *, source: str, kinds: Sequence[Kind] = KINDS
) -> Iterator[str]:
    """Add the job types of these settings, or change those that a module has registered.

    Yield what is wrong with them.
    """
    for name, given in settings.items():
        kind = kind_of(given, kinds)
        registered = registry.get(name)
        if kind.handler is not None:
            made = new_type(name, given, kind.handler(given), source, kind.executor)
            yield from told(f"job_types.{name}", registry.add, made)
        elif registered is not None:
            yield from told(f"job_types.{name}", change, registry, registered, given)
        else:
            ways = " or ".join(other.keys for other in kinds if other.keys)
            yield f"job_types.{name} does nothing: no handler of handlers.modules has this name; give {ways}"


def new_type(
    name: str, settings: JobTypeSettings, run: AnyHandler, source: str, executor: Executor = "thread"
) -> JobType:
    """Return the job type that these settings describe, whose handler is `run`."""
    return JobType(
        name=name,
        run=within(settings.bounds, run),
        executor=executor,
        description=settings.description,
        max_attempts=settings.max_attempts,
        timeout_s=settings.timeout_s,
        payload=settings.payload,
        bounds=settings.bounds,
        source=source,
        stopping_s=settings.stopping_s,
    )


def changed_type(registered: JobType, settings: JobTypeSettings) -> JobType:
    """Return a module's job type with these settings over what the module says."""
    if settings.isolation == "process":
        registered = isolated(registered)
    return replace(
        registered,
        run=within(settings.bounds, registered.run),
        description=settings.description or registered.description,
        max_attempts=settings.max_attempts or registered.max_attempts,
        timeout_s=settings.timeout_s or registered.timeout_s,
        payload=settings.payload or registered.payload,
        bounds=settings.bounds,
    )


def change(registry: Registry, registered: JobType, settings: JobTypeSettings) -> None:
    """Change a job type that a module has registered; raises `InvalidInput` if that cannot be."""
    registry.change(changed_type(registered, settings))


def told(key: str, action: Callable[P, None], *values: P.args, **names: P.kwargs) -> Iterator[str]:
    """Do something with a job type; yield what is wrong with that."""
    try:
        action(*values, **names)
    except InvalidInput as error:
        yield f"{key} cannot be used: {error}"


def schedules_beyond_bounds(registry: Registry, schedules: Mapping[str, ScheduleTable]) -> Iterator[str]:
    """Yield which schedules would make jobs whose payload is beyond the bounds of their type."""
    for name, schedule in schedules.items():
        try:
            registry.check_payload(schedule.job_type, schedule.payload)
        except InvalidInput as error:
            yield f"schedules.{name}.{error}"


# AYB's own default, in hours.
DELIVERIES_KEPT_H = 168.0


def prune_webhook_deliveries(database: Database, stopping: Callable[[], bool] = lambda: False) -> int:
    """Delete old webhook deliveries, as AYB does if jobs are not enabled; return how many went.

    Old are those older than 7 days and than the longest retention that a schedule in the database names. Runs the
    delete of the job `webhook_delivery_prune`, batch by batch, until `stopping` says so. Without the table nothing is
    deleted.
    """
    settings = pack("ayb").job_types["webhook_delivery_prune"]
    deletes = deletes_of(settings, built_in=True) if isinstance(settings, CleanupSettings) else []
    with database.connection() as conn:
        kept_h = max(DELIVERIES_KEPT_H, longest_retention_hours(conn) or 0.0)
    deleted = 0
    with suppress(TableMissing):
        for delete in deletes:
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
