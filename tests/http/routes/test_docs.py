"""docs/api.md says what is: its curl lines are run, its tables held against the code."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ayb_jobs.metrics import CATALOGUE, Kind
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, Server

TEXT = Path(__file__).parents[3].joinpath("docs", "api.md").read_text(encoding="utf-8")
LINES = re.findall(r"^curl .*$", TEXT, re.MULTILINE)
STREAM_ENDED = 28  # curl's --max-time


def test_every_curl_line_does_what_it_says(server: Server, conn: Connection) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed: apt-get install curl")
    make_job(conn, "failed", type="send_mail")
    failed = make_job(conn, "failed", type="send_mail")
    queued = make_job(conn)
    schedule = make_schedule(conn)
    conn.execute("INSERT INTO _ayb_job_batches (id) VALUES (gen_random_uuid())")
    beat(conn, DaemonRecord(id="d", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=[]))
    given = {"URL": server.url, "TOKEN": ADMIN}
    variables = given | told_values(given)
    assert set(re.findall(r"\$(\w+)", "\n".join(LINES))) == set(variables)
    assert (variables["FAILED_JOB"], variables["QUEUED_JOB"], variables["SCHEDULE"]) == (failed, queued, schedule)
    for line in LINES:
        done = subprocess.run(["bash", "-c", line], env={**os.environ, **variables}, capture_output=True, check=False)
        assert done.returncode == (STREAM_ENDED if "/stream" in line else 0), (line, done.stdout, done.stderr)


def told_values(given: dict[str, str]) -> dict[str, str]:
    """Run the lines that say where the values come from, and return the values by their names."""
    lines = re.findall(r"(?m)^(?:first\(\)|[A-Z_]+=\$\().*$", TEXT)
    names = re.findall(r"(?m)^([A-Z_]+)=", "\n".join(lines))
    shown = [f'echo "{name}=${name}"' for name in names]
    command = ["bash", "-ec", "\n".join([*lines, *shown])]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_every_call_has_a_curl_line(server: Server) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    told = {(method(line), shape(line)) for line in LINES}
    assert {(name.upper(), path.replace("{id}", "*")) for path, calls in paths.items() for name in calls} == told


def test_whatever_the_document_refers_to_stands_in_it(server: Server) -> None:
    with server.client() as client:
        document = client.get("/openapi.json").json()
    refers = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)))
    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert "#/components/schemas/CallbackBody" in refers
    assert refers <= there
    assert "$defs" not in json.dumps(document)


def method(line: str) -> str:
    found = re.search(r"-X (\w+)", line)
    return found[1] if found else "GET"


def shape(line: str) -> str:
    """Return a line's path, with * for what differs from call to call."""
    found = re.search(r'"\$URL([^"?]*)', line)
    assert found is not None
    return re.sub(r"/(\$\w+|nightly|api/tenant-7|api$)", "/*", found[1])


def test_every_metric_is_in_the_table() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \(\w+\) \| .* \| (.*) \|$", TEXT, re.MULTILINE))
    names = {f"{name}_total" if one.kind is Kind.COUNTER else name: one.meaning for name, one in CATALOGUE.items()}
    assert told == names
