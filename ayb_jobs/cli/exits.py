"""The exit codes, and which error leads to which; `docs/cli.md` shows the table."""

from enum import IntEnum

from ayb_jobs.errors import AybJobsError, ConfigError, DatabaseError, InvalidInput, MigrationError


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
    ExitCode.TRY_LATER: "The API answers that it cannot serve now, or that jobs are disabled.",
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


def exit_code_of(error: AybJobsError) -> ExitCode:
    """Return the exit code for one of our errors."""
    match error:
        case InvalidInput():
            return ExitCode.USAGE
        case ConfigError() | MigrationError():
            return ExitCode.CONFIG
        case DatabaseError() | ApiUnavailable():
            return ExitCode.UNAVAILABLE
        case ApiBusy():
            return ExitCode.TRY_LATER
        case NotPermitted():
            return ExitCode.NOT_PERMITTED
        case _:
            return ExitCode.FAILED
