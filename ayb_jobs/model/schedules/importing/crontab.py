"""A crontab: a user's, or a system's with the user in the sixth column."""

import re
from collections.abc import Iterator

from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported

JOB_TYPE = "run_command"

_SETTING = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_FIELDS = 5


def read_crontab(
    text: str, *, timezone: str | None = None, job_type: str = JOB_TYPE, system: bool = False
) -> Iterator[Imported]:
    """Yield the entries of a crontab.

    Commands become the payload of jobs of type `job_type`: `{"command": "…"}`. A crontab is in the time zone of its
    machine, which it does not say: `timezone`, or its own CRON_TZ, or UTC with a note. (Its TZ is for the commands alone.)
    """
    names = Names()
    zone = timezone
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if setting := _SETTING.fullmatch(entry):
            if setting[1] == "CRON_TZ":
                zone = timezone or setting[2].strip("\"' ") or None
            continue
        yield _entry(number, entry, zone, job_type, names, system=system)


def _entry(number: int, entry: str, zone: str | None, job_type: str, names: Names, *, system: bool) -> Imported:
    source = f"line {number}: {entry}"
    fields = 1 if entry.startswith("@") else _FIELDS
    parts = entry.split(None, fields + system)
    if len(parts) <= fields + system:
        return Imported(source=source, schedule=None, notes=("not imported: there is no command",))
    cron, command = " ".join(parts[:fields]), parts[-1]
    notes = list(_notes(cron, command, zone))
    if system:
        notes.append(f"ran as user {parts[fields]}; jobs run as the daemon's user")
    if cron.lower() == "@reboot":
        return Imported(source=source, schedule=None, notes=("not imported: nothing here happens at each boot",))
    program = re.split(r"[\s|;&>]", command.strip(), maxsplit=1)[0].rpartition("/")[2]
    values = {
        "name": names.unique(program),
        "job_type": job_type,
        "cron": cron,
        "timezone": zone or "UTC",
        "payload": {"command": command},
    }
    return imported(source, values, notes)


def _notes(cron: str, command: str, zone: str | None) -> Iterator[str]:
    if zone is None:
        yield "the crontab names no time zone: UTC is taken; it meant its machine's zone (--timezone); a TZ is that of the commands"
    if "%" in command.replace("\\%", ""):
        yield "% in a command is a line break there, and what follows is its input"
    yield from days_notes(cron)


def days_notes(cron: str) -> Iterator[str]:
    """Yield how Vixie's cron and we differ about days."""
    fields = cron.split()
    if len(fields) != _FIELDS:
        return
    day, weekday = fields[2], fields[4]
    if day == "*" or weekday == "*":
        return
    if day.startswith("*") or weekday.startswith("*"):
        yield "day of month and day of week: there both must match, since one begins with *; here either is enough"
    else:
        yield "day of month and day of week: either is enough, there as here"
