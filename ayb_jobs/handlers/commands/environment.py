"""What a command finds around it: a clean environment, its program, its user."""

import os
import pwd
import shutil
from collections.abc import Mapping, Sequence

from ayb_jobs.errors import AttemptFailed
from ayb_jobs.handlers.commands.spawner import User
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.tracing import current_traceparent

# What a program needs of the daemon's environment to behave as on a terminal. Nothing else goes along: the daemon's
# variables hold the database's address and tokens.
KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def kept(environ: Mapping[str, str], further: Sequence[str]) -> dict[str, str]:
    """Return what a command is given of the daemon's environment: harmless variables, and those named."""
    return {name: value for name, value in environ.items() if name in KEPT or name.startswith("LC_") or name in further}


def of_job(job: LeasedJob) -> dict[str, str]:
    """Return the variables that tell a command which job it runs for."""
    told = {
        "AYB_JOB_ID": job.id,
        "AYB_JOB_TYPE": job.type,
        "AYB_JOB_ATTEMPT": str(job.attempt),
        "AYB_JOB_SCHEDULED_FOR": job.scheduled_for.isoformat() if job.scheduled_for else "",
        "TRACEPARENT": current_traceparent() or job.traceparent or "",
    }
    return {name: value for name, value in told.items() if value}


def find_program(name: str, env: Mapping[str, str]) -> str:
    """Return the path of a program, which is looked for as a shell would, but by the command's own `PATH`."""
    if "/" in name:
        return name
    found = shutil.which(name, path=env.get("PATH", PATH))
    if found is None:
        raise AttemptFailed(f"{name} cannot be started: it is in no folder of PATH ({env.get('PATH', PATH)})")
    return found


def find_user(name: str) -> tuple[User, dict[str, str]]:
    """Return the numbers of a user of this machine, and the variables that say who it is."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise AttemptFailed(f"the command cannot run as {name}: this machine has no such user") from None
    user = User(uid=entry.pw_uid, gid=entry.pw_gid, groups=os.getgrouplist(name, entry.pw_gid))
    who = {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "SHELL": entry.pw_shell}
    return user, who
