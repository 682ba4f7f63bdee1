"""The process of which `tests.forked` makes the program by a fork. It has imported all that a daemon may need."""

import atexit
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NoReturn

import ayb_jobs
from ayb_jobs import failpoints
from ayb_jobs.cli.lazy import LazyGroup
from ayb_jobs.cli.main import main
from ayb_jobs.cli.program import program

LARGEST_ORDER = 200_000
HIGHEST_DESCRIPTOR = 256  # this process opens few
# What a daemon imports only if it is configured so. (OpenTelemetry reads its variables as it is imported.)
IMPORTED_LATE = (
    "ayb_jobs.handlers.requests.client",
    "ayb_jobs.handlers.requests.signing",
    "ayb_jobs.http.app",
    "ayb_jobs.http.edge.serving",
    "ayb_jobs.http.routes.graphql_schema",
    "ayb_jobs.runtime.http_client",
)
# What Python ends with if it cannot write out what it was given to print.
LOST_OUTPUT = 120


def serve(orders: socket.socket) -> None:
    """Fork as ordered, and answer with the number of each process, until there are no more orders."""
    load(program)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork then shares what is imported with this process
    while True:
        text, streams, _, _ = socket.recv_fds(orders, LARGEST_ORDER, 3)
        if not text:
            return
        orders.send(str(fork(json.loads(text), streams)).encode())
        for descriptor in streams:
            os.close(descriptor)


def load(group: LazyGroup) -> None:
    """Import all commands."""
    for lazy in group.table.values():
        command = lazy.load()
        if isinstance(command, LazyGroup):
            load(command)


def fork(order: Mapping[str, Any], streams: Sequence[int]) -> int:
    """Fork a process whose parent has ended, so that it is the child of whoever adopts it; return its number."""
    told, tell = os.pipe()
    awaited, ready = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            os.read(awaited, 1)
            become(order, streams)
        os.write(tell, str(pid).encode())
        os._exit(0)
    os.waitpid(between, 0)
    pid = int(os.read(told, 64))
    for descriptor in (told, tell, awaited, ready):  # by which it goes on
        os.close(descriptor)
    return pid


def become(order: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Set the process up as the interpreter does when it starts, and run the program."""
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(3, HIGHEST_DESCRIPTOR)
        os.setsid() if order["session"] else os.setpgid(0, order["group"])
        os.chdir(order["folder"])
        if order["umask"] >= 0:
            os.umask(order["umask"])
        ignore(set(order["ignored"]))
        os.environ.clear()
        os.environ.update(order["environ"])
        time.tzset()
        failpoints.ARMED = os.environ.get("AYB_JOBS_FAILPOINT", "")
        own = enumerate((sys.stdin, sys.stdout, sys.stderr))
        sys.stdin, sys.stdout, sys.stderr = (standard(number, stream) for number, stream in own)
        set_up_arguments(order["command"])
        main()
    except SystemExit as ended:
        end(ended.code if isinstance(ended.code, int) else 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end(1)


def ignore(numbers: AbstractSet[int]) -> None:
    """Ignore what the process would have inherited so, beside what Python ignores."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}:
        if number in numbers:
            signal.signal(number, signal.SIG_IGN)
        elif number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)


def set_up_arguments(command: Sequence[str]) -> None:
    """Set up what the program sees of the command line: `python -m ayb_jobs …` or `…/bin/ayb-jobs …`."""
    if command[1:2] == ["-m"]:
        sys.argv = [str(Path(ayb_jobs.__file__).with_name("__main__.py")), *command[3:]]
        first = str(Path.cwd())
    else:
        sys.argv = list(command)
        first = str(Path(command[0]).parent)
    path = os.environ.get("PYTHONPATH")
    sys.path[:1] = [first, *(path.split(":") if path else [])]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))


def standard(number: int, own: Any) -> Any:
    """Return what Python makes of a standard descriptor, as of this process's `own`: nothing if it is closed."""
    try:
        raw = os.fdopen(number, own.mode + "b", 0 if own.write_through else -1, closefd=False)
        lines = not own.write_through and (number == 2 or os.isatty(number))
    except OSError:
        return None
    return io.TextIOWrapper(raw, own.encoding, own.errors, line_buffering=lines, write_through=own.write_through)


def end(code: int) -> NoReturn:
    """End as Python does, but leave in place what is imported: to take it apart costs ten times what a command does."""
    threading._shutdown()  # type: ignore[attr-defined] # what Python itself calls first
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            code = LOST_OUTPUT
    os._exit(code & 0xFF)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        serve(ours)
