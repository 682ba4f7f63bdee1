"""pg_cron's table `cron.job`."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported, not_imported
from ayb_jobs.model.schedules.importing.vixie import reason_against, with_our_days

# What PostgreSQL refuses in a transaction block, and what may commit by itself.
_OUTSIDE_TRANSACTIONS = re.compile(
    r"""
    VACUUM\b | CALL\b | DO\b | COMMIT\b | END\b | ABORT\b | BEGIN\b | START\s+TRANSACTION\b | PREPARE\s+TRANSACTION\b
    | ROLLBACK\b(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b)
    | CLUSTER(?:\s+VERBOSE|\s*\([^)]*\))?\s*$ | DISCARD\s+ALL\b | ALTER\s+SYSTEM\b
    | (?:CREATE|DROP)\s+(?:DATABASE|TABLESPACE|SUBSCRIPTION)\b | ALTER\s+(?:DATABASE|SUBSCRIPTION)\b
    | REINDEX\b.*\b(?:DATABASE|SYSTEM|SCHEMA|CONCURRENTLY)\b
    | (?:CREATE\s+(?:UNIQUE\s+)?INDEX|DROP\s+INDEX)\s+CONCURRENTLY\b
    | ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY\b
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# What holds no statement, whatever is written in it. Comments nest, so only their beginning is known by its looks.
_TEXTS = re.compile(
    r"""
    --[^\n]* | (?P<comment>/\*) | (?<![\w$])E'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_COMMENT_ENDS = re.compile(r"/\*|\*/")
_FIELDS = 5
_LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})


class PgCronJob(NamedTuple):
    """A row of `cron.job`."""

    jobid: int
    jobname: str | None
    schedule: str
    command: str
    database: str
    username: str
    active: bool
    nodename: str | None = None


def read_pg_cron(jobs: Iterable[PgCronJob], timezone: str) -> Iterator[Imported]:
    """Yield pg_cron's jobs; `timezone` is its setting `cron.timezone`. Their SQL becomes job types."""
    names = Names()
    for job in jobs:
        name = names.unique(job.jobname or f"pg_cron_{job.jobid}")
        cron, notes = _timing(job.schedule.strip(), timezone)
        notes.append(f"ran in database {job.database} as {job.username}; jobs run as the daemon's user in its database")
        if not (job.nodename or "").startswith("/") and (job.nodename or "") not in _LOCAL_HOSTS:
            notes.append(f"ran on host {job.nodename}; jobs run in the daemon's database")
        transaction = not needs_no_transaction(job.command)
        if not transaction:
            notes.append("it cannot run in a transaction, or commits by itself: transaction = false")
        values = {
            "name": name,
            "job_type": name,
            "cron": cron,
            "timezone": "UTC" if timezone.upper() == "GMT" else timezone,
            "enabled": job.active,
        }
        source = f"pg_cron job {job.jobid}: {job.schedule} {job.command}"
        if not job.command.strip():
            yield not_imported(source, "there is no command")
            continue
        if reason := reason_against(cron):
            yield not_imported(source, reason, notes)
            continue
        # % begins a parameter in a job type's SQL.
        yield imported(source, values, notes, [job.command.replace("%", "%%")], transaction=transaction)


def needs_no_transaction(command: str) -> bool:
    """Tell whether any statement of a command cannot run in a transaction, or may end the one it runs in."""
    return any(_OUTSIDE_TRANSACTIONS.match(statement.strip()) for statement in _without_texts(command).split(";"))


def _without_texts(command: str) -> str:
    plain, at = "", 0
    while found := _TEXTS.search(command, at):
        plain += f"{command[at : found.start()]} "
        at = _end_of_comment(command, found.end()) if found["comment"] else found.end()
    return plain + command[at:]


def _end_of_comment(command: str, at: int) -> int:
    depth = 1
    for found in _COMMENT_ENDS.finditer(command, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(command)


def _timing(schedule: str, timezone: str) -> tuple[str, list[str]]:
    seconds = re.fullmatch(r"(\d+)\s+seconds?", schedule, re.IGNORECASE)
    if seconds:
        return f"@every {seconds[1]}s", ["there the distance is from the end of the last run; here it is between fires"]
    fields = schedule.split()
    notes = []
    if len(fields) == _FIELDS and "$" in fields[2]:
        fields[2] = fields[2].replace("$", "L")
        notes.append("$, the last day of the month, is L here")
    if timezone.upper() in ("GMT", "UTC"):
        notes.append("pg_cron is in UTC; name a zone if local time is meant")
    return with_our_days(" ".join(fields)), notes
