"""`ayb-jobs torture`: break a fleet of daemons on purpose, and see that no job is lost."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.stopping import end_as_by_ctrl_c
from ayb_jobs.cli.values import Number, WholeNumber
from ayb_jobs.errors import Conflict
from ayb_jobs.lab.torture import KINDS, network, parse_faults, report
from ayb_jobs.lab.torture import torture as run_torture

TOLD_EVERY_S = 10.0


@click.command
@click.option("--seconds", default=60.0, show_default=True, type=Number(3), help="How long faults come.")
@click.option("--seed", type=WholeNumber(0), help="Repeat the choices of an earlier run. Default: a new one.")
@click.option(
    "--faults",
    default="all",
    show_default=True,
    metavar="KINDS",
    help="Which faults: `kill,pause`, with numbers `kill=200,pause=20`, `all` or `none`; --list-faults tells of each.",
)
@click.option("--list-faults", is_flag=True, help="Show the kinds of faults, and end.")
@click.option("--daemons", default=4, show_default=True, type=WholeNumber(1, 64), help="How many daemons.")
@click.option("--jobs", default=0, type=WholeNumber(0), help="Go on until so many jobs were enqueued.")
@click.option(
    "--drain",
    "drain_s",
    default=180.0,
    show_default=True,
    type=Number(1),
    metavar="SECONDS",
    help="How long after the last fault every job may take to end.",
)
@click.option(
    "--isolated", is_flag=True, help="Let some jobs run in processes of their own; each start costs more then."
)
@json_option
@common_options
@pass_options
@click.pass_context
def torture(
    ctx: click.Context,
    options: Options,
    *,
    seconds: float,
    seed: int | None,
    faults: str,
    list_faults: bool,
    daemons: int,
    jobs: int,
    drain_s: float,
    isolated: bool,
) -> None:
    """Break a fleet of daemons on purpose while it works, and check that no job is lost.

    Without --database-url an embedded PostgreSQL is made for it and removed. A database that is named has to be one
    that nobody uses: no row in a table of ours, and no living daemon. It is left as it was.

    Exits with 0 only if no job was lost and no invariant broken. If not, it keeps the logs and says where they are.
    """
    if list_faults:
        for kind in KINDS.values():
            click.echo(f"{kind.name:18} {kind.meaning}")
        return
    wanted = parse_faults(faults)
    if "cut" in wanted and not options.database_url and not network.is_own() and network.can_have_own():
        network.enter_own([sys.executable, "-m", "ayb_jobs", *sys.argv[1:]])
    end_as_by_ctrl_c()
    with folder_for_logs() as folder:
        result = run_torture(
            seconds=seconds,
            seed=secrets.randbelow(2**31) if seed is None else seed,
            faults=wanted,
            database_url=options.database_url,
            daemons=daemons,
            jobs=jobs,
            drain_s=drain_s,
            folder=folder,
            isolated=isolated,
            progress=Display(),
        )
    for name, reason in result.left_out.items():
        click.echo(f"left out: {name}: {reason}", err=True)
    if not result.passed:
        report.write_logs(result)
        for line in report.failure(result):
            click.echo(line, err=True)
    else:
        shutil.rmtree(result.folder, ignore_errors=True)
    click.echo(report.as_json(result) if options.json else report.as_line(result))
    ctx.exit(ExitCode.OK if result.passed else ExitCode.FAILED)


@contextmanager
def folder_for_logs() -> Iterator[Path]:
    """Give a new folder.

    Remove it where the run is stopped or cannot begin, and say where it is where the run fails.
    """
    folder = Path(tempfile.mkdtemp(prefix="ayb-jobs-torture-"))
    try:
        yield folder
    except (KeyboardInterrupt, Conflict):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        if any(folder.iterdir()):
            click.echo(f"the logs are in {folder}", err=True)
        else:
            folder.rmdir()
        raise


class Display:
    """Shows how far it is on stderr: in place on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._next_s = 0.0

    def __call__(self, phase: str, numbers: Mapping[str, float]) -> None:
        """Show a phase and its numbers."""
        line = (
            f"{numbers['elapsed_s']:5.0f} s  {phase:6}  {numbers['jobs']:7.0f} jobs  "
            f"{numbers['unfinished']:5.0f} unfinished  {numbers['faults']:5.0f} faults"
        )
        if self._in_place:
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        elif numbers["elapsed_s"] >= self._next_s:
            click.echo(line, err=True)
            self._next_s = numbers["elapsed_s"] + TOLD_EVERY_S
