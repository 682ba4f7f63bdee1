"""`ayb-jobs jobs output`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.values import WholeNumber


@click.command("output")
@click.argument("job_id", metavar="JOB-ID")
@click.option("--attempt", type=WholeNumber(1, 2**31 - 1), help="Of this attempt; else of the newest.")
@backend_options
@pass_options
def output_(options: Options, job_id: str, attempt: int | None) -> None:
    """Print the end of what a job's command wrote, up to 64 KiB."""
    output.must_print()
    with open_jobs(options) as backend:
        text = backend.get_output(job_id, attempt=attempt)
    if options.json:
        output.print_json(text)
    else:
        click.echo(decoded(text)["output"], nl=False)
