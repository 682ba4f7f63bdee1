"""The program: its commands, and how it ends."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

import click

import ayb_jobs
from ayb_jobs.cli.ending import end
from ayb_jobs.cli.exits import ExitCode, exit_code_of
from ayb_jobs.cli.lazy import Lazy, LazyGroup, NoCommand
from ayb_jobs.cli.options import Options, backend_options
from ayb_jobs.cli.output import one_line
from ayb_jobs.cli.streams import OutputFailed, finish, secure
from ayb_jobs.cli.suggestions import flag_that_was_meant
from ayb_jobs.errors import AybJobsError, ConfigError
from ayb_jobs.model.project import Project
from ayb_jobs.redact import Redactor, passwords

# In the order of the help.
COMMANDS = {
    "run": Lazy("run:run", "Run the daemon in the foreground.", ("start", "worker", "work", "serve", "daemon", "up")),
    "migrate": Lazy("migrate:migrate", "Bring the database's schema up to date.", ("init", "upgrade", "setup")),
    "grant": Lazy(
        "grant:grant",
        "Give a role of the database what it needs to enqueue, to run or to read.",
        ("rights", "permissions", "roles"),
    ),
    "check-config": Lazy(
        "check_config:check_config",
        "Check the settings and show where each came from.",
        ("check", "config", "settings", "validate"),
    ),
    "database-url": Lazy(
        "database_url:database_url",
        "Print the embedded database's address, for psql.",
        ("psql", "url", "dsn", "db", "database", "connect"),
    ),
    "health": Lazy("health:health", "Tell whether work can be done.", ("status", "ping", "ready", "alive")),
    "doctor": Lazy(
        "doctor:doctor", "Look for what is wrong, and say what to do.", ("diagnose", "debug", "checkup", "fsck")
    ),
    "top": Lazy("top.live:top", "Show how things stand, live.", ("watch", "monitor", "htop", "dashboard", "live")),
    "why": Lazy("why:why", "Say why jobs wait.", ("explain", "waiting", "stuck")),
    "drain": Lazy(
        "drain:drain", "Have a daemon take no more jobs and end.", ("stop", "shutdown", "quiesce", "retire", "quiet")
    ),
    "jobs": Lazy("jobs:jobs", "Look at jobs; enqueue, retry and cancel them.", ("job", "tasks"), is_group=True),
    "queues": Lazy("queues:queues", "Look at queues; pause and resume them.", ("queue", "lanes"), is_group=True),
    "types": Lazy("types:types", "Look at job types; pause and resume them.", ("kinds",), is_group=True),
    "limits": Lazy(
        "limits:limits", "Look at limits; set and remove them.", ("limit", "rates", "throttle"), is_group=True
    ),
    "keys": Lazy("keys:keys", "Look at keys of limits; pause and resume them.", ("key", "tenants"), is_group=True),
    "schedules": Lazy(
        "schedules:schedules",
        "Look at schedules; create, change and watch them.",
        ("cron", "crons", "beat"),
        is_group=True,
    ),
    "batches": Lazy(
        "batches:batches", "Look at batches; make, seal and cancel them.", ("batch", "groups"), is_group=True
    ),
    "demo": Lazy("demo:demo", "Take a tour on a database that is thrown away.", ("tour", "try", "example")),
    "torture": Lazy("torture:torture", "Break daemons on purpose, and check that no job is lost.", ("chaos",)),
    "bench": Lazy("bench:bench", "Measure the daemon on this machine.", ("benchmark", "measure", "perf")),
    "completion": Lazy(
        "completion:completion", "Print the script that completes commands in a shell.", ("completions", "autocomplete")
    ),
}
SAVED_BUT_UNREAD = "it is done, but what it printed was lost"

ADDRESS = "postgresql://USER@HOST/DATABASE"  # as errors show what would be right
# The extras, by the libraries that come with them.
EXTRAS = {
    "aiohttp": "http",
    "fastapi": "api",
    "graphql": "api",
    "jinja2": "api",
    "opentelemetry": "otel",
    "prometheus_client": "api",
    "uvicorn": "api",
}

DATABASE_URLS = ("AYB_JOBS_DATABASE_URL", "AYB_DATABASE_URL")


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ayb_jobs.__version__, prog_name="ayb-jobs")
@backend_options
def program() -> None:
    """Run the job daemon, and look after its queue in PostgreSQL."""


def start(arguments: Sequence[str] | None, *, project: Project | None, hear_ctrl_c: bool) -> NoReturn:
    """Do what `main` says; with `hear_ctrl_c`, Ctrl-C raises `KeyboardInterrupt` from the moment when it is caught."""
    streams = (sys.stdout, sys.stderr)
    if arguments is None:
        streams = secure()
    options = Options(project=project)
    code = run(arguments, options, streams[0], hear_ctrl_c=hear_ctrl_c)
    unwritten = finish(streams)
    if unwritten and unwritten.strerror and code == ExitCode.OK and not isinstance(unwritten, BrokenPipeError):
        click.echo(f"ayb-jobs: warning: {SAVED_BUT_UNREAD}: {unwritten.strerror}", err=True)
    if arguments is None:
        end(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None, options: Options, out: TextIO, *, hear_ctrl_c: bool) -> int:
    """Run the program; print what went wrong, and return the exit code."""
    try:
        if hear_ctrl_c:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = program.main(args=arguments, standalone_mode=False, obj=options) or ExitCode.OK
        with suppress(ValueError):  # a handler closed it
            out.flush()
    except NoCommand as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"ayb-jobs: {usage_line(error)}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, its user gets one line
        return failed(error.cause if isinstance(error, OutputFailed) else error, options)
    return int(code)


def failed(error: Exception, options: Options) -> ExitCode:
    """Print why a command failed, and return its exit code; nobody is told of a reader who went away."""
    if isinstance(error, BrokenPipeError):
        return ExitCode.BROKEN_PIPE
    tell(error, options)
    return exit_code_of(error)


def usage_line(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and where to read what would be right."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    words = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
    if ctx and isinstance(error, click.NoSuchOption):
        flags = [flag for param in ctx.command.get_params(ctx) for flag in param.opts if flag.startswith("--")]
        words += flag_that_was_meant(error.option_name, flags)
    words = one_line(" ".join(words.split()))
    return f"{words} (see: {ctx.command_path} --help)" if ctx else words


def tell(error: Exception, options: Options) -> None:
    """Print an error as one line, without secrets; with --debug, print first where it came from."""
    given = (options.database_url or "", *(os.environ.get(name, "") for name in DATABASE_URLS))
    urls = [url for url in given if url not in ADDRESS]  # a part of it, such as `postgres`, is no secret
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
        case ModuleNotFoundError() if extra := EXTRAS.get((error.name or "").partition(".")[0]):
            return f"this needs the extra `{extra}`; install it with: pip install 'ayb-jobs[{extra}]'"
        case OSError():
            return f"{error.filename or 'input or output'}: {error.strerror or error}"
        case _:
            return f"unexpected {type(error).__name__}: {error}; --debug shows where"
