"""pg_cron's table `cron.job`."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ayb_jobs.model.schedules.importing.crontab import days_notes
from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported


class PgCronJob(NamedTuple):
    """A row of `cron.job`."""

    jobid: int
    jobname: str | None
    schedule: str
    command: str
    database: str
    username: str
    active: bool


def read_pg_cron(jobs: Iterable[PgCronJob], timezone: str) -> Iterator[Imported]:
    """Yield pg_cron's jobs; `timezone` is its setting `cron.timezone`. Their SQL becomes job types."""
    names = Names()
    for job in jobs:
        name = names.unique(job.jobname or f"pg_cron_{job.jobid}")
        cron, notes = _timing(job.schedule.strip(), timezone)
        notes.append(f"ran in database {job.database} as {job.username}; jobs run as the daemon's user in its database")
        values = {
            "name": name,
            "job_type": name,
            "cron": cron,
            "timezone": "UTC" if timezone.upper() == "GMT" else timezone,
            "enabled": job.active,
        }
        source = f"pg_cron job {job.jobid}: {job.schedule} {job.command}"
        yield imported(source, values, notes, [job.command])


def _timing(schedule: str, timezone: str) -> tuple[str, list[str]]:
    seconds = re.fullmatch(r"(\d+)\s+seconds?", schedule, re.IGNORECASE)
    if seconds:
        return f"@every {seconds[1]}s", ["there the distance is from the end of the last run; here it is between fires"]
    cron = schedule.replace("$", "L")
    notes = list(days_notes(cron))
    if cron != schedule:
        notes.append("$, the last day of the month, is L here")
    if timezone.upper() in ("GMT", "UTC"):
        notes.append("pg_cron is in UTC; name a zone where local time is meant")
    return cron, notes
