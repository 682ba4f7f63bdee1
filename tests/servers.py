"""PostgreSQL servers in places and with settings that a test chooses."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.embedded.account import Account
from ayb_jobs.embedded.places import temporary_home

AS_EVER = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder that the server's user owns, with a path that is short enough for a socket, and remove it."""
    folder = temporary_home(Account.for_home(None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def server_in(home: Path, like: EmbeddedPostgres, settings: Mapping[str, str]) -> EmbeddedPostgres:
    """Return a server in `home`, with the programs of another; neither made nor started yet."""
    account = Account.for_home(None)
    account.make_folder(home)
    return EmbeddedPostgres(home, account=account, bin_dir=like.bin_dir, settings=settings)


def make(server: EmbeddedPostgres, *options: str) -> None:
    """Make the server's databases; `options` are those of `initdb`."""
    run(server, "initdb", *AS_EVER, *options, "data")


def run(server: EmbeddedPostgres, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs as the server's user in its home; assert that it succeeds."""
    done = Account.for_home(None).run([server.bin_dir / program, *arguments], cwd=server.home)
    assert done.returncode == 0, f"{program} failed: {done.stderr}"
