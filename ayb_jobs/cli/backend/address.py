"""Finding the database that a command is about."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import patience
from ayb_jobs.errors import DatabaseError, InvalidInput


@contextmanager
def database_url(options: Options) -> Iterator[str]:
    """Give the address of the database: the flag's, the environment's or the file's, else the embedded one's.

    Where the first two say it, the rest of the configuration is neither read nor checked: reading it takes longer than
    most commands do. The embedded database is started for the time of the command where it is down. Raises
    `DatabaseError` where it was never made, and `InvalidInput` where an API was named instead.
    """
    if not options.database_url and (options.url or os.environ.get("AYB_JOBS_URL")):
        raise InvalidInput("this command works on the database alone; name it with --database-url, and no --url")
    if named := named_url(options):
        yield named
        return
    from ayb_jobs.cli.settings import settings

    with embedded_url(settings(options).database.data_dir, make=False) as url:
        yield url


def named_url(options: Options) -> str:
    """Return the address of the database that the flag, the environment or the file names; empty if it is embedded."""
    if url := options.database_url or os.environ.get("AYB_JOBS_DATABASE_URL"):
        return url
    from ayb_jobs.cli.settings import settings

    return settings(options).database.url


@contextmanager
def direct_url(options: Options) -> Iterator[str]:
    """Give the address of the database without a pooler between; the embedded one is made where there is none."""
    from ayb_jobs.cli.settings import settings  # slow to import

    database = settings(options).database
    if database.url:
        yield options.database_url or database.direct_url or database.url
        return
    with embedded_url(database.data_dir, make=True) as url:
        yield url


@contextmanager
def embedded_url(data_dir: str, *, make: bool) -> Iterator[str]:
    """Give the address of the embedded database, which runs meanwhile."""
    from ayb_jobs.embedded import DEFAULT_HOME, EmbeddedPostgres  # mostly not needed

    home = Path(data_dir) if data_dir else DEFAULT_HOME
    if not make and not was_made(home):
        raise DatabaseError(
            f"there is no database yet: database.url is empty, and {home} holds no embedded database. "
            "Start the daemon (ayb-jobs run) and wait until it has started, or name a database in "
            "AYB_JOBS_DATABASE_URL or with --database-url"
        )
    with ExitStack() as running:
        with patience("starting the embedded database …"):
            server = running.enter_context(EmbeddedPostgres.kept(home))
        yield server.url()


def was_made(home: Path) -> bool:
    """Tell whether an embedded database has ever been started in `home`."""
    from ayb_jobs.embedded.account import Account  # mostly not needed
    from ayb_jobs.embedded.places import reachable

    return (reachable(home.absolute(), Account.for_home(home)) / "data").exists()
