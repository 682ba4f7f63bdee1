"""Runs commands with broken standard streams, each in a fork of a process that has imported the program already.

Reads cases as JSON from standard input, one a line: `{"arguments": [...], "environ": {...}, "said": file, "stream":
0|1|2|null, "how": "closed"|"full"|"broken"}`. Answers with each one's exit code. What a case prints goes to `said`.
"""

import gc
import json
import os
import sys
from typing import Any

from ayb_jobs.cli.main import main
from ayb_jobs.cli.program import program
from tests.fork_server import end, load


def become(case: dict[str, Any]) -> None:
    """Set the standard streams up as the interpreter does when it starts, and run the command."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    said = os.open(case["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(nowhere, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.closerange(3, 64)
    if case["stream"] is not None:
        spoil(case["stream"], case["how"])
    sys.stdin, sys.stdout, sys.stderr = (stream(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.environ.update(case["environ"])
    sys.argv = ["ayb-jobs", *case["arguments"]]
    try:
        main()
    except SystemExit as ended:
        end(int(ended.code or 0))


def spoil(fd: int, how: str) -> None:
    """Close a stream, or replace it by a full disk or by a pipe whose other end is gone."""
    match how:
        case "closed":
            os.close(fd)
        case "full":
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, fd)
            os.close(full)
        case "broken":
            reading, writing = os.pipe()
            os.dup2(reading if fd == 0 else writing, fd)
            os.close(reading)
            os.close(writing)


def stream(fd: int, mode: str) -> Any:
    """Return what Python makes of a standard descriptor: nothing if it is closed."""
    try:
        os.fstat(fd)
    except OSError:
        return None
    return os.fdopen(fd, mode, closefd=False)


def serve() -> None:
    """Run each case in a fork, and write its exit code."""
    load(program)
    gc.freeze()  # a fork then shares what is imported with this process
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, f"{code}\n".encode())


if __name__ == "__main__":
    serve()
