"""AYB's dashboard in front of our API: the nginx configuration of docs/from-ayb.md, run by a real nginx."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from ayb_jobs.config import Api, ApiToken
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.docs.reading import ROOT, blocks
from tests.eventually import eventually
from tests.factories import make_job
from tests.http.conftest import NO_AUTHORITIES, serving

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
AYBS_TOKEN = "token-that-ayb-gave-its-admin"
OURS = "token-of-ayb-jobs-0123456789-abcdefgh"
HOST = "ayb.example.com"
JOBS = "/api/admin/jobs"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")


class Ayb(BaseHTTPRequestHandler):
    """AYB with its jobs disabled: 401 without its admin's token, else 503 for jobs, and a page for all else.

    What stands before it may answer in its place: `instead`.
    """

    instead: int | None = None

    def do_GET(self) -> None:
        if self.instead is not None:
            self.send_response(self.instead)
            self.end_headers()
            return
        is_admin = self.headers["Authorization"] == f"Bearer {AYBS_TOKEN}"
        is_of_jobs = self.path.startswith(("/api/admin/jobs", "/api/admin/schedules"))
        self.send_response(
            200 if not self.path.startswith("/api/admin/") else 401 if not is_admin else 503 * is_of_jobs or 200
        )
        self.end_headers()
        self.wfile.write(b"this is AYB")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def ayb(instead: int | None = None) -> Iterator[int]:
    handler = type("Ayb", (Ayb,), {"instead": instead})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def configuration(folder: Path, ports: dict[str, int], token: str) -> str:
    """Return the document's block, with the ports of this test, in what nginx needs around it."""
    (block,) = blocks(ROOT / "docs" / "from-ayb.md", "nginx")
    text = block.text
    for said, port in ports.items():
        assert said in text
        text = text.replace(said, said.replace(said[-4:], str(port)))
    assert "TOKEN-OF-AYB-JOBS" in text
    text = text.replace("TOKEN-OF-AYB-JOBS", token).replace("listen ", "listen 127.0.0.1:")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\n{text}\n}}\n"


@contextmanager
def nginx(folder: Path, ayb_port: int, our_port: int, token: str = OURS) -> Iterator[str]:
    assert NGINX is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = {"listen 8080": port, "127.0.0.1:8090": ayb_port, "127.0.0.1:8091": our_port}
    written = folder / "nginx.conf"
    written.write_text(configuration(folder, ports, token))
    command = [NGINX, "-p", str(folder), "-c", str(written), "-e", "stderr", "-g", "daemon off; master_process off;"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: is_listening(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dashboard(
    tmp_path: Path, db: Database, token: str = OURS, *, ayb_answers: int | None = None
) -> Iterator[httpx.Client]:
    """Give a client that is the dashboard's page in the browser of AYB's admin."""
    api = Api(port=0, allowed_hosts=[HOST], tokens={"dashboard": ApiToken(token=OURS, scope="admin")})
    headers = {"Host": HOST, "Origin": f"http://{HOST}", "Authorization": f"Bearer {AYBS_TOKEN}"}
    with (
        ayb(ayb_answers) as ayb_port,
        serving(db, api=api) as server,
        nginx(tmp_path, ayb_port, server.api.port, token) as url,
        httpx.Client(base_url=url, headers=headers, timeout=20, verify=NO_AUTHORITIES) as client,
    ):
        yield client


def test_the_dashboard_reads_and_writes_jobs_and_schedules_of_ours(
    tmp_path: Path, db: Database, conn: Connection
) -> None:
    job_id = make_job(conn)
    with dashboard(tmp_path, db) as client:
        assert client.get(f"{JOBS}?state=queued").json()["items"][0]["id"] == job_id
        assert client.post(f"{JOBS}/{job_id}/cancel").json()["state"] == "canceled"
        body = {
            "name": "nightly",
            "jobType": "stale_session_cleanup",
            "cronExpr": "0 3 * * *",
            "payload": {"a": "x" * 9000},
        }
        made = client.post("/api/admin/schedules", json=body)
        assert made.status_code == 201
        assert client.delete(f"/api/admin/schedules/{made.json()['id']}").status_code == 204
        assert client.get("/").text == client.get("/api/admin/users").text == "this is AYB"
        assert client.get("/api/admin/jobsheet").text == "this is AYB"
    assert conn.execute("SELECT DISTINCT actor FROM _ayb_job_audit").fetchall() == [("dashboard",)]


def test_nobody_gets_in_by_the_proxy_whom_ayb_does_not_let_in(tmp_path: Path, db: Database, conn: Connection) -> None:
    job_id = make_job(conn)
    with dashboard(tmp_path, db) as client:
        for shown in ("", "Bearer wrong", f"Bearer {OURS}"):
            headers = {"Authorization": shown}
            assert client.get(JOBS, headers=headers).status_code == 401
            assert client.post(f"{JOBS}/{job_id}/cancel", headers=headers).status_code == 401
        assert client.get(JOBS, headers={"Host": "evil.example"}).status_code == 403
        foreign = client.post(f"{JOBS}/{job_id}/cancel", headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchall() == [("queued",)]


def test_a_wrong_token_of_ours_does_not_log_aybs_admin_out(tmp_path: Path, db: Database) -> None:
    with dashboard(tmp_path, db, token="not-the-token-of-ayb-jobs-0123456789") as client:
        answer = client.get(JOBS)
    assert answer.status_code == 502
    assert "token" in answer.json()["message"]


@pytest.mark.parametrize("answer", [503, 502, 500, 404, 302])
@pytest.mark.parametrize("shown", ["", "Bearer wrong", f"Bearer {AYBS_TOKEN}"])
def test_an_ayb_that_stops_lets_nobody_in_and_logs_nobody_out(
    tmp_path: Path, db: Database, conn: Connection, answer: int, shown: str
) -> None:
    job_id = make_job(conn)
    with dashboard(tmp_path, db, ayb_answers=answer) as client:
        for told in (client.get(JOBS, headers={"Authorization": shown}), client.post(f"{JOBS}/{job_id}/cancel")):
            assert told.status_code == 500
            assert job_id not in told.text
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchall() == [("queued",)]


def test_an_ayb_that_is_down_lets_nobody_in(tmp_path: Path, db: Database, conn: Connection) -> None:
    make_job(conn)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with nginx(tmp_path, nobody.getsockname()[1], 1) as url:
            assert httpx.get(url + JOBS, headers={"Host": HOST}, verify=NO_AUTHORITIES).status_code == 500


def test_a_503_of_ours_reaches_the_dashboard_as_it_is(tmp_path: Path, db: Database) -> None:
    with dashboard(tmp_path, db) as client:
        assert client.get(JOBS).status_code == 200
        db.close()
        answer = client.get(JOBS)
    assert answer.status_code == 503
    assert answer.json()["code"] == 503
