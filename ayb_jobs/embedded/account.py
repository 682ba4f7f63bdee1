"""Who runs the server, and what that user can reach."""

import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ayb_jobs.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that runs the server; `user` and `group` are None if that is who we are."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def for_home(cls, home: Path | None) -> Self:
        """Return ourselves; for root the owner of an existing `home`, or else `nobody`."""
        if os.geteuid() != 0:
            _refuse_anothers(home)
            return cls()
        if home and home.exists() and home.stat().st_uid != 0:
            return cls(home.stat().st_uid, home.stat().st_gid)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def extra_groups(self) -> list[int] | None:
        """No further groups for a user switched to."""
        return None if self.user is None else []

    def run(self, command: Sequence[str | Path], *, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user."""
        return subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            user=self.user,
            group=self.group,
            extra_groups=self.extra_groups,
        )

    def can(self, test: str, path: Path) -> bool:
        """Tell whether this user passes `test` (as in the shell: -x, -w) on `path`."""
        return self.user is None or self.run(["/bin/sh", "-c", f'test {test} "$1"', "sh", path]).returncode == 0

    def can_run(self, program: Path) -> bool:
        """Tell whether this user can run `program`, with all that it needs."""
        return self.run(["/bin/sh", "-c", '"$1" --version', "sh", program]).returncode == 0

    def make_folder(self, folder: Path) -> None:
        """Make `folder` for this user alone if it is missing. Raises `DatabaseError` if it is another's."""
        make_way(folder)
        if not folder.exists():
            made = self.make_temporary_folder(folder.parent)
            try:
                made.rename(folder)  # at once with its owner, for others that start at the same time
            except OSError:
                made.rmdir()
        self._refuse_anothers(folder)

    def make_private_folder(self, folder: Path) -> None:
        """Make `folder` in a place where anybody may write.

        An existing one has to be this user's and closed to others.
        """
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid or stat.S_IMODE(found.st_mode) & 0o077:
                raise DatabaseError(
                    f"{folder} is there already, and is not a private folder of the user {name_of(self.uid)}: remove it"
                ) from None
        else:
            self._give(folder)

    def make_temporary_folder(self, within: Path) -> Path:
        """Make a folder for temporary files that is this user's alone."""
        folder = Path(tempfile.mkdtemp(prefix="ayb-jobs-", dir=within))
        self._give(folder)
        return folder

    def read(self, path: Path) -> str | None:
        """Return the text of a file of this user's; None if there is none.

        What stands in its place and is another's, or no plain file, is not followed: this user may have put it there.
        """
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != self.uid:
            os.close(file)
            return None
        with os.fdopen(file, errors="replace") as text:
            return text.read()

    def remove(self, *paths: Path) -> None:
        """Remove files and folders as this user, who could not remove more by putting a link in their place."""
        self.run(["/bin/rm", "-rf", "--", *paths])

    @property
    def uid(self) -> int:
        """The number of this user."""
        return os.geteuid() if self.user is None else self.user

    def _give(self, folder: Path) -> None:
        """Make this user the owner of a folder that we have just made."""
        if self.user is None or self.group is None:
            return
        made = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(made, self.user, self.group)
        finally:
            os.close(made)

    def _refuse_anothers(self, folder: Path) -> None:
        owner = folder.stat().st_uid
        if owner != self.uid:
            raise DatabaseError(
                f"{folder} belongs to {name_of(owner)}, and PostgreSQL is to run as {name_of(self.uid)}:"
                f" remove it, or give it away with chown -R {name_of(self.uid)}"
            )


def name_of(uid: int) -> str:
    """Return a user's name, or the number of one that has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def make_way(path: Path) -> None:
    """Make the missing folders above `path`, open to all whatever the umask: they are new, and nothing is in them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            with suppress(FileExistsError):  # another was quicker
                parent.mkdir()
                parent.chmod(0o755)


def _refuse_anothers(home: Path | None) -> None:
    if home and home.exists() and home.stat().st_uid != os.geteuid():
        owner = name_of(home.stat().st_uid)
        raise DatabaseError(f"{home} belongs to {owner}, who ran this first: run it as that user, or remove it")
