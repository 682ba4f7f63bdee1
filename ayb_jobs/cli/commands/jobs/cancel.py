"""`ayb-jobs jobs cancel`."""

from typing import Any

import click

from ayb_jobs.cli.commands.jobs.changing import change, many_options
from ayb_jobs.cli.commands.jobs.filtering import filter_options
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("job_id", metavar="[JOB-ID]", required=False)
@filter_options
@many_options
@backend_options
@pass_options
def cancel(options: Options, /, job_id: str | None, **flags: Any) -> None:
    """Cancel queued jobs, which will not run: one, or all that match."""
    change(options, "cancel", job_id, flags)
