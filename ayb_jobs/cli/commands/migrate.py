"""`ayb-jobs migrate`: bring the database's schema up to date."""

from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.reach import direct_url
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options


@click.command(short_help="Bring the database's schema up to date.")
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@common_options
@json_option
@pass_options
def migrate(options: Options, *, plan: bool) -> None:
    """Bring the database's schema up to date: all that is missing in one transaction, or nothing."""
    from ayb_jobs.storage.database import connect  # noqa: PLC0415 - slow to import
    from ayb_jobs.storage.faults import worded_faults  # noqa: PLC0415
    from ayb_jobs.storage.migrate import migrate as apply  # noqa: PLC0415
    from ayb_jobs.storage.migrate import pending  # noqa: PLC0415

    with (
        direct_url(options) as url,
        closing(connect(url, name="ayb-jobs-migrate", writable=not plan)) as conn,
        worded_faults(),
    ):
        if plan:
            names = [migration.name for migration in pending(conn)]
            print_names(options, names, "would apply", "Nothing to do: the schema is up to date.")
            return
        applied = apply(conn, output.say)
    names = [migration.name for migration in applied.migrations]
    print_names(options, names, "applied", "Nothing to do: the schema is up to date.")
    for notice in applied.notices:
        output.say(f"note: {notice}")


def print_names(options: Options, names: list[str], done: str, none: str) -> None:
    """Print the names of migrations."""
    if options.json:
        import json  # noqa: PLC0415 - only here

        output.print_json(json.dumps({"migrations": names}))
    elif names:
        for name in names:
            click.echo(f"{done} {name}")
    else:
        click.echo(none)
