"""The API of a real daemon: where it dares to listen, and that it never tells a secret."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from ayb_jobs.config.section import is_secret
from ayb_jobs.config.settings import NAMED_SECTIONS, SECTIONS
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job

CONFIG_ERROR = 78
TRY_LATER = 75  # which the unit starts again
LONG = "a-token-of-more-than-thirty-two-characters"
SHORT = "too-short"

# Address, token and enabled; and whether the daemon starts.
MATRIX = [
    (host, token, enabled, host in {"127.0.0.1", "::1", "localhost"} or token == LONG)
    for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "192.0.2.1")
    for token in ("", SHORT, LONG)
    for enabled in ("true", "false")
    if not (host == "192.0.2.1" and token == LONG)  # an address of nobody's, refused for that reason instead
]


@pytest.mark.parametrize(("host", "token", "enabled", "starts"), MATRIX)
def test_beyond_loopback_only_a_long_token_will_do(host: str, token: str, enabled: str, starts: bool) -> None:
    settings = {"api_host": host, "api_admin_token": token, "enabled": enabled}
    done = Cli({f"AYB_JOBS_{name.upper()}": value for name, value in settings.items()})("check-config")
    assert done.code == (0 if starts else CONFIG_ERROR), done.err
    if not starts:
        assert "openssl rand -hex 32" in done.err
    assert not token or token not in done.out + done.err


def test_the_daemon_itself_refuses_to_start_open_to_the_network(tmp_path: Path, database_url: str) -> None:
    with daemon(tmp_path, database_url, api_enabled="true", api_host="0.0.0.0") as process:
        assert process.wait() == CONFIG_ERROR
    assert "openssl rand -hex 32" in process.log_file.read_text()


def test_a_port_in_use_is_told_in_one_line_and_passes(tmp_path: Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with daemon(tmp_path, database_url, api_enabled="true", api_port=port) as process:
            assert process.wait() == TRY_LATER
    log = process.log_file.read_text()
    assert f"api.port: {port}" in log
    assert "Traceback" not in log


def test_a_disabled_daemon_answers_503_and_is_alive(tmp_path: Path, database_url: str) -> None:
    settings = {"enabled": "false", "api_enabled": "true", "api_port": "0"}
    with daemon(tmp_path, database_url, **settings) as process:
        started = process.await_event("api.started")
        assert started["authentication"] == "none"
        url = started["url"]
        assert httpx.get(f"{url}/api/admin/jobs", timeout=30).status_code == 503
        assert httpx.get(f"{url}/livez", timeout=30).status_code == 200


def test_no_secret_is_ever_told(tmp_path: Path, database_url: str, conn: Connection) -> None:
    canaries = {name: f"canary-{name}-0123456789abcdef-{name}" for name in ("admin", "reader", "hook", "ping", "base")}
    canaries |= {name: f"whsec_canary{name}0123456789abcdef01234567" for name in ("sign", "before")}
    password, direct = "canary-password-0123456789", "canary-direct-9876543210"
    settings = tmp_path / "settings.toml"
    settings.write_text(configuration(canaries))
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}password={quote(password)}"
    direct_url = f"{database_url}{separator}password={quote(direct)}"
    environ = {"database_direct_url": direct_url} | {
        "api_enabled": "true",
        "api_port": "0",
        "config": str(settings),
        "log_level": "debug",
    }
    with daemon(tmp_path, url, **environ) as process:
        started = process.await_event("api.started")
        assert started["authentication"] == "token"
        address = started["url"]
        make_job(conn, type="quick")
        process.await_event("alerts.undelivered")  # the ping was tried
        told = everything_told(address, canaries["admin"])
        conn.execute("ALTER TABLE _ayb_jobs RENAME TO away")
        process.await_event("loop.failed")
        told += everything_told(address, canaries["admin"])
    told += process.log_file.read_text()
    assert '"name": "canary"' in told
    assert [name for name, canary in canaries.items() if canary in told] == []
    assert password not in told
    assert direct not in told


def test_every_secret_setting_bears_a_canary() -> None:
    models = {**SECTIONS, **NAMED_SECTIONS}
    secrets = {f"{name}.{key}" for name, model in models.items() for key in model.model_fields if is_secret(model, key)}
    assert secrets == {
        "database.url", "database.direct_url", "api.admin_token", "api.tokens.token", "alerts.webhooks",
        "alerts.webhook_secret", "alerts.previous_webhook_secret", "alerts.ping_url", "schedules.ping_url",
    }  # fmt: skip


def configuration(canaries: Mapping[str, str]) -> str:
    return f"""
        [api]
        admin_token = "{canaries["admin"]}"
        [api.tokens.reader]
        token = "{canaries["reader"]}"
        [alerts]
        webhooks = ["http://127.0.0.1:1/{canaries["hook"]}"]
        webhook_secret = "{canaries["sign"]}"
        previous_webhook_secret = "{canaries["before"]}"
        ping_url = "http://127.0.0.1:1/{canaries["base"]}"
        [schedules.canary]
        job_type = "quick"
        cron = "* * * * * *"
        ping_url = "http://127.0.0.1:1/{canaries["ping"]}"
        [schedules.another]
        job_type = "quick"
        cron = "* * * * * *"
    """


def everything_told(address: str, token: str) -> str:
    """Return every answer of the API, good and bad, headers included."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
        eventually(lambda: client.get("/livez").status_code == 200)
        document = client.get("/openapi.json").json()
        paths = [path for path in document["paths"] if path != "/api/admin/jobs/stream"]
        answers = [
            client.request(method, path.replace("{id}", name), json={"query": "{ jobLogs { errorMessage } }"})
            for path in paths
            for name in ("canary", "00000000-0000-4000-8000-000000000000")
            for method in document["paths"][path]
            if method != "delete"
        ]
        wrong = client.get("/api/admin/jobs", headers={"Authorization": f"Bearer {token}x"})
    return json.dumps(document) + "".join(f"{answer.headers}{answer.text}" for answer in [*answers, wrong])


def test_the_commands_token_alone_protects_the_daemon(tmp_path: Path, database_url: str) -> None:
    with daemon(tmp_path, database_url, api_enabled="true", api_port=0, admin_token=LONG) as process:
        jobs = f"{process.await_event('api.started')['url']}/api/admin/jobs"
        assert [
            httpx.get(jobs, headers=headers).status_code
            for headers in ({}, {"Authorization": f"Bearer {SHORT}"}, {"Authorization": f"Bearer {LONG}"})
        ] == [401, 401, 200]
    assert LONG not in process.log_file.read_text()
