"""Who runs the server, and what that user can reach."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ayb_jobs.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that runs the server; `user` and `group` are None where that is who we are."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def for_home(cls, home: Path | None) -> Self:
        """Return ourselves, or for root the owner of an existing `home`, or else `nobody`."""
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
        return subprocess.run(  # noqa: S603 - the wheel's programs, with arguments of our own
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
        """Make `folder` for this user alone, where it is missing."""
        if folder.exists():
            return
        make_way(folder)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self.give(folder)

    def give(self, path: Path) -> None:
        """Make this user the owner of `path`."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def make_way(path: Path) -> None:
    """Make the missing folders above `path`, open to all whatever the umask: they are new, and nothing is in them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)


def _refuse_anothers(home: Path | None) -> None:
    if home and home.exists() and home.stat().st_uid != os.geteuid():
        raise DatabaseError(f"{home} belongs to {home.owner()}, who ran this first: run it as that user, or remove it")
