"""The schedules that come with a daemon: those of its packs and those of its settings."""

from ayb_jobs.config import Config, ScheduleTable
from ayb_jobs.handlers.packs import default_schedules
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.schedules.schedule import NewSchedule


def shipped_schedules(config: Config, registry: Registry) -> list[NewSchedule]:
    """Return the packs' and the settings' schedules, with their job type's attempts where they name none.

    Raises `InvalidInput` where one cannot be used, which loading the settings has ruled out.
    """
    return [_shipped(name, settings, registry) for name, settings in default_schedules(config).items()]


def _shipped(name: str, settings: ScheduleTable, registry: Registry) -> NewSchedule:
    values = settings.model_dump()
    values["max_attempts"] = values["max_attempts"] or _attempts(registry, settings.job_type)
    return NewSchedule(name=name, **values)


def _attempts(registry: Registry, job_type: str) -> int | None:
    known = registry.get(job_type)
    return None if known is None else known.max_attempts
