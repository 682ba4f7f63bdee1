"""`ayb-jobs jobs retry`."""

import click

from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("job_id", metavar="JOB-ID")
@backend_options
@pass_options
def retry(options: Options, job_id: str) -> None:
    """Queue a failed job again, due now, with all its attempts."""
    with open_jobs(options) as backend:
        text = backend.retry_job(job_id)
    print_change(options, text, "{id} is {state} again")
