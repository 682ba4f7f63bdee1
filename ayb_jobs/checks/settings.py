"""What is odd about valid settings."""

from collections.abc import Collection, Iterator

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.config import Config
from ayb_jobs.handlers.packs import default_schedules
from ayb_jobs.model.names import did_you_mean


def jobs_disabled(config: Config) -> Iterator[Finding]:
    """Find that jobs are not enabled, which is the default."""
    if not config.jobs.enabled:
        yield Finding(
            name="jobs.disabled",
            severity=Severity.WARNING,
            fact="jobs.enabled is false, so that this daemon runs no job and fires no schedule",
            meaning="The admin API answers 503, and only the legacy pruning of webhook deliveries runs.",
            remedy="set enabled = true under [jobs], or AYB_JOBS_ENABLED=true",
        )


def unknown_job_types(config: Config, known: Collection[str]) -> Iterator[Finding]:
    """Find schedules of the packs and the settings whose job type this daemon does not know."""
    for name, schedule in default_schedules(config).items():
        if schedule.job_type not in known:
            yield Finding(
                name="schedule.unknown_job_type",
                severity=Severity.WARNING,
                fact=f"schedules.{name}.job_type is {schedule.job_type}, which this daemon does not know, so that its "
                "jobs wait for another daemon",
                meaning="Another daemon may run them; if none does, they wait.",
                remedy=f"name the module of its handler in handlers.modules{did_you_mean(schedule.job_type, known)}",
                evidence={"schedule": name, "jobType": schedule.job_type},
            )


def unserved_queues(config: Config) -> Iterator[Finding]:
    """Find settings of queues that this daemon does not serve."""
    for name in config.queues:
        if name not in config.jobs.queues:
            yield Finding(
                name="queue.not_served",
                severity=Severity.WARNING,
                fact=f"queues.{name} is set, but jobs.queues does not name that queue",
                meaning="This daemon takes none of its jobs, so that the setting does nothing.",
                remedy=f"add it to jobs.queues, or take [queues.{name}] out{did_you_mean(name, config.jobs.queues)}",
                evidence={"queue": name},
            )


def doubtful_job_types(config: Config) -> Iterator[Finding]:
    """Find job types whose jobs fail on this machine: their program is not here, or their address is not allowed."""
    for name, job_type in config.job_types.items():
        for doubt, remedy in job_type.doubts():
            yield Finding(
                name="job_type.doubtful",
                severity=Severity.WARNING,
                fact=f"job_types.{name}.{doubt}",
                meaning="Each of its jobs fails on this machine.",
                remedy=remedy,
                evidence={"jobType": name},
            )


def noted_settings(config: Config) -> Iterator[Finding]:
    """Find what reading the settings noted: values that are taken, and that mean little or something else."""
    for note in config.notes:
        yield Finding(
            name="settings.noted",
            severity=Severity.WARNING,
            fact=note,
            meaning="The daemon starts with it.",
            remedy="change the setting that it names",
        )
