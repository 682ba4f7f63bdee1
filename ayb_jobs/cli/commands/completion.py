"""`ayb-jobs completion`: have a shell complete the commands."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from ayb_jobs.cli import output

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAMS = {"ayb-jobs": "_AYB_JOBS_COMPLETE", "ayb": "_AYB_COMPLETE"}


@click.command
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `ayb-jobs` and `ayb` in a shell.

    \b
    Save it where your shell looks for such scripts:
    bash  ~/.local/share/bash-completion/completions/ayb-jobs
    zsh   ~/.zfunc/_ayb-jobs, with ~/.zfunc in $fpath
    fish  ~/.config/fish/completions/ayb-jobs.fish
    """  # noqa: D301 - click takes the backspace for "leave these lines as they are"
    output.must_print()
    for program, variable in PROGRAMS.items():
        click.echo(SHELLS[shell](ctx.find_root().command, {}, program, variable).source())
