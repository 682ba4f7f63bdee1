"""The program: its commands, and how it ends."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

import ayb_jobs
from ayb_jobs.cli.exits import ExitCode, exit_code_of
from ayb_jobs.cli.options import Options, door_options
from ayb_jobs.errors import AybJobsError, ConfigError

# Where each command is defined, in the order of the help.
COMMANDS = {
    "run": "ayb_jobs.cli.commands.run:run",
    "migrate": "ayb_jobs.cli.commands.migrate:migrate",
    "check-config": "ayb_jobs.cli.commands.check_config:check_config",
    "health": "ayb_jobs.cli.commands.health:health",
    "jobs": "ayb_jobs.cli.commands.jobs:jobs",
    "schedules": "ayb_jobs.cli.commands.schedules:schedules",
    "demo": "ayb_jobs.cli.commands.demo:demo",
    "torture": "ayb_jobs.cli.commands.torture:torture",
    "bench": "ayb_jobs.cli.commands.bench:bench",
    "completion": "ayb_jobs.cli.commands.completion:completion",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was asked for; where there is none such, the error names those that are near."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click would take for a failure
            raise ReaderGone from error


class ReaderGone(Exception):
    """Whoever read the output went away."""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ayb_jobs.__version__, prog_name="ayb-jobs")
@door_options
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
    sys.exit(int(code))


def usage_line(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and where to read what would be right."""
    from ayb_jobs.cli.output import one_line  # noqa: PLC0415 - nothing of it is needed where all goes well

    ctx = error.ctx if isinstance(error, click.UsageError) else None
    words = one_line(error.format_message())
    return f"{words} (see: {ctx.command_path} --help)" if ctx else words


def _tell(error: Exception, options: Options) -> None:
    """Print an error as one line, with what led to it where that was asked for, and without secrets."""
    from ayb_jobs.cli.output import one_line  # noqa: PLC0415 - nothing of it is needed where all goes well
    from ayb_jobs.redact import Redactor, passwords  # noqa: PLC0415

    given = options.database_url or os.environ.get("AYB_JOBS_DATABASE_URL", "")
    redact = Redactor({*passwords(given), given, options.admin_token or ""})
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
