"""The schedules that come with a daemon: those of its packs and those of its settings."""

from ayb_jobs.config import Config
from ayb_jobs.handlers.packs import default_schedules
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.schedules.schedule import NewSchedule


def shipped_schedules(config: Config, registry: Registry) -> list[NewSchedule]:
    """Return the packs' and the settings' schedules, with their job type's attempts where they name none.

    Raises `InvalidInput` where one cannot be used, which loading the settings has ruled out.
    """
    return [
        NewSchedule(
            name=name,
            **settings.model_dump(exclude={"max_attempts", "ping_url"}),
            max_attempts=settings.max_attempts or _attempts(registry, settings.job_type),
            ping_url=settings.ping_url or None,
        )
        for name, settings in default_schedules(config).items()
    ]


def _attempts(registry: Registry, job_type: str) -> int | None:
    known = registry.get(job_type)
    return None if known is None else known.max_attempts
