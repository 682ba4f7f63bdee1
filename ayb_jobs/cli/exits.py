"""The exit codes, and which error leads to which; `docs/cli.md` shows the table."""

from enum import IntEnum

from ayb_jobs.errors import AybJobsError, ConfigError, DatabaseError, InvalidInput, MigrationError, PortInUse


class ExitCode(IntEnum):
    """What a command ends with; the numbers above 60 are those of sysexits.h."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    SOFTWARE = 70
    IO_ERROR = 74
    TRY_LATER = 75
    NOT_PERMITTED = 77
    CONFIG = 78
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "Done.",
    ExitCode.FAILED: "Refused by the state of things: no such job or schedule, a job in the wrong state, a name taken.",
    ExitCode.USAGE: "A wrong flag, argument or value; nothing was changed.",
    ExitCode.UNAVAILABLE: "The database or the API cannot be reached or used.",
    ExitCode.SOFTWARE: "A defect of ayb-jobs; `--debug` shows where.",
    ExitCode.IO_ERROR: "Input or output failed, such as on a full disk.",
    ExitCode.TRY_LATER: "Try again later: the API cannot serve now, jobs are disabled, or the daemon's port is in use.",
    ExitCode.NOT_PERMITTED: "The API refuses the token, or its scope is too small.",
    ExitCode.CONFIG: "The configuration is invalid, or the database's schema is not the one that is needed.",
    ExitCode.INTERRUPTED: "Interrupted by Ctrl-C.",
    ExitCode.BROKEN_PIPE: "Whoever read the output went away, as `head` does.",
}


class ApiUnavailable(AybJobsError):
    """The API cannot be reached."""


class ApiBusy(AybJobsError):
    """The API cannot serve now."""


class NotPermitted(AybJobsError):
    """The API refuses the token."""


# The first that fits; whatever is not ours is a defect.
CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (InvalidInput, ExitCode.USAGE),
    (ConfigError, ExitCode.CONFIG),
    (MigrationError, ExitCode.CONFIG),
    (DatabaseError, ExitCode.UNAVAILABLE),
    (ApiUnavailable, ExitCode.UNAVAILABLE),
    (ApiBusy, ExitCode.TRY_LATER),
    (PortInUse, ExitCode.TRY_LATER),
    (NotPermitted, ExitCode.NOT_PERMITTED),
    (AybJobsError, ExitCode.FAILED),
    (OSError, ExitCode.IO_ERROR),
    (Exception, ExitCode.SOFTWARE),
)


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code for an error."""
    return next(code for kind, code in CODES if isinstance(error, kind))
