"""`ayb-jobs run`: the daemon, in the foreground."""

from functools import partial

import click

from ayb_jobs.cli.options import Options, common_options, daemon_options, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.process.service import run_service


@click.command
@daemon_options
@common_options
@pass_options
@click.pass_context
def run(ctx: click.Context, options: Options, queues: str | None, concurrency: str | None) -> None:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C; a second one ends it at once.

    Its database is brought up to date first. Exits with 0 after a clean stop, with 1 if jobs were still running
    when the shutdown timeout was over, and with 143 after a second signal.
    """
    read = partial(settings, options, queues=queues, worker_concurrency=concurrency)
    ctx.exit(run_service(read(), read))
