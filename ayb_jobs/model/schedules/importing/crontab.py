"""A crontab: a user's, or a system's with the user in the sixth column."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported, not_imported
from ayb_jobs.model.schedules.importing.vixie import notes_on, reason_against, with_our_days

JOB_TYPE = "run_command"

_SETTING = re.compile(r"""(["']?)([A-Za-z_][A-Za-z0-9_]*)\1\s*=\s*(.*)""")
_FIELDS = 5
_MOST_FIELDS = 7
_MINUTE_S = 60
# What stands for a point in time. Names count beyond the fifth field only if they are no word that a command may be.
_NUMERIC = re.compile(r"(?=.*[\d*?~])[\d*?~,/#LW-]+", re.ASCII | re.IGNORECASE)
_NAMED = re.compile(r"(?:[A-Z]{3}|[a-z]{3}[-,][a-z]{3})(?:[-,/#][A-Za-z0-9]{1,3})*", re.ASCII)
_RANDOM_MINUTE = re.compile(r"(\d{0,2})~(\d{0,2})", re.ASCII)
_UP_TO_STDIN = re.compile(r"(?:[^\\%]|\\.|\\$)*", re.DOTALL)
_HOLDS_YEAR = re.compile(r"\d{4}", re.ASCII)
_NICKNAMES = {"@every_minute": "* * * * *", "@every_second": "* * * * * *"}
# Who has jobs in system crontabs, and is no command.
_USERS = frozenset(
    [
        "root",
        "daemon",
        "bin",
        "sys",
        "news",
        "uucp",
        "www-data",
        "nobody",
        "apache",
        "nginx",
        "http",
        "httpd",
        "caddy",
        "postgres",
        "mysql",
        "redis",
        "git",
        "gitlab",
        "jenkins",
        "ubuntu",
        "debian",
        "centos",
        "admin",
        "ec2-user",
        "vagrant",
        "deploy",
        "deployer",
        "app",
        "webapp",
        "www",
        "web",
        "odoo",
        "django",
        "rails",
        "celery",
    ]
)


@dataclass(slots=True)
class _Crontab:
    """What is known while a crontab is read from top to bottom."""

    zone: str | None
    machine_zone: str | None
    job_type: str
    system: bool
    names: Names = field(default_factory=Names)
    variables: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: str) -> None:
        """Take a variable, which holds for the entries below it."""
        if name == "CRON_TZ":
            self.zone = value or self.machine_zone
        else:
            self.variables[name] = value


def read_crontab(
    text: str, *, timezone: str | None = None, job_type: str = JOB_TYPE, system: bool = False
) -> Iterator[Imported]:
    """Yield the entries of a crontab.

    Commands become the payload of jobs of type `job_type`: `{"command": "…"}`, with the variables of the crontab in
    `env` and the command's input in `stdin`. A crontab is in the time zone of its machine, which it does not say:
    `timezone`, or UTC with a note. Its own CRON_TZ overrides it. (Its TZ is for the commands alone.)
    """
    crontab = _Crontab(zone=timezone, machine_zone=timezone, job_type=job_type, system=system)
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if setting := _SETTING.fullmatch(entry):
            crontab.set(setting[2], _unquoted(setting[3].strip()))
        else:
            yield _entry(crontab, f"line {number}: {entry}", entry)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _entry(crontab: _Crontab, source: str, entry: str) -> Imported:
    notes: list[str] = []
    if entry.startswith("-"):  # cronie and SUSE: do not log this one
        entry = entry[1:].lstrip()
        notes.append("its leading -, which keeps it out of the log there, is left out")
    count = _fields(entry)
    parts = entry.split(None, count + crontab.system)
    if len(parts) <= count + crontab.system:
        return not_imported(source, "there is no command", notes)
    cron, text = " ".join(parts[:count]), parts[-1]
    if reason := _reason_against(cron, text, system=crontab.system):
        return not_imported(source, reason, notes)
    if crontab.system:
        notes.append(f"ran as user {parts[count]}; jobs run as the daemon's user")
    if_imported: list[str] = []
    values: dict[str, Any] = {
        "name": crontab.names.unique(re.split(r"[\s|;&>%]", text.strip(), maxsplit=1)[0].rpartition("/")[2]),
        "job_type": crontab.job_type,
        **_timing(cron, crontab, notes),
        "timezone": crontab.zone or "UTC",
        "payload": _payload(text, crontab, if_imported),
    }
    if crontab.zone is None:
        if_imported.append(
            "the crontab names no time zone, so UTC is taken: name its machine's zone with --timezone (TZ is for the "
            "commands alone)"
        )
    elif crontab.machine_zone not in (None, crontab.zone):
        if_imported.append(
            f"CRON_TZ goes over {crontab.machine_zone}; a cron that does not know it (Debian's) is in that"
        )
    made = imported(source, values, notes)
    return replace(made, notes=(*made.notes, *if_imported)) if made.schedule else made


