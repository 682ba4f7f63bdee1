"""Groups whose commands are imported when they are asked for."""

import importlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from ayb_jobs.cli.suggestions import command_that_was_meant


class Lazy(NamedTuple):
    """A command that is not imported yet: its place below `cli.commands`, and its line in the group's help.

    `also` are words by which other programs call the same, for whoever types them here. A group says that it is one.
    """

    place: str
    help: str
    also: tuple[str, ...] = ()
    is_group: bool = False

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"ayb_jobs.cli.commands.{module}"), name)
        return command


class NoCommand(click.UsageError):
    """A group was called without a command. `show` prints the group's help, as newer versions of click do."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__(ctx.get_help(), ctx)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the help, on stderr unless a file is given."""
        click.echo(self.format_message(), file=file, err=True)


class LazyGroup(click.Group):
    """A group that imports a command's file when the command is asked for, but neither for help nor for completion."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.table = table

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own arguments; raises `NoCommand` if there are none."""
        if not args and not ctx.resilient_parsing:
            raise NoCommand(ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        return list(self.table)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        return self.table[cmd_name].load() if cmd_name in self.table else None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines of help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what completes a word: names of commands, and flags."""
        names = [
            CompletionItem(name, help=lazy.help) for name, lazy in self.table.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was asked for; if there is none, the error names the one that was meant."""
        word = args[0]
        if word in self.table or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {word!r}.{command_that_was_meant(word, self.words())}", ctx)

    def words(self) -> dict[str, tuple[str, ...]]:
        """Return the commands of this group, then those of the groups within, each with what else it is called.

        Groups are imported for it, and no other command.
        """
        own = {name: lazy.also for name, lazy in self.table.items()}
        within = [(name, lazy.load()) for name, lazy in self.table.items() if lazy.is_group]
        return own | {
            f"{name} {path}": also
            for name, group in within
            if isinstance(group, LazyGroup)
            for path, also in group.words().items()
        }
