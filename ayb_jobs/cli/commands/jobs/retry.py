"""`ayb-jobs jobs retry`."""

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
def retry(options: Options, /, job_id: str | None, **flags: Any) -> None:
    """Queue failed jobs again, due now, with all their attempts: one, or all that match."""
    change(options, "retry", job_id, flags, lambda backend: backend.retry_job(job_id or ""))
