"""The server: made, started, joined, stopped, cleared away."""

import fcntl
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from ayb_jobs.embedded.access import access_settings
from ayb_jobs.embedded.account import Account
from ayb_jobs.embedded.causes import cause, pid_file_fault, process_number
from ayb_jobs.embedded.locks import is_free, lock, locked
from ayb_jobs.embedded.places import ROOTS_PLACE, find_programs, reachable, socket_folder, temporary_home
from ayb_jobs.errors import DatabaseError

DEFAULT_HOME = Path(".ayb-jobs/postgres")
PORT = 5432  # a part of the socket's name; nothing listens on TCP unless asked for
START_TIMEOUT_S = 300  # recovery after a crash may take long, and is not to be given up
GOING_DOWN_S = 10

# Lines of postmaster.pid, from 0: pid, data folder, start, port, socket folder, TCP address, shared memory, status.
READY_LINE = 7

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
        account: Account,
        bin_dir: Path,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.log_file = home / "server.log"
        self.socket_folder = socket_folder(home)
        self.port = tcp_port or PORT
        self._account = account
        self.bin_dir = bin_dir
        self._settings = {"listen_addresses": "127.0.0.1" if tcp_port else "", **(settings or {})}

    @classmethod
    @contextmanager
    def kept(cls, home: Path = DEFAULT_HOME, *, bin_dir: Path | None = None) -> Iterator[Self]:
        """Run the server whose data is kept in `home`, or join it if it runs already.

        The last of its users to leave stops it. A user that is killed counts as having left, so that a server that
        was left running is joined by the next. For root, a `home` that lies in a private folder is replaced by a
        folder under /var/lib/ayb-jobs; the attribute `home` tells. Into root's server root alone may log in.
        """
        with _clear_errors(home):
            account = Account.for_home(home)
            programs = find_programs(account, bin_dir)
            closed = access_settings(ROOTS_PLACE, account.user)
            server = cls(reachable(home.absolute(), account), account=account, bin_dir=programs, settings=closed)
            account.make_folder(server.home)
            with locked(server.home / "lock"):
                server._make_data_dir()
                server.start()
                users = lock(server.home / "users", fcntl.LOCK_SH)
        try:
            yield server
        finally:
            with locked(server.home / "lock"):
                users.close()
                if is_free(server.home / "users"):
                    server.stop()

    @classmethod
    def address(cls, home: Path = DEFAULT_HOME) -> str | None:
        """Return the address of the server whose data is kept in `home`, or None if it is down. Starts nothing."""
        with _clear_errors(home):
            account = Account.for_home(home)
            server = cls(reachable(home.absolute(), account), account=account, bin_dir=Path())
            return server.url() if server.is_running() else None

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
            programs = find_programs(account, bin_dir)
            safe_to_lose = UNSAFE_BUT_FAST | dict(settings or {})
            home = temporary_home(account)
            server = cls(home, account=account, bin_dir=programs, tcp_port=tcp_port, settings=safe_to_lose)
        with server._reaped():
            with _clear_errors(server.home):
                server._make_data_dir("--no-sync")
                server.start()
            yield server

    def url(self, dbname: str = "postgres", *, tcp: bool = False) -> str:
        """Return the address of a database, over the Unix socket or, if asked for, over TCP."""
        host = "127.0.0.1" if tcp else quote(str(self.socket_folder), safe="")
        return f"postgresql://postgres@/{quote(dbname, safe='')}?host={host}&port={self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is down."""
        return process_number(self._pid_file() or []) if self.is_running() else None

    def is_running(self) -> bool:
        """Tell whether the server listens: a pid file alone may be a crash's remainder."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_folder / f".s.PGSQL.{self.port}"))
            except OSError:
                return False
        return True

    def start(self) -> None:
        """Start the server if it is down, and return once it takes connections."""
        if self.is_running():
            self._await_ready()
            return
        self._clear_after_crash()
        if self.socket_folder != self.home:
            self._account.make_private_folder(self.socket_folder)
        settings = {
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        options = ["-p", str(self.port), *(part for name in settings for part in ("-c", f"{name}={settings[name]}"))]
        self._pg_ctl("start", "-l", self.log_file.name, "-o", shlex.join(options))

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; one that is down is left so. `immediate` is a crash, from which the next start recovers."""
        if not self.is_running():
            return
        self._pg_ctl("stop", "-m", mode)
        if self.socket_folder != self.home:
            with suppress(OSError):  # a crash leaves the socket in it, which the next start replaces
                self.socket_folder.rmdir()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server; every connection is cut (`immediate`: as in a crash)."""
        self.stop(mode)
        self.start()

    def _make_data_dir(self, *options: str) -> None:
        if self.data_dir.exists():
            return
        unfinished = self.home / "data.new"  # an interrupted initdb must not pass for a database
        self._account.remove(unfinished)
        settled = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        made = self._account.run([self.bin_dir / "initdb", *settled, *options, unfinished.name], cwd=self.home)
        if made.returncode:
            raise DatabaseError(f"initdb failed in {self.home}: {cause(made.stderr or made.stdout, self.home)}")
        unfinished.rename(self.data_dir)

    @contextmanager
    def _reaped(self) -> Iterator[None]:
        arguments = ["sh", str(self.bin_dir / "pg_ctl"), str(self.home)]
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
            with suppress(OSError):  # the folder itself may be only ours to remove
                self.home.rmdir()

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        # Paths are relative to `home`, since pg_ctl hands them to a shell.
        command = [str(self.bin_dir / "pg_ctl"), action, "-D", self.data_dir.name, "-w", "-t", str(START_TIMEOUT_S)]
        said = self._account.run([*command, *arguments], cwd=self.home)
        if said.returncode:
            log = self._account.read(self.log_file)
            words = cause(log or said.stderr, self.home)
            raise DatabaseError(f"the embedded PostgreSQL in {self.home} did not {action}: {words}")

    def _pid_file(self) -> list[str] | None:
        """Return the lines of `postmaster.pid`, or None if there is none."""
        text = self._account.read(self.data_dir / "postmaster.pid")
        return None if text is None else text.splitlines()

    def _await_ready(self) -> None:
        """Wait for a server whose starter was killed before it was ready."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while (self._pid_file() or [])[READY_LINE:] != ["ready   "]:
            if time.monotonic() > give_up:
                raise DatabaseError(f"the embedded PostgreSQL in {self.home} is not ready after {START_TIMEOUT_S} s")
            time.sleep(0.05)

    def _clear_after_crash(self) -> None:
        """Remove the pid files of a crashed server if their number is taken: PostgreSQL would never start again.

        The number may belong to another program by now (in containers numbers are low and soon used again), or to
        what is left of the server while nobody asked after its end. A server that is still going down is waited for.
        """
        pid_file = self.data_dir / "postmaster.pid"
        lines = self._pid_file()
        if lines is None:
            return
        if fault := pid_file_fault(pid_file, lines):
            raise DatabaseError(f"the embedded PostgreSQL in {self.home} cannot start: {fault}")
        process = Path("/proc") / str(process_number(lines))
        give_up = time.monotonic() + GOING_DOWN_S
        while _is_running_postgres(process):
            if time.monotonic() > give_up:
                return  # PostgreSQL will say what is wrong
            time.sleep(0.05)
        if process.exists():
            self._account.remove(pid_file, self.socket_folder / f".s.PGSQL.{self.port}.lock")


@contextmanager
def _clear_errors(home: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseError(f"the embedded PostgreSQL cannot use {home}: {error}") from error


def _is_running_postgres(process: Path) -> bool:
    """Tell whether a folder of /proc is that of a running PostgreSQL, not of one that ended (state Z)."""
    try:
        name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return name == "postgres" and rest.split()[0] != "Z"
