"""`ayb-jobs jobs cancel`."""

import click

from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("job_id", metavar="JOB-ID")
@backend_options
@pass_options
def cancel(options: Options, job_id: str) -> None:
    """Cancel a queued job: it will not run."""
    with open_jobs(options) as backend:
        text = backend.cancel_job(job_id)
    print_change(options, text, "{id} is {state}")
