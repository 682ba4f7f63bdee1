"""A spawner: a process of a daemon that starts commands and ends them. Run as a script, with its socket's number.

It imports nothing of the package, so that it is small and starts at once. Each request comes with four descriptors:
the command's standard input, its output, its notes, and a socket. On the socket the spawner tells when the command has
begun and how it ended (`pid 1`, `exit 0`, `signal 9`, `refused WHY`), and hears within how many seconds it is to stop.
If that socket ends, or the one that requests come on, nobody is left to whom the command matters, and its whole group
is killed.

What is done for each command is kept short: its cost is that of a process that just woke up, many times what it is in a
loop.

It is a subreaper: what a command leaves behind becomes its child, so it is told when a group's last member ends.
"""

import array
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

Request = dict[str, Any]

PR_SET_CHILD_SUBREAPER = 36
# Below this, numbers are the commands' own: 0 to 2, and 3 for notes.
FIRST_OWN = 10
LARGEST = 4 * 1024 * 1024
DESCRIPTORS = 4
MOST_EVENTS = 64
DECODER = json.JSONDecoder()
# How often to look whether a group is empty whose members are not all our children.
LOOK_S = 0.1
# How long to wait for what was killed: a process that waits for a disk cannot end.
END_S = 2.0
# A Python process ignores some, and whoever started it may have it ignore others. A command must ignore none.
AS_USUAL = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
HEARD_HERE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class NoEntry(Exception):
    """The folder of a command cannot be entered; the message says why."""


