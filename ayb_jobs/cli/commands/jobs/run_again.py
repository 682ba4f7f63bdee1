"""`ayb-jobs jobs run-again`."""

from typing import Any

import click

from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.values import JSON


@click.command("run-again")
@click.argument("job_id", metavar="JOB-ID")
@click.option(
    "--payload",
    type=JSON,
    metavar="JSON",
    help="Another payload: JSON, @FILE, or - for standard input; that of the old job if not given.",
)
@backend_options
@pass_options
def run_again(options: Options, /, job_id: str, payload: Any) -> None:
    """Make a new job, due now, of an old one in any state."""
    with open_jobs(options) as backend:
        text = backend.run_again(job_id, {} if payload is None else {"payload": payload})
    print_change(options, text, "{id} is {state}")
