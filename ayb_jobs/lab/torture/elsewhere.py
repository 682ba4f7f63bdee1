"""Jobs that run outside of their daemon: commands, requests, statements and cleanups, each with a log of its own."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ayb_jobs.config.section import has_http
from ayb_jobs.lab.checker import RunElsewhere
from ayb_jobs.lab.torture.effects import FOLDER
from ayb_jobs.storage.database import Connection

COMMAND = "torture_exec"
REQUEST = "torture_http"
STATEMENT = "torture_sql"
CLEANUP = "torture_cleanup"
TYPES = frozenset({COMMAND, REQUEST, STATEMENT, CLEANUP})
# What is bound to the key in their payload.
KEYED = frozenset({STATEMENT, CLEANUP})
# What cannot be had here is left out.
MISSING = frozenset(({COMMAND} if sys.platform != "linux" else set()) | (set() if has_http() else {REQUEST}))
LOG = "elsewhere.jsonl"
WORKS_S = 0.02
END_S = 0.05
# Longer than a daemon keeps an idle connection.
IDLE_S = 6.0

# The kernel's time since its start is the monotonic clock's.
SCRIPT = f"""
note() {{
    read at _ < /proc/uptime
    printf '{{"job": "%s", "attempt": %s, "what": "%s", "at": %s}}\\n' \\
        "$AYB_JOB_ID" "$AYB_JOB_ATTEMPT" "$1" "$at" >> "${FOLDER}/{LOG}"
}}
note start
sleep 0.05
note ok
"""
NOTE_STATEMENT = (
    "INSERT INTO _ayb_job_torture_elsewhere (job_id, attempt)"
    " SELECT id, attempts FROM _ayb_jobs WHERE idempotency_key = %(key)s"
)


def config(port: int) -> str:
    """Return the job types of the daemons' configuration; requests go to this port."""
    types = {
        COMMAND: f'exec = ["/bin/sh", "-c", {json.dumps(SCRIPT)}]\npass_env = ["{FOLDER}"]\n',
        REQUEST: f'http = "http://127.0.0.1:{port}/"\nallow_private = true\n',
        STATEMENT: f'statements = [{json.dumps(NOTE_STATEMENT)}]\npayload = {{ key = "" }}\n',
        CLEANUP: 'delete_from = "_ayb_job_torture_rubbish"\nwhere = "key = %(key)s"\npayload = { key = "" }\n',
    }
    return "".join(f"[job_types.{name}]\n{text}" for name, text in types.items() if name not in MISSING)


@contextmanager
def receiving(folder: Path) -> Iterator[int]:
    """Answer requests for the time of the block, and write down each; gives the port."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(job: dict[str, Any], what: str) -> None:
        line = {"job": job["id"], "attempt": job["attempt"], "what": what, "at": time.monotonic()}
        os.write(log, json.dumps(line).encode() + b"\n")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_S

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["job"]
            note(job, "start")
            time.sleep(WORKS_S)
            note(job, "ok")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            """Say nothing of daemons that were killed."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(END_S,), name="receiver", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        os.close(log)


STATEMENTS = """
    SELECT job_id::text, attempt, extract(epoch FROM at)::float8 FROM _ayb_job_torture_elsewhere ORDER BY at
"""


def read_statements(conn: Connection, offset_s: float) -> list[RunElsewhere]:
    """Return the runs of statements and cleanups that were committed.

    `offset_s` makes the database's clock the reader's.
    """
    return [
        RunElsewhere(job_id, attempt, at + offset_s, at + offset_s) for job_id, attempt, at in conn.execute(STATEMENTS)
    ]


def read_log(folder: Path) -> list[RunElsewhere]:
    """Return the runs of commands and requests."""
    file = folder / LOG
    begun: list[RunElsewhere] = []
    lines = file.read_text().splitlines() if file.exists() else []
    for line in map(json.loads, lines):
        if line["what"] == "start":
            begun.append(RunElsewhere(line["job"], line["attempt"], line["at"], None))
            continue
        # Of two that run at once, since the lease of one is lost, either may end first.
        mine = [n for n, run in enumerate(begun) if run[:2] == (line["job"], line["attempt"]) and run.ended is None]
        begun[mine[0]] = begun[mine[0]]._replace(ended=line["at"])
    return begun
