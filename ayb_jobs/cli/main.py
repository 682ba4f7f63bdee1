"""The program: its commands, and how it ends."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

import ayb_jobs
from ayb_jobs.cli.ending import end
from ayb_jobs.cli.exits import ExitCode, exit_code_of
from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import Options, backend_options
from ayb_jobs.cli.output import one_line
from ayb_jobs.errors import AybJobsError, ConfigError
from ayb_jobs.redact import Redactor, passwords

COMMANDS = {
    "run": Lazy("run:run", "Run the daemon in the foreground."),
    "migrate": Lazy("migrate:migrate", "Bring the database's schema up to date."),
    "check-config": Lazy("check_config:check_config", "Check the settings and show where each came from."),
    "health": Lazy("health:health", "Tell whether work can be done."),
    "jobs": Lazy("jobs:jobs", "Look at jobs; enqueue, retry and cancel them."),
    "schedules": Lazy("schedules:schedules", "Look at schedules; create, change and watch them."),
    "demo": Lazy("demo:demo", "Take a tour on a database that is thrown away."),
    "torture": Lazy("torture:torture", "Break daemons on purpose, and check that no job is lost."),
    "bench": Lazy("bench:bench", "Measure the daemon on this machine."),
    "completion": Lazy("completion:completion", "Print the script that completes commands in a shell."),
}

DATABASE_URLS = ("AYB_JOBS_DATABASE_URL", "AYB_DATABASE_URL")


class Program(LazyGroup):
    """The group of all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would take for a failure
            raise ReaderGone from error


class ReaderGone(Exception):
    """Whoever read the output went away."""


@click.group(cls=Program, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ayb_jobs.__version__, prog_name="ayb-jobs")
@backend_options
def program() -> None:
    """Run a worker daemon with a Postgres queue, and look after it."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program with the process's arguments and end the process."""
    options = Options()
    try:
        code = program.main(args=arguments, standalone_mode=False, obj=options) or ExitCode.OK
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"ayb-jobs: {usage_line(error)}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        _forget_output()
        code = ExitCode.BROKEN_PIPE
    except OSError as error:
        _forget_output()
        _tell(error, options)
        code = ExitCode.IO_ERROR
    except AybJobsError as error:
        _tell(error, options)
        code = exit_code_of(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, its user gets one line
        _tell(error, options)
        code = ExitCode.SOFTWARE
    with suppress(BrokenPipeError):
        sys.stderr.flush()
    if arguments is None:
        end(int(code))
    sys.exit(int(code))


def usage_line(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and where to read what would be right."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    words = one_line(error.format_message())
    return f"{words} (see: {ctx.command_path} --help)" if ctx else words


def _tell(error: Exception, options: Options) -> None:
    """Print an error as one line, with what led to it where that was asked for, and without secrets."""
    urls = [options.database_url or "", *(os.environ.get(name, "") for name in DATABASE_URLS)]
    redact = Redactor({*urls, *(found for url in urls for found in passwords(url)), options.admin_token or ""})
    if options.debug:
        click.echo(redact("".join(traceback.format_exception(error))), err=True)
    for line in error.problems if isinstance(error, ConfigError) else [words(error)]:
        click.echo(f"ayb-jobs: {one_line(redact(' '.join(line.split())))}", err=True)


def words(error: Exception) -> str:
    """Return what an error says to someone who knows nothing of the code."""
    match error:
        case AybJobsError():
            return str(error)
        case OSError():
            return f"{error.filename or 'input or output'}: {error.strerror or error}"
        case _:
            return f"unexpected {type(error).__name__}: {error}; --debug shows where"


def _forget_output() -> None:
    """Keep the interpreter from failing once more when it flushes what nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
