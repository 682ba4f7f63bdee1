"""`ayb-jobs jobs cancel`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ayb_jobs.cli.commands.jobs.changing import change, many_options
from ayb_jobs.cli.commands.jobs.filtering import filter_options
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.errors import Conflict, InvalidInput


@click.command
@click.argument("job_id", metavar="[JOB-ID]", required=False)
@click.option("--running", is_flag=True, help="Cancel the job although it runs; with a filter, those that run.")
@click.option("--force", is_flag=True, help="End a running job at once if its daemon is gone; with a JOB-ID.")
@filter_options
@many_options
@backend_options
@pass_options
def cancel(options: Options, /, job_id: str | None, *, running: bool, force: bool, **flags: Any) -> None:
    """Cancel queued jobs, which will not run: one, or all that match.

    With --running also a job that runs: its handler is told to stop, and whatever it does, the job ends canceled.
    """
    if job_id is None:
        if force:
            raise InvalidInput("--force takes a JOB-ID", field="force")
        change(options, "cancel_running" if running else "cancel", job_id, flags)
        return
    action = "force_cancel" if force else "cancel"
    with naming_the_way_out(asked=running or force):
        change(options, action, job_id, flags, lambda backend: backend.cancel_job(job_id, running=running, force=force))


@contextmanager
def naming_the_way_out(*, asked: bool) -> Iterator[None]:
    """Name --running if a job is not canceled because it runs."""
    try:
        yield
    except Conflict as error:
        if asked or " is running" not in str(error):
            raise
        raise Conflict(f"{error}; --running has it end canceled") from error
