"""`ayb-jobs demo`: the tour."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import click

from ayb_jobs.cli.commands.doctor import examine
from ayb_jobs.cli.commands.doctor import show as show_report
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, pass_options, table_options
from ayb_jobs.cli.output import Column, print_table, say
from ayb_jobs.cli.stopping import end_as_by_ctrl_c
from ayb_jobs.config import Retention
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.lab.demo.sick import SERVER, sick
from ayb_jobs.lab.demo.tour import (
    DemoJob,
    enqueue_jobs,
    jobs_now,
    keep_alive,
    make_tables,
    only_valid_rows_left,
    switch_off,
)
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate

COLUMNS = [
    Column(title="JOB", key=True),
    Column(title="STATE"),
    Column(title="ATTEMPTS", right=True),
    Column(title="RECORDS PROCESSED", right=True),
    Column(title="TIME", right=True),
]
# How long all eight jobs may take before the tour gives up.
PATIENCE_S = 120.0
BAR = 32
BEAT_S = 15.0


@click.command
@click.option("--once", is_flag=True, help="End when the jobs have ended, instead of leaving the daemon up.")
@click.option("--sick", "is_sick", is_flag=True, help="Show a database in which much is wrong, instead of the tour.")
@common_options
@table_options
@pass_options
@click.pass_context
def demo(ctx: click.Context, options: Options, *, once: bool, is_sick: bool) -> None:
    """Take a tour: make AYB's and Barycenter's tables with 100,000 rows, and let the daemon clean them up.

    Everything happens on a PostgreSQL of its own that is thrown away at the end. The daemon is left up until Ctrl-C, so
    that you can look around. Its schedules are there, but off, so that the figures are the tour's own.

    With --once, exits with 0 if all eight jobs completed and exactly the expired rows are gone, else with 1.
    """
    end_as_by_ctrl_c()
    if is_sick:
        show_sick(once=once)
        return
    with EmbeddedPostgres.throwaway() as server, tempfile.TemporaryDirectory(prefix="ayb-jobs-demo-") as folder:
        url = server.url()
        with closing(connect(url, name="ayb-jobs-demo")) as conn:
            ids = prepare(conn)
            with daemon(url, Path(folder) / "daemon.log") as process:
                jobs = watch(conn, ids, process, Path(folder) / "daemon.log", quiet=options.json)
                show(jobs, as_json=options.json, form=options.output)
                succeeded = len(jobs) == len(ids) and all(job.succeeded for job in jobs) and only_valid_rows_left(conn)
                if not options.json:
                    say(verdict(jobs, succeeded=succeeded))
                if not once:
                    switch_off(conn)
                    stay_up(url, Path(folder) / "daemon.log", process)
    ctx.exit(ExitCode.OK if succeeded else ExitCode.FAILED)


def show_sick(*, once: bool) -> None:
    """Show what doctor says of a database in which much is wrong, and leave its dashboard up until Ctrl-C.

    The daemon that serves it runs no job: it has a queue of its own.
    """
    with (
        EmbeddedPostgres.throwaway(settings=SERVER) as server,
        tempfile.TemporaryDirectory(prefix="ayb-jobs-demo-") as folder,
        closing(connect(server.url(), name="ayb-jobs-demo")) as conn,
    ):
        url, log_file = server.url(), Path(folder) / "daemon.log"
        migrate(conn)
        with sick(conn, url):
            show_report(examine(conn, url, Retention()))
            if once:
                return
            with daemon(url, log_file, packs="", queue="nobody") as process:
                while not log_file.exists() or not api_url(log_file):
                    if process.poll() is not None:
                        raise DatabaseError(f"the daemon ended: {last_line(log_file)}")
                    time.sleep(0.05)
                say(f"\nLook around: {api_url(log_file)}/ in a browser, the dashboard")
                say(f"  {program_as_called()} --database-url '{url}' doctor")
                say(f"  {program_as_called()} --database-url '{url}' why")
                say("After a minute doctor finds as well the session that has locked a job and does nothing.")
                say("Ctrl-C stops it and throws everything away.")
                with suppress(KeyboardInterrupt):
                    while process.poll() is None:
                        keep_alive(conn)
                        time.sleep(BEAT_S)


def prepare(conn: Connection) -> list[str]:
    """Make the tables and enqueue the jobs; return the jobs' ids."""
    say("Making 10 tables with 100,000 rows, 90,000 of them expired …")
    migrate(conn)
    make_tables(conn)
    return enqueue_jobs(conn)