def _fields(entry: str) -> int:
    """Return how many words of an entry say when."""
    words = entry.split()
    if entry.startswith("@"):
        return 2 if words[0].lower() == "@every" else 1
    for number, word in enumerate(words[:_MOST_FIELDS]):
        if number >= _FIELDS and not (_NUMERIC.fullmatch(word) or _NAMED.fullmatch(word)):
            return number
    return max(_FIELDS, min(len(words) - 1, _MOST_FIELDS))


def _reason_against(cron: str, text: str, *, system: bool) -> str | None:
    if cron.lower() == "@reboot":
        return "@reboot has no counterpart here"
    if text.startswith("-"):
        return "its command begins with flags of another cron (OpenBSD's), whose meaning is unknown here"
    if reason := reason_against(cron):
        return reason
    first, *rest = text.split(None, 1)
    if not system and rest and first in _USERS:
        return f"its command begins with {first}, which is a user: a system's crontab is read with --system"
    return None


def _timing(cron: str, crontab: _Crontab, notes: list[str]) -> dict[str, Any]:
    """Return an entry's expression, and how far its jobs are spread."""
    cron = _NICKNAMES.get(cron.lower(), cron)
    fields = cron.split()
    spread_s = 0
    if found := _RANDOM_MINUTE.fullmatch(fields[0]) if len(fields) == _FIELDS else None:
        low, high = int(found[1] or 0), int(found[2] or _MINUTE_S - 1)
        if low <= high < _MINUTE_S:
            cron, spread_s = " ".join([str(low), *fields[1:]]), (high - low) * _MINUTE_S
            notes.append(
                f"{fields[0]} is a minute that its cron chooses when it starts; jitter_s spreads the jobs here"
            )
    if len(fields) == _FIELDS + 1:
        last = (
            "the year last, so that its command is what follows" if _HOLDS_YEAR.search(fields[-1]) else "seconds first"
        )
        notes.append(f"six fields are read with {last}")
    if len(fields) == _MOST_FIELDS:
        notes.append("seven fields are read with seconds first and the year last")
    notes += notes_on(cron)
    delay = crontab.variables.get("RANDOM_DELAY", "")
    if delay.isdecimal() and int(delay):
        spread_s += int(delay) * _MINUTE_S
        notes.append(f"RANDOM_DELAY, at most {delay} minutes, is jitter_s here")
    return {"cron": with_our_days(cron), "jitter_s": float(spread_s)}


def _command_and_stdin(text: str) -> tuple[str, str]:
    """Split a command from its input as cron does: at the first % whose backslash, if any, is itself escaped."""
    found = _UP_TO_STDIN.match(text)
    command = found[0] if found else ""
    lines = re.split(r"(?<!\\)%", text[len(command) + 1 :])
    return (
        re.sub(r"\\(.)", lambda pair: "%" if pair[1] == "%" else pair[0], command),
        "\n".join(line.replace("\\%", "%") for line in lines),
    )


def _payload(text: str, crontab: _Crontab, notes: list[str]) -> dict[str, Any]:
    """Return the payload: the command, what it reads, and its variables."""
    command, stdin = _command_and_stdin(text)
    payload: dict[str, Any] = {"command": command}
    if stdin:
        payload["stdin"] = stdin if stdin.endswith("\n") else f"{stdin}\n"
        notes.append("what follows % in the command is its input, with line breaks: in the payload's key stdin")
    environment = {name: value for name, value in crontab.variables.items() if name not in ("MAILTO", "RANDOM_DELAY")}
    if environment:
        payload["env"] = environment
        notes.append("the crontab's variables are in the payload's key env")
    if crontab.variables.get("MAILTO"):
        notes.append(f"its output was mailed to {crontab.variables['MAILTO']}; here its handler decides")
    return payload