class Command:
    """A command that was started, and the descriptor of the socket to the job that it runs for."""

    def __init__(self, link: int, written: Sequence[int]) -> None:
        self.link = link
        self.pid = 0
        self.written = written  # open until its end is told, so that its job wakes once for all that ends then
        self.ended = ""  # how its first process ended
        self.kill_at: float | None = None
        self.killed: float | None = None

    def tell(self, what: str) -> None:
        """Tell the job something; it may be gone."""
        tell(self.link, what)

    def let_go(self) -> None:
        """Tell the job no more."""
        for descriptor in self.written:
            os.close(descriptor)
        os.close(self.link)

    def signal(self, number: int) -> None:
        """Signal the whole group; before it has become one, its first process."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            if not self.ended:
                with suppress(OSError):
                    os.kill(self.pid, number)
        except PermissionError:
            pass  # all that is left runs as somebody else, as after setuid

    def kill(self) -> None:
        """Kill the group, and have that repeated: a process may have forked another meanwhile."""
        self.signal(signal.SIGKILL)
        now = time.monotonic()
        self.killed = self.killed or now
        self.kill_at = now + LOOK_S

    def has_group(self) -> bool:
        """Tell whether any process of its group is left. The number stays the group's own for as long as one is."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class Spawner:
    """Starts commands as requests come, until the daemon's end of the socket is closed."""

    def __init__(self, requests: socket.socket, wake: int) -> None:
        self.requests = requests
        self.wake = wake
        self.text = memoryview(mmap.mmap(-1, LARGEST))  # takes no more memory than the longest request has needed
        self.home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.by_link: dict[int, Command] = {}
        self.by_pid: dict[int, Command] = {}
        self.ending: dict[int, Command] = {}
        self.poll = select.epoll()
        self.poll.register(requests, select.EPOLLIN)
        self.poll.register(wake, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the daemon is gone; then kill what runs."""
        requests = self.requests.fileno()
        while True:
            for descriptor, _ in self.poll.poll(self.wait_s(), MOST_EVENTS):
                if descriptor == requests:
                    if not self.take_request():
                        self.end()
                        return
                elif descriptor == self.wake:
                    with suppress(BlockingIOError):
                        os.read(self.wake, 4096)
                    self.reap()
                else:
                    self.hear(self.by_link[descriptor])
            self.see_to_ending()

    def wait_s(self) -> float | None:
        """Return how long nothing has to be done unless something comes; None for any time."""
        times = [command.kill_at for command in self.by_link.values() if command.kill_at is not None]
        if self.ending:
            times.append(time.monotonic() + LOOK_S)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def take_request(self) -> bool:
        """Start the command that a request asks for; False if there are no more requests."""
        size, descriptors = received(self.requests, self.text)
        if not size:
            return False
        if len(descriptors) == DESCRIPTORS:
            request = DECODER.raw_decode(str(self.text[:size], "ascii"))[0]
            request["env"].update(request["own"])
            self.start(request, descriptors)
        else:  # there was no room for them, and the job sees its socket end
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def start(self, request: Request, descriptors: Sequence[int]) -> None:
        """Start a command, and tell its job of it."""
        standard_input, *written, link = descriptors
        command = Command(link, written)
        try:
            command.pid = self.spawned(request, descriptors)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one command, the spawner goes on
            command.tell(f"refused {reason(error, request)}")
            command.let_go()
            return
        finally:
            os.close(standard_input)
        command.tell(f"pid {command.pid}")
        self.by_link[link] = self.by_pid[command.pid] = command
        self.poll.register(link, select.EPOLLIN | select.EPOLLRDHUP)

    def spawned(self, request: Request, descriptors: Sequence[int]) -> int:
        """Return the process id of a new command.

        Spawning takes half the time of a fork. It sets neither limits nor users.
        """
        if request["limits"] or request["user"]:
            return forked(request, descriptors)
        if request["cwd"]:
            enter(request["cwd"])
        try:
            return os.posix_spawn(
                request["program"],
                request["args"],
                request["env"],
                file_actions=[(os.POSIX_SPAWN_DUP2, here, there) for here, there in placed(descriptors)],
                setsid=True,
                setsigmask=[],
                setsigdef=AS_USUAL,
            )
        finally:
            if request["cwd"]:
                os.fchdir(self.home)

    def hear(self, command: Command) -> None:
        """Stop a command: at once if its job is gone, else after the time that the job gives it."""
        try:
            text = os.read(command.link, 4096)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            command.kill()
            self.unwatch(command)
            return
        kill_at = time.monotonic() + float(text)
        if command.kill_at is None:
            command.signal(signal.SIGTERM)
            command.signal(signal.SIGCONT)
        command.kill_at = kill_at if command.kill_at is None else min(command.kill_at, kill_at)

    def unwatch(self, command: Command) -> None:
        """Hear no more of a command. Closing alone would not do: the daemon may not yet have closed its copy."""
        with suppress(FileNotFoundError):
            self.poll.unregister(command.link)

    def reap(self) -> None:
        """Take note of every process that has ended."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            command = self.by_pid.get(found.si_pid)
            if command is not None and command.kill_at is None:
                # Its process still bears the number of the group, which is therefore nobody else's.
                command.kill()
            os.waitpid(found.si_pid, 0)
            if command is not None:
                del self.by_pid[found.si_pid]
                how = "exit" if found.si_code == os.CLD_EXITED else "signal"
                command.ended = f"{how} {found.si_status}"
                self.ending[command.link] = command

    def see_to_ending(self) -> None:
        """Kill what did not stop in time, and tell how commands ended whose groups are empty."""
        now = time.monotonic()
        for command in list(self.by_link.values()):
            if command.kill_at is not None and now >= command.kill_at:
                command.kill()
        for descriptor, command in list(self.ending.items()):
            if not command.has_group() or (command.killed is not None and now >= command.killed + END_S):
                del self.ending[descriptor], self.by_link[descriptor]
                command.tell(command.ended)
                self.unwatch(command)
                command.let_go()

    def end(self) -> None:
        """Kill all groups, and wait a moment for their ends."""
        commands = list(self.by_link.values())
        for command in commands:
            command.kill()
        end = time.monotonic() + END_S
        while any(command.has_group() for command in commands) and time.monotonic() < end:
            self.reap()
            time.sleep(0.01)


def tell(link: int, what: str) -> None:
    """Write to a job's socket, which never has us wait; nobody may be there."""
    with suppress(OSError):
        os.write(link, what.encode("utf-8", "replace"))


def received(requests: socket.socket, text: memoryview) -> tuple[int, Sequence[int]]:
    """Write a request into `text`; return its size and its descriptors, which no other command inherits.

    `socket.recv_fds` heeds no flags, and takes new memory for the largest request each time.
    """
    room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    size, ancillary, _, _ = requests.recvmsg_into([text], room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return size, descriptors


def forked(request: Request, descriptors: Sequence[int]) -> int:
    """Return the process id of a command that a fork of this process becomes, with its limits and as its user."""
    pid = os.fork()
    if pid:
        return pid
    try:
        become(request, descriptors)
    except BaseException as error:  # noqa: BLE001 - this process must not go on as a second spawner
        tell(descriptors[3], f"refused {reason(error, request)}")
    finally:
        os._exit(127)


def become(request: Request, descriptors: Sequence[int]) -> None:
    """Turn this process into the command."""
    os.setsid()
    for number in AS_USUAL:
        signal.signal(number, signal.SIG_DFL)
    if request["user"]:
        user = request["user"]
        os.setgroups(user["groups"])
        os.setgid(user["gid"])
        os.setuid(user["uid"])
    if request["cwd"]:
        enter(request["cwd"])
    for here, there in placed(descriptors):
        os.dup2(here, there)
    for name, most in request["limits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.execve(request["program"], request["args"], request["env"])


def enter(folder: str) -> None:
    """Go into the folder of a command."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise NoEntry(f"it cannot run in {folder}: {(error.strerror or str(error)).lower()}") from None


def placed(descriptors: Sequence[int]) -> Sequence[tuple[int, int]]:
    """Return which descriptor a command finds under which number."""
    standard_input, output, notes, _ = descriptors
    return ((standard_input, 0), (output, 1), (output, 2), (notes, 3))


def reason(error: BaseException, request: Request) -> str:
    """Return why a command could not be started, in words."""
    if isinstance(error, NoEntry):
        return str(error)
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    if error.errno == errno.ENOEXEC:
        return "it is no program; a script needs a first line such as #!/bin/sh"
    words = (error.strerror or str(error)).lower()
    if error.errno == errno.EPERM and request["user"]:
        return f"becoming another user is {words}; the daemon must run as root for that"
    return words


def become_subreaper() -> None:
    """Have orphans among all descendants become our children."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def keep_low_numbers() -> None:
    """Keep the numbers that commands are given from being ours."""
    null = os.open("/dev/null", os.O_RDWR)
    while null < FIRST_OWN:
        os.set_inheritable(null, False)
        null = os.open("/dev/null", os.O_RDWR)
    os.close(null)


def heard_signals() -> int:
    """Outlive what a terminal or a supervisor sends to all; return the descriptor that signals write to.

    With functions, not by ignoring them: what is ignored here would be ignored by every command.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in HEARD_HERE:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def main() -> None:
    """Serve on the socket whose number is the only argument."""
    given = socket.socket(fileno=int(sys.argv[1]))
    requests = socket.socket(fileno=fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN))
    given.close()
    keep_low_numbers()
    become_subreaper()
    Spawner(requests, heard_signals()).run()


if __name__ == "__main__":
    main()