@contextmanager
def daemon(
    url: str, log_file: Path, *, packs: str = "ayb,barycenter", queue: str = "default"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the real daemon meanwhile, as a process of its own with its log in a file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AYB_JOBS_")}
    settings = {
        "AYB_JOBS_ENABLED": "true",
        "AYB_JOBS_DATABASE_URL": url,
        "AYB_JOBS_HANDLERS_PACKS": packs,
        "AYB_JOBS_QUEUES": queue,
        "AYB_JOBS_SCHEDULER_ENABLED": "false",
        "AYB_JOBS_API_PORT": "0",
        "AYB_JOBS_LOG_FORMAT": "json",
    }
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ayb_jobs", "run"],
            cwd=log_file.parent,  # where no configuration file lies
            env=inherited | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tour, which then stops it
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def watch(
    conn: Connection, ids: list[str], process: subprocess.Popen[bytes], log_file: Path, *, quiet: bool
) -> list[DemoJob]:
    """Wait until all jobs have ended, showing how far each is; return how they stand then."""
    give_up = time.monotonic() + PATIENCE_S
    bars = Bars(shown=not quiet and sys.stderr.isatty())
    while True:
        jobs = jobs_now(conn, ids)
        bars.draw(jobs)
        if all(job.ended for job in jobs) or time.monotonic() > give_up:
            bars.erase()
            return jobs
        if process.poll() is not None:
            raise DatabaseError(f"the daemon ended with exit code {process.returncode}: {last_line(log_file)}")
        time.sleep(0.05)


class Bars:
    """A bar for each job on the terminal, drawn in place."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._lines = 0

    def draw(self, jobs: list[DemoJob]) -> None:
        """Draw how far each job is."""
        if self._shown:
            self.erase()
            click.echo("".join(f"{bar(job)}\n" for job in jobs), err=True, nl=False)
            self._lines = len(jobs)

    def erase(self) -> None:
        """Take the bars away."""
        if self._lines:
            click.echo(f"\x1b[{self._lines}A\x1b[J", err=True, nl=False)
        self._lines = 0


def bar(job: DemoJob) -> str:
    """Return a line that shows how far a job is."""
    full = min(BAR, BAR * job.records_processed // max(1, job.expected))
    return f"{job.job:<32} {'━' * full}{'·' * (BAR - full)} {job.records_processed:>6}/{job.expected}"


def show(jobs: list[DemoJob], *, as_json: bool, form: str | None) -> None:
    """Print how each job ended: a table, or one JSON object for each."""
    if as_json:
        for job in jobs:
            told = {key: value for key, value in asdict(job).items() if key != "error" or value}
            click.echo(json.dumps(told))
        return
    rows = [
        [
            job.job,
            job.state,
            str(job.attempts),
            f"{job.records_processed:,}",
            "" if job.seconds is None else f"{job.seconds * 1000:,.0f} ms",
        ]
        for job in jobs
    ]
    print_table(COLUMNS, rows, ["green" if job.succeeded else "red" for job in jobs], form=form)


def verdict(jobs: list[DemoJob], *, succeeded: bool) -> str:
    """Say in a sentence what came out."""
    if succeeded:
        return f"All {len(jobs)} jobs completed, and exactly the expired rows are gone."
    wrong = [f"{job.job}: {job.error or job.state}" for job in jobs if not job.succeeded]
    return (
        f"Something went wrong. {'; '.join(wrong) or 'Rows are left that should be gone, or gone that should be left.'}"
    )


def stay_up(url: str, log_file: Path, process: subprocess.Popen[bytes]) -> None:
    """Leave the daemon up until Ctrl-C."""
    say("")
    say("The daemon is up. From another terminal, look around:")
    program = program_as_called()
    say(f"  {program} --database-url '{url}' jobs list")
    say(f"  {program} --database-url '{url}' schedules list")
    api = api_url(log_file)
    if api:
        say(f"  {api}/ in a browser, the dashboard")
        say(f"  curl {api}/metrics")
    say(f"  tail -f {log_file}")
    say("Ctrl-C stops it and throws everything away.")
    try:
        process.wait()
    except KeyboardInterrupt:
        say("\nStopping …")


def api_url(log_file: Path) -> str | None:
    """Return where the daemon serves its API, once it does."""
    return next((line["url"] for line in log_lines(log_file) if line.get("event") == "api.started"), None)


def program_as_called() -> str:
    """Return the words that start this program the way it was started, for a shell in the same folder."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m ayb_jobs"
    return shlex.quote(Path(called).name if shutil.which(Path(called).name) == str(Path(called).absolute()) else called)


def log_lines(log_file: Path) -> list[dict[str, str]]:
    """Return the lines of the daemon's log."""
    return [json.loads(line) for line in log_file.read_text().splitlines() if line.startswith("{")]


def last_line(log_file: Path) -> str:
    """Return the last line of the daemon's log."""
    return (log_file.read_text().strip().splitlines() or ["it wrote nothing"])[-1]
