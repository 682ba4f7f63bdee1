"""The options that every command takes, before its name or after it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """What was said on the command line; None where nothing was. The later of two wins."""

    config: Path | None = None
    database_url: str | None = None
    url: str | None = None
    admin_token: str | None = None
    json: bool = False
    debug: bool = False


pass_options = click.make_pass_decorator(Options, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    options = ctx.ensure_object(Options)
    if value is not None and param.name is not None:
        setattr(options, param.name, value)


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_remember, default=None, **settings)


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
_JSON = _option("--json", is_flag=True, help="Print JSON, for programs.")


def common_options(command: F) -> F:
    """Give a command the options that all have."""
    return _decorated(command, _COMMON)


def json_option(command: F) -> F:
    """Give a command `--json`."""
    return _decorated(command, (_JSON,))


def backend_options(command: F) -> F:
    """Give a command that works on the queue all options that it needs: where the queue is, and how to print."""
    return _decorated(command, (*_COMMON, *_REMOTE, _JSON))


def _decorated(command: F, decorators: tuple[Callable[[Any], Any], ...]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
