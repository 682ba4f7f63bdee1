"""The options that every command takes, before its name or after it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ayb_jobs.model.project import Project

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """What was said on the command line; None if nothing was. The later of two wins."""

    config: Path | None = None
    database_url: str | None = None
    url: str | None = None
    admin_token: str | None = None
    output: str | None = None  # how results are printed: `items` is what --json means
    debug: bool = False
    project: Project | None = None  # of a framework whose command this program is called by

    @property
    def json(self) -> bool:
        """Whether results are printed as JSON."""
        return self.output in {"items", "json"}


pass_options = click.make_pass_decorator(Options, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    options = ctx.ensure_object(Options)
    if value is not None and param.name is not None:
        setattr(options, param.name, value)


def _remember_json(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Options).output = value


def _remember_output(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    _remember(ctx, param, value)
    options = ctx.ensure_object(Options)
    if options.output == "csv" and isinstance(param.type, click.Choice) and "csv" not in param.type.choices:
        raise click.BadParameter("this command prints no table; give json or table", ctx, param)


class CommonOption(click.Option):
    """An option that many commands share: the program's own help explains it, and that of a command names it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the lines about it; in a command's help, one line about all of them stands with the first."""
        if ctx.parent is None:
            return super().get_help_record(ctx)
        shared = [param for param in ctx.command.get_params(ctx) if isinstance(param, CommonOption)]
        if self is not shared[0]:
            return None
        names = ", ".join(param.opts[0] for param in shared)
        return "Common options", f"See {ctx.find_root().info_name} --help: {names}"


def _option(*names: str, callback: Any = _remember, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, cls=CommonOption, expose_value=False, callback=callback, default=None, **settings)


_COMMON: tuple[Callable[[Any], Any], ...] = (
    _option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file."),
    _option("--database-url", metavar="URL", help="The database, in place of the configured one."),
    _option("--debug", is_flag=True, help="Show where an error came from."),
)
_REMOTE: tuple[Callable[[Any], Any], ...] = (
    _option("--url", metavar="URL", help="The API of a running daemon, in place of the database [env: AYB_JOBS_URL]."),
    _option(
        "--admin-token",
        metavar="TOKEN",
        help="A token of that API; better set in the environment, where others do not see it"
        " [env: AYB_JOBS_ADMIN_TOKEN or AYB_ADMIN_TOKEN].",
    ),
)
_JSON = _option(
    "--json",
    "as_items",
    flag_value="items",
    callback=_remember_json,
    help="Print JSON, for programs; a list is an object with `items`.",
)
_OUTPUT = _option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    callback=_remember_output,
    help="Print a table, CSV, or JSON in which a list is an array.",
)
_OUTPUT_WITHOUT_CSV = _option(
    "--output", type=click.Choice(["table", "json"]), callback=_remember_output, help="Print text, or JSON."
)


def daemon_options(command: F) -> F:
    """Give a command the flags that go over settings of `[jobs]`; what they hold is checked with the settings."""
    return _decorated(
        command,
        (
            click.option("--queues", metavar="A,B", help="The queues to serve, in place of `jobs.queues`."),
            click.option(
                "--concurrency",
                metavar="N",
                help="How many handlers run in threads at once, in place of `jobs.worker_concurrency`.",
            ),
        ),
    )


def common_options(command: F) -> F:
    """Give a command the options that all have."""
    return _decorated(command, _COMMON)


def json_option(command: F) -> F:
    """Give a command `--json`, and `--output` without CSV: what it prints is no table."""
    return _decorated(command, (_JSON, _OUTPUT_WITHOUT_CSV))


def table_options(command: F) -> F:
    """Give a command that prints a table `--json` and `--output`."""
    return _decorated(command, (_JSON, _OUTPUT))


def backend_options(command: F) -> F:
    """Give a command that works on the queue all options that it needs: where the queue is, and how to print."""
    return _decorated(command, (*_COMMON, *_REMOTE, _JSON, _OUTPUT))


def _decorated(command: F, decorators: tuple[Callable[[Any], Any], ...]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
