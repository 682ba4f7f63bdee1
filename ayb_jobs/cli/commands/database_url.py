"""`ayb-jobs database-url`: the embedded database's address, for `psql` and the like."""

from pathlib import Path

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options, common_options, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.embedded import DEFAULT_HOME, EmbeddedPostgres
from ayb_jobs.errors import DatabaseError


@click.command("database-url")
@common_options
@pass_options
def database_url(options: Options) -> None:
    """Print the address of the embedded database, as in: psql "$(ayb-jobs database-url)".

    It runs while a daemon does, so start one first (ayb-jobs run). A database that you have configured is not printed:
    its address may hold a password.
    """
    output.must_print()
    database = settings(options).database
    if database.url:
        raise DatabaseError("there is no embedded database here: database.url, or --database-url, names another")
    address = EmbeddedPostgres.address(Path(database.data_dir) if database.data_dir else DEFAULT_HOME)
    if address is None:
        raise DatabaseError("the embedded database is not running; it runs while a daemon does: ayb-jobs run")
    click.echo(address)
