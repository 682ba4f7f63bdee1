import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import tomli
from click.testing import CliRunner

from ayb_jobs.cli.program import program
from ayb_jobs.config import Config, ScheduleSettings, ScheduleTable, load_config
from ayb_jobs.config.display import as_toml
from ayb_jobs.config.gathering import environment_names
from ayb_jobs.config.reference import example, markdown
from ayb_jobs.config.settings import NAMED_SECTIONS, SECTIONS
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.model.schedules.schedule import NewSchedule
from tests.cli.conftest import Cli, Said

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
LISTS_OF_URLS = ("webhooks", "allowed_origins")
SIGNING = "whsec_c2lnbmluZ3NpZ25pbmdzaWduaW5nc2lnbg"


def load(text: str, tmp_path: Path, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(text, "utf-8")
    return load_config(file, environ or {}, {key.replace("__", "."): value for key, value in overrides.items()}, KINDS)


def problems(text: str, tmp_path: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, tmp_path, environ)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def only_problem(text: str, tmp_path: Path, environ: Mapping[str, str] | None = None) -> str:
    found = problems(text, tmp_path, environ)
    assert len(found) == 1, found
    return found[0]


# Where values come from


def test_the_defaults_are_those_of_the_origin(tmp_path: Path) -> None:
    jobs = load("", tmp_path).jobs
    assert (jobs.enabled, jobs.worker_concurrency, jobs.poll_interval_ms, jobs.lease_duration_s) == (
        False,
        4,
        1000,
        300,
    )
    assert (jobs.max_retries_default, jobs.scheduler_enabled, jobs.scheduler_tick_s) == (3, True, 15)


def test_flags_go_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "[jobs]\nworker_concurrency = 5\nlease_duration_s = 50\npoll_interval_ms = 500"
    environ = {"AYB_JOBS_WORKER_CONCURRENCY": "6", "AYB_JOBS_LEASE_DURATION_S": "60"}
    config = load(text, tmp_path, environ, jobs__worker_concurrency=7, jobs__max_crashes=None)
    assert config.jobs.worker_concurrency == 7
    assert config.jobs.lease_duration_s == 60
    assert config.jobs.poll_interval_ms == 500
    assert config.jobs.max_crashes == 3


def test_each_variable_of_the_origin_has_its_name() -> None:
    names = environment_names()
    for key in SECTIONS["jobs"].model_fields:
        assert names[f"AYB_JOBS_{key.upper()}"] == ("jobs", key)


def test_no_two_settings_share_a_variable() -> None:
    settings = sum(len(model.model_fields) for model in SECTIONS.values()) - len(["api.tokens"])
    assert len(environment_names()) == settings


@pytest.mark.parametrize("name", environment_names())
def test_every_setting_can_be_set_in_the_environment(name: str, tmp_path: Path) -> None:
    section, key = environment_names()[name]
    value = getattr(Config(), section).model_dump()[key]
    if key.endswith("_file"):
        secret = tmp_path / "secret"
        secret.write_text(f"{SIGNING if 'webhook' in key else 'a secret'}\n")
        text = str(secret)
    elif isinstance(value, list):
        text = "ayb" if key == "packs" else "https://a.example, https://b.example" if key in LISTS_OF_URLS else "a"
    else:
        special = {
            "level": "debug",
            "format": "json",
            "color": "never",
            "environment_color": "teal",
            "host": "::1",
            "ping_url": "http://p/",
        }
        special |= {"webhook_secret": SIGNING, "previous_webhook_secret": SIGNING}
        texts = {bool: str(not value).lower(), int: "17", float: "7.5", str: special.get(key, "text")}
        text = texts[type(value)]
    environ = {"AYB_JOBS_DATABASE_URL": "postgresql://h/db"} if key.startswith("direct_url") else {}
    config = load_config(ROOT / "config.example.toml", environ | {name: text}, {}, KINDS)
    assert config.origins[f"{section}.{key}"].name == name
    assert str(getattr(config, section).model_dump()[key]) != str(value) or key == "packs"


def test_lists_in_the_environment_are_written_with_commas(tmp_path: Path) -> None:
    assert load("", tmp_path, {"AYB_JOBS_QUEUES": "mail, reports,"}).jobs.queues == ["mail", "reports"]


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    config = load(
        '[database]\nurl = "postgresql://h/db"', tmp_path, {"AYB_JOBS_DATABASE_URL": "", "AYB_JOBS_ENABLED": ""}
    )
    assert config.database.url == "postgresql://h/db"
    assert config.jobs.enabled is False


def test_an_empty_variable_of_the_packs_asks_for_none(tmp_path: Path) -> None:
    assert load("", tmp_path, {"AYB_JOBS_HANDLERS_PACKS": ""}).handlers.packs == []
    assert load('[handlers]\npacks = ["barycenter"]', tmp_path, {"AYB_JOBS_HANDLERS_PACKS": ""}).handlers.packs == []


def test_the_file_is_found_by_flag_then_variable_then_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, {}, {}).jobs.worker_concurrency == 4
    for name, number in (("ayb-jobs.toml", 1), ("named.toml", 2), ("asked.toml", 3)):
        (tmp_path / name).write_text(f"[jobs]\nworker_concurrency = {number}")
    assert load_config(None, {}, {}).jobs.worker_concurrency == 1
    environ = {"AYB_JOBS_CONFIG": "named.toml"}
    assert load_config(None, environ, {}).jobs.worker_concurrency == 2
    assert load_config(Path("asked.toml"), environ, {}).jobs.worker_concurrency == 3


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml cannot be read: no such file or directory"):
        load_config(None, {"AYB_JOBS_CONFIG": str(tmp_path / "gone.toml")}, {})


# Variables that are not settings


def test_an_unknown_variable_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    problem = only_problem("", tmp_path, {"AYB_JOBS_WORKER_CONCURENCY": "3"})
    assert problem.startswith("AYB_JOBS_WORKER_CONCURENCY is not a variable")
    assert "did you mean AYB_JOBS_WORKER_CONCURRENCY?" in problem


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AYB_JOBS_WORKERS", "AYB_JOBS_WORKER_CONCURRENCY"),
        ("AYB_JOBS_QUEUE", "AYB_JOBS_QUEUES"),
        ("AYB_JOBS_DATABASE", "AYB_JOBS_DATABASE_URL"),
        ("AYB_JOBS_LEASE_DURATION", "AYB_JOBS_LEASE_DURATION_S"),
    ],
)
def test_a_variable_that_begins_as_one_alone_does_is_that_one(tmp_path: Path, name: str, meant: str) -> None:
    assert f"did you mean {meant}?" in only_problem("", tmp_path, {name: "3"})


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    load(
        "",
        tmp_path,
        {
            "AYB_JOBS_URL": "http://far",
            "AYB_JOBS_ADMIN_TOKEN": "x",
            "AYB_JOBS_TEST_POSTGRES": "17",
            "AYB_JOBS_FAILPOINT": "lease",
            "AYB_JOBS_FAILPOINTS_DIR": "x",
            "PATH": "/bin",
        },
    )


def test_variables_that_kubernetes_sets_for_services_are_left_alone(tmp_path: Path) -> None:
    environ = {
        "AYB_JOBS_SERVICE_HOST": "10.0.0.1",
        "AYB_JOBS_SERVICE_PORT": "8091",
        "AYB_JOBS_SERVICE_PORT_HTTP": "8091",
        "AYB_JOBS_PORT": "tcp://10.0.0.1:8091",
        "AYB_JOBS_PORT_8091_TCP": "tcp://10.0.0.1:8091",
        "AYB_JOBS_PORT_8091_TCP_ADDR": "10.0.0.1",
        "AYB_JOBS_API_PORT": "tcp://10.0.0.1:8091",
    }
    assert load("", tmp_path, environ).api.port == 8091


# Faults


def test_all_faults_are_reported_at_once_with_their_places(tmp_path: Path) -> None:
    text = """
[jobs]
enabled = "yes"
worker_concurency = 4
queues = [
  "a",
  5,
]

[api]
port = 99999

[retension]
completed_h = 1

[job_types.prune]
delete_from = "x"

[schedules.nightly]
cron = "61 * * * *"
"""
    assert problems(text, tmp_path, {"AYB_JOBS_POLL_INTERVAL_MS": "soon"}) == [
        'jobs.enabled is "yes"; it should be true or false (ayb-jobs.toml, line 3)',
        'jobs.poll_interval_ms is "soon"; it should be a whole number from 10 to 3600000 (environment AYB_JOBS_POLL_INTERVAL_MS)',
        'jobs.queues is ["a", 5]; it should be a list of texts, not empty (ayb-jobs.toml, line 5)',
        "jobs.worker_concurency is not a setting; did you mean worker_concurrency? (ayb-jobs.toml, line 4)",
        "api.port is 99999; it should be a whole number from 0 to 65535 (ayb-jobs.toml, line 11)",
        "job_types.prune.where is missing; say which rows of `delete_from` go, or `true` for all (ayb-jobs.toml, line 16)",
        "schedules.nightly.job_type is missing; it should be text of 1 to 100 characters (ayb-jobs.toml, line 19)",
        "retension is not a section; did you mean retention? (ayb-jobs.toml, line 13)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[jobs]\nworker_concurrency = "4"',
            'jobs.worker_concurrency is "4"; it should be a whole number from 1 to 1000',
        ),
        ("[jobs]\nworker_concurrency = 4.5", "jobs.worker_concurrency is 4.5; it should be a whole number"),
        ("[jobs]\nworker_concurrency = true", "jobs.worker_concurrency is true; it should be a whole number"),
        ("[jobs]\nworker_concurrency = 0", "jobs.worker_concurrency is 0; it should be a whole number from 1"),
        ("[jobs]\nenabled = 1", "jobs.enabled is 1; it should be true or false"),
        ("[jobs]\nshutdown_timeout_s = inf", "jobs.shutdown_timeout_s is Infinity; it should be a number from 0"),
        ("[jobs]\nqueues = []", "jobs.queues is []; it should be a list of texts, not empty"),
        ('[jobs]\nqueues = [" "]', "jobs.queues has a name that no queue can have"),
        ("jobs = 3", "jobs is 3; it should be a table [jobs]"),
        ("[[jobs]]\nenabled = true", 'jobs is [{"enabled": true}]; it should be a table [jobs]'),
        ("schedules = 3", "schedules is 3; it should hold tables such as [schedules.NAME]"),
        ("[schedules]\nnightly = 3", "schedules.nightly is 3; it should be a table [schedules.nightly]"),
        ("[api.tokens]\nops = 3", "api.tokens.ops is 3; it should be a table [api.tokens.ops]"),
        ("[api]\ntokens = 3", "api.tokens is 3; it should be a table"),
        ('[log]\nlevel = "loud"', 'log.level is "loud"; it should be one of debug, info, warning, error'),
        ("[database]\nurl = 5", "database.url has a value of another kind; it should be text"),
        ("[retention]\ncompleted_h = -2", "retention.completed_h is -2; it should be a whole number from -1"),
        ('[handlers]\npacks = ["bary"]', 'handlers.packs is ["bary"]; it should be a list of ayb, barycenter'),
        (
            '[handlers]\nmodules = ["jobs/mail.py"]',
            "handlers.modules names 'jobs/mail.py'; it should be a dotted module name",
        ),
        *(
            (
                f'[job_types.a]\nexec = ["a"]\n{limit} = 1{"0" * 22}',
                f"job_types.a.{limit} is 1{'0' * 22}; it should be a whole number from",
            )
            for limit in ("max_cpu_s", "max_open_files", "max_processes")
        ),
        (
            f'[api.tokens.{"n" * 101}]\ntoken = "t"',
            f"api.tokens.{'n' * 101} has a name of 101 characters; at most 100 are recorded",
        ),
        ('[job_types.a]\nsql = "DELETE FROM a"', "job_types.a.sql is not a setting; did you mean statements?"),
        (
            '[job_types.a]\nexec = ["a"]\ncleanup = "b"',
            "job_types.a.cleanup is not a setting; did you mean delete_from?",
        ),
        ('[api]\nallowed_hosts = ["*"]', "api.allowed_hosts holds '*'; it should be a name such as ops.example.com"),
        (
            '[api]\nallowed_hosts = ["https://a.example"]',
            "api.allowed_hosts holds 'https://a.example'; it should be a name",
        ),
        ('[api]\nallowed_hosts = ["a.example:8091"]', "api.allowed_hosts holds 'a.example:8091'; it should be a name"),
        ('[api]\nallowed_origins = ["null"]', "api.allowed_origins holds 'null'; it should be a scheme and a host"),
        ('[api]\nallowed_origins = ["*"]', "api.allowed_origins holds '*'; it should be a scheme and a host"),
        (
            '[api]\nallowed_origins = ["https://a.example/jobs"]',
            "api.allowed_origins holds 'https://a.example/jobs'; it",
        ),
        ('[alerts]\nwebhooks = ["http://a:99999/"]', "alerts.webhooks holds what is not an http:// or https:// URL"),
        (
            '[alerts]\nwebhooks = ["http://127.1/"]',
            "alerts.webhooks holds what has the host 127.1, which is no address",
        ),
        ('[alerts]\nwebhooks = ["hooks.example"]', "alerts.webhooks holds what is not an http:// or https:// URL"),
        ('[api.tokens.ops]\nscope = "read"', "api.tokens.ops.token is missing"),
        ('[database]\ndirect_url = "host=x"', "database.direct_url is set although `database.url` is empty"),
        (
            '[database]\nurl = "host=x"\ndata_dir = "/x"',
            "database.data_dir is set although `database.url` is",
        ),
        (
            "[job_types.x]\nstatements = ['SELECT 1']\ndelete_from = 'a'\nwhere = 'true'",
            "job_types.x.statements and `delete_from` are both set",
        ),
        ("[job_types.x]\nstatements = ['SELECT 1']\nwhere = 'true'", "job_types.x.statements and `where` are both set"),
        ("[job_types.x]\nwhere = 'true'", "job_types.x.where is set without `delete_from`"),
        ("[job_types.x]\nbatch_size = 7", "job_types.x does nothing; give `delete_from` and `where`"),
        ("[job_types.x]\ntransaction = false", "job_types.x does nothing; give `statements`"),
        (
            "[job_types.x]\nstetements = ['SELECT 1']",
            "job_types.x.stetements is not a setting; did you mean statements?",
        ),
        (
            "[job_types.x]\nstatements = ['SELECT 1']\npayload_min = { days = 'a' }",
            'job_types.x.payload_min is {"days": "a"}; it should be a table of numbers',
        ),
        (
            "[job_types.x]\nstatements = ['SELECT 1']\npayload_min = { days = 2 }\npayload_max = { days = 1 }",
            "job_types.x.payload_min.days is greater than `payload_max.days`",
        ),
        (
            "[job_types.x]\nstatements = ['SELECT 1']\npayload_min = { days = 1 }\npayload = { days = 0 }",
            "job_types.x.payload.days is 0; it should be a number of at least 1",
        ),
        ("[job_types.x]\nstatements = ['SELECT 1']\npayload = { t = nan }", "job_types.x.payload cannot be used"),
        (
            "[job_types.x]\nstatements = ['SELECT 1']\ntimeout_s = 0",
            "job_types.x.timeout_s is 0; it should be a number greater",
        ),
        (f"[job_types.{'x' * 101}]\nstatements = ['SELECT 1']", "cannot be used: the name has 101 characters"),
        (
            "[job_types.x]\n[[job_types.x.deletes]]\nwhere = 'true'",
            "job_types.x.deletes.0.delete_from is missing; it should be text, not empty",
        ),
        ("[schedules.x]\njob_type = 'a'\ncron = '61 * * * *'", "schedules.x.cron cannot be used"),
        ("[schedules.x]\njob_type = 'a'\ncron = '0 0 30 2 *'", "schedules.x.cron cannot be used"),
        ("[schedules.x]\njob_type = 'a'\ncron = '@daily'\ntimezone = 'Mars/X'", "schedules.x.timezone cannot be used"),
        ("[schedules.x]\njob_type = 'a'\ncron = '@daily'\npayload = { d = inf }", "schedules.x.payload cannot"),
        (
            "[schedules.x]\njob_type = 'a'\ncron = '@daily'\npriority = 5",
            "schedules.x.priority is 5; it should be a whole number",
        ),
    ],
)
def test_a_wrong_value_is_one_clear_line(text: str, expected: str, tmp_path: Path) -> None:
    problem = only_problem(text, tmp_path)
    assert expected in problem
    assert "ayb-jobs.toml" in problem


def test_a_schedule_with_a_wrong_zone_and_a_wrong_expression_names_both(tmp_path: Path) -> None:
    text = "[schedules.x]\njob_type = 'a'\ncron = '61 * * * *'\ntimezone = 'Mars/X'"
    zone, cron = problems(text, tmp_path)
    assert zone.startswith("schedules.x.timezone cannot be used")
    assert cron.startswith("schedules.x.cron cannot be used")


def test_a_key_in_a_multi_line_string_is_not_taken_for_the_place(tmp_path: Path) -> None:
    text = '[log]\n[job_types.a]\nstatements = ["""\n[api]\nport = 1\n"""]\n[api]\nport = -1'
    assert only_problem(text, tmp_path).endswith("(ayb-jobs.toml, line 8)")


@pytest.mark.parametrize("length", [0, 5, 31])
def test_beyond_loopback_a_short_token_is_refused_with_the_way_to_make_one(length: int, tmp_path: Path) -> None:
    text = f'[api]\nhost = "0.0.0.0"\nadmin_token = "{"x" * length}"'
    problem = only_problem(text, tmp_path)
    assert "needs a token of at least 32 characters" in problem
    assert "openssl rand -hex 32" in problem
    assert "x" * 5 not in problem


def test_beyond_loopback_every_token_must_be_long(tmp_path: Path) -> None:
    text = f'[api]\nhost = "0.0.0.0"\nadmin_token = "{TOKEN}"\n[api.tokens.ops]\ntoken = "short"'
    assert only_problem(text, tmp_path).startswith("api.tokens.ops.token has 5 characters")


@pytest.mark.parametrize("token", [f" {TOKEN}", f"{TOKEN}\t", " " * 40, f"\udcff{TOKEN}"])
def test_a_token_that_nobody_could_show_is_refused(token: str, tmp_path: Path) -> None:
    problem = "".join(problems("", tmp_path, {"AYB_JOBS_API_ADMIN_TOKEN": token}))
    assert problem.startswith("api.admin_token can be shown in no header")
    assert TOKEN not in problem


@pytest.mark.parametrize(
    "host",
    [
        "999.1.1.1", "127.0.0", "1.2.3.4.5", "127.0.0.1:8091", "[::1]", "::1::", "::g", "http://localhost", "a b", "a..b",
        "-a", "localhost/", "*", " localhost", "x" * 64, "12",
    ],
)  # fmt: skip
def test_what_nobody_can_listen_on_is_refused_with_what_would_be_right(tmp_path: Path, host: str) -> None:
    problem = only_problem(f'[api]\nhost = "{host}"\nadmin_token = "{"t" * 32}"', tmp_path)
    assert problem.startswith("api.host")
    assert "an address such as 127.0.0.1, 0.0.0.0 or ::1, or the name of a host" in problem


@pytest.mark.parametrize(
    "host",
    ["web-1", "jobs.example.com.", "fe80::1%eth0", "::ffff:127.0.0.1", "0.0.0.0", "bücher.example", "_a.b", "1a"],
)
def test_addresses_and_names_of_hosts_can_be_listened_on(tmp_path: Path, host: str) -> None:
    assert load(f'[api]\nhost = "{host}"\nadmin_token = "{"t" * 32}"', tmp_path).api.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_token(host: str, tmp_path: Path) -> None:
    assert load(f'[api]\nhost = "{host}"', tmp_path).api.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1.example.com", "192.168.1.1", "example.com"])
def test_a_long_token_or_no_api_opens_other_addresses(host: str, tmp_path: Path) -> None:
    assert only_problem(f'[api]\nhost = "{host}"', tmp_path)
    load(f'[api]\nhost = "{host}"\nadmin_token = "{TOKEN}"', tmp_path)
    load(f'[api]\nhost = "{host}"\nenabled = false', tmp_path)


# Files that cannot be used


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[jobs\nenabled = true", "ayb-jobs.toml is not valid TOML: .*line 1"),
        (b"[jobs]\nenabled = true\nenabled = false\n", "ayb-jobs.toml is not valid TOML: .*line 3"),
        (b"[log]\nlevel = '\xff'", r"ayb-jobs.toml is not UTF-8 text \(byte 15\)"),
        ("[log]\nlevel = 'info'".encode("utf-16"), "ayb-jobs.toml is not UTF-8 text"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "ayb-jobs.toml is not valid TOML"),
    ],
)
def test_a_broken_file_is_one_clear_line(content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "ayb-jobs.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(file, {}, {})
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


def test_a_folder_in_place_of_the_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load_config(tmp_path, {}, {})


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load("\ufeff[jobs]\nworker_concurrency = 9", tmp_path).jobs.worker_concurrency == 9


# Secrets


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    text = f'[api]\nadmin_token_file = "{tmp_path}/token"\n[api.tokens.ops]\ntoken_file = "{tmp_path}/token"'
    config = load(text, tmp_path)
    assert config.api.admin_token == TOKEN
    assert config.api.tokens["ops"].token == TOKEN
    assert config.api.tokens["ops"].scope == "read"


def test_a_secret_given_twice_in_one_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    text = f'[api]\nadmin_token = "a"\nadmin_token_file = "{tmp_path}/token"'
    assert "api.admin_token_file and `admin_token` are both set; keep one" in only_problem(text, tmp_path)


def test_a_secret_in_the_environment_goes_over_a_file_named_in_the_configuration(tmp_path: Path) -> None:
    text = f'[api]\nadmin_token_file = "{tmp_path}/gone"'
    assert load(text, tmp_path, {"AYB_JOBS_API_ADMIN_TOKEN": TOKEN}).api.admin_token == TOKEN


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_secret_file_that_cannot_be_used_is_one_clear_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    problem = only_problem(f'[api]\nadmin_token_file = "{tmp_path}/token"', tmp_path)
    assert problem.startswith("api.admin_token_file cannot be used: token ")
    assert problem.endswith("(ayb-jobs.toml, line 2)")


def test_credentials_of_systemd_go_over_the_file_and_under_the_environment(tmp_path: Path) -> None:
    (tmp_path / "database.url").write_text("postgresql://credential/db\n")
    (tmp_path / "api.tokens.ops.token").write_text(TOKEN)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    text = '[database]\nurl = "postgresql://file/db"\n[api.tokens.ops]\nscope = "admin"'
    config = load(text, tmp_path, environ)
    assert config.database.url == "postgresql://credential/db"
    assert config.api.tokens["ops"].token == TOKEN
    config = load(text, tmp_path, environ | {"AYB_JOBS_DATABASE_URL": "postgresql://environment/db"})
    assert config.database.url == "postgresql://environment/db"


SECRETS = """
[database]
url = "postgresql://me:canary-one@h/db?sslpassword=canary-two"
direct_url = "host=h user=me password='canary three'"
[api]
admin_token = "canary-four-canary-four-canary-four"
[api.tokens.ops]
token = "canary-five-canary-five-canary-five"
[alerts]
webhooks = ["https://hooks.example/canary-six"]
webhook_secret = "whsec_canaryseven000000000000000000000"
previous_webhook_secret = "whsec_canaryten00000000000000000000000"
ping_url = "https://ping.example/canary-eight"
[schedules.a]
job_type = "a"
cron = "@daily"
ping_url = "https://ping.example/canary-nine"
"""


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    config = load(SECRETS, tmp_path)
    shown = as_toml(config) + repr(config)
    runner = CliRunner().invoke(program, ["check-config", "--config", str(tmp_path / "ayb-jobs.toml"), "--json"])
    assert runner.exit_code == 0, runner.output
    assert "canary" not in shown + runner.output
    assert 'url = "postgresql://me:***@h/db?sslpassword=***"' in shown
    assert "host=h user=me password=***" in shown


def test_what_is_no_address_is_not_shown(tmp_path: Path) -> None:
    config = load('[jobs]\nenabled = true\n[database]\nurl = "me canary@h/d"', tmp_path)
    runner = CliRunner().invoke(program, ["check-config", "--config", str(tmp_path / "ayb-jobs.toml"), "--json"])
    assert "canary" not in as_toml(config) + repr(config) + runner.output
    assert 'url = "***"' in as_toml(config)


def test_a_file_without_an_end_is_refused(tmp_path: Path) -> None:
    assert "/dev/zero is larger than 16 MiB" in only_problem('[api]\nadmin_token_file = "/dev/zero"', tmp_path)
    with pytest.raises(ConfigError, match="/dev/zero is larger than 16 MiB"):
        load_config(Path("/dev/zero"), {})


def test_no_secret_is_shown_in_a_fault(tmp_path: Path) -> None:
    broken = SECRETS.replace("[alerts]", '[alerts]\nwebhook_secrets = "canary-ten"').replace('["https', '[3, "https')
    broken = broken.replace("[api]", '[api]\nhost = "0.0.0.0"').replace("-four-canary-four", "").replace("@daily", "x")
    found = problems(broken, tmp_path)
    assert len(found) >= 3
    assert "canary" not in "\n".join(found)


@pytest.mark.parametrize(
    "secret", ["s3cret", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 90, f"{SIGNING}!", "whsec_ü"]
)
def test_a_secret_that_signs_nothing_by_standard_webhooks_is_refused_and_not_shown(tmp_path: Path, secret: str) -> None:
    for key in ("webhook_secret", "previous_webhook_secret"):
        [told] = problems(f'[alerts]\n{key} = "{secret}"', tmp_path)
        assert told.startswith(
            f"alerts.{key} is no secret of Standard Webhooks, 24 to 64 bytes in base64; make one with"
        )
        assert secret not in told.replace("whsec_$(", "")
    assert load(f'[alerts]\nwebhook_secret = "{SIGNING.removeprefix("whsec_")}"', tmp_path)


def test_the_settings_tell_all_their_secrets_to_a_redactor(tmp_path: Path) -> None:
    secrets = load(SECRETS, tmp_path).secrets()
    for number in ("one", "two", " three", "four", "five", "six", "seven", "eight", "nine", "ten"):
        assert any(number in secret for secret in secrets), number
    assert not any("postgresql" in secret for secret in secrets)


# Settings agree with what is built from them


SCHEDULE: Mapping[str, Any] = {"job_type": "a", "cron": "@daily"}


def test_a_schedule_of_the_configuration_makes_a_schedule_of_the_same_defaults() -> None:
    settings = ScheduleSettings(**SCHEDULE)
    assert NewSchedule(name="x", **settings.model_dump()) == NewSchedule(name="x", **SCHEDULE)
    assert {field.name for field in fields(NewSchedule)} - {"name"} == set(ScheduleSettings.model_fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(
            ["catchup_window_s", "timeout_s", "expect_success_within_s", "jitter_s"],
            [-1.0, 0.0, 0.001, 0.5, 1.0, 86400.0, 86401.0, 1e9, 1e10, 1e300],
        ),
        *product(["max_attempts", "catchup_max", "priority"], [0, 1, 4, 5, 1000, 1001, 2**31 - 1, 2**31]),
        *product(["catchup", "overlap", "dst"], ["all", "skip", "both", "queue_one", "never"]),
        *product(["job_type", "queue", "timezone"], ["", "UTC", "a\x00", "x" * 100, "x" * 101]),
        *product(["ping_url"], ["", "ftp://a/", "https://a/", "https://a/" + "x" * 1000]),
    ],
)
def test_a_schedules_fields_take_the_same_values_in_the_configuration(name: str, value: Any) -> None:
    values = {**SCHEDULE, name: value}
    assert is_taken(lambda: without_faults(ScheduleSettings(**values))) == is_taken(
        lambda: NewSchedule(name="x", **values)
    )


def without_faults(settings: ScheduleTable) -> None:
    if found := list(settings.contradictions()):
        raise InvalidInput(str(found))


def is_taken(make: Callable[[], object]) -> bool:
    try:
        make()
    except (ValueError, InvalidInput):
        return False
    return True


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    config = load("", tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.jobs.enabled = True


# What is written about the settings


def test_the_example_names_every_setting_with_its_default_and_enables_jobs() -> None:
    tables = tomli.loads((ROOT / "config.example.toml").read_text("utf-8"))
    expected = {name: getattr(Config(), name).model_dump() for name in SECTIONS}
    expected["jobs"]["enabled"] = True
    del expected["api"]["tokens"]
    assert tables == expected


def test_every_setting_of_the_example_has_its_comment() -> None:
    lines = (ROOT / "config.example.toml").read_text("utf-8").splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\w+ = ", line):
            assert before.startswith("# "), line


def test_the_example_is_valid_as_it_is_and_with_its_examples_uncommented(tmp_path: Path) -> None:
    text = (ROOT / "config.example.toml").read_text("utf-8")
    assert load(text, tmp_path).jobs.enabled
    (tmp_path / "dashboard").write_text(TOKEN)
    uncommented = re.sub(r"(?m)^# (\[.+\]|\w+ = .+)$", r"\1", text).replace(
        "/run/secrets/dashboard-token", str(tmp_path / "dashboard")
    )
    config = load(uncommented, tmp_path)
    assert (len(config.api.tokens), len(config.job_types), len(config.schedules)) == (1, 4, 1)
    assert config.limits["resizing"].as_limit("resizing").key_max_running == 3


def test_the_written_reference_is_up_to_date() -> None:
    how = "run `python -m ayb_jobs.handlers.kinds.reference`"
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == markdown(KINDS), how
    assert (ROOT / "config.example.toml").read_text("utf-8") == example(), how


def test_the_reference_names_every_setting_and_variable() -> None:
    text = markdown(KINDS)
    for model in [*SECTIONS.values(), *NAMED_SECTIONS.values(), *(kind.settings for kind in KINDS)]:
        for key, info in model.model_fields.items():
            assert key == "tokens" or f"| `{key}` |" in text
            assert info.description
            assert key == "tokens" or info.description.replace("|", "\\|") in text
    for name in environment_names():
        assert f"`{name}`" in text


# check-config


def check(*arguments: str, **environ: str) -> Said:
    return Cli(environ)("check-config", *arguments)


def test_check_config_shows_where_each_setting_came_from(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[jobs]\nenabled = true\n")
    done = check("--config", str(file), AYB_JOBS_WORKER_CONCURRENCY="8")
    lines = {line.partition("  #")[0].rstrip(): line.partition("# ")[2] for line in done.out.splitlines()}
    assert lines["enabled = true"] in (str(file), "default")
    assert lines["worker_concurrency = 8"] == "environment AYB_JOBS_WORKER_CONCURRENCY"
    assert lines["poll_interval_ms = 1000"] == "default"
    assert f"enabled = true                 # {file}" in re.sub(r" +#", "                 #", done.out)


def test_what_check_config_shows_is_a_configuration_of_the_same_meaning(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (\[(sch|job|lim|que))", r"\1", (ROOT / "config.example.toml").read_text("utf-8"))
    text = re.sub(r"(?m)^# (\w+ = .+)$", r"\1", text.partition("# A cleanup")[2]).replace("# Or", "# or")
    config = load("# A cleanup" + text, tmp_path)
    shown = as_toml(config)
    assert 'env = { BACKUP_DIR = "***" }' in shown
    again = load(shown.replace('"***"', '"/backup"'), tmp_path)
    assert again.job_types == config.job_types
    assert again.schedules == config.schedules
    assert again.limits == config.limits != {}
    assert again.queues == config.queues != {}
    assert again.jobs == config.jobs


def test_check_config_as_json_tells_value_and_origin() -> None:
    told = json.loads(check("--config", str(ROOT / "config.example.toml"), "--json").out)
    assert told["valid"] is True
    assert told["settings"]["jobs.enabled"] == {"value": True, "origin": str(ROOT / "config.example.toml")}


def test_check_config_of_a_faulty_file_exits_with_78_and_names_all_faults(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[jobs]\nenabled = 1\nworker_concurrency = 0\n")
    done = check("--config", str(file), "--json")
    assert done.code == 78
    told = json.loads(done.out)
    assert told["valid"] is False
    assert len(told["problems"]) == 2
    done = check("--config", str(file))
    assert done.code == 78
    assert done.out == ""
    assert len(done.err.splitlines()) == 2


def test_check_config_names_the_flag_that_set_the_database() -> None:
    told = json.loads(check("--database-url", "host=h password=canary", "--json").out)
    assert told["settings"]["database.url"] == {"value": "host=h password=***", "origin": "flag --database-url"}


def test_flags_of_run_go_over_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[jobs]\nqueues = ["file"]\nworker_concurrency = 3\n')
    environ = {"AYB_JOBS_QUEUES": "env", "AYB_JOBS_WORKER_CONCURRENCY": "5"}
    flags = ("--config", str(file), "--queues", "a, b,", "--concurrency", "7", "--json")
    told = json.loads(check(*flags, **environ).out)["settings"]
    assert told["jobs.queues"] == {"value": ["a", "b"], "origin": "flag --queues"}
    assert told["jobs.worker_concurrency"] == {"value": 7, "origin": "flag --concurrency"}


@pytest.mark.parametrize(
    ("flags", "problems"),
    [
        (
            ("--queues", " ,", "--concurrency", "0"),
            [
                "jobs.worker_concurrency is 0; it should be a whole number from 1 to 1000 (flag --concurrency)",
                "jobs.queues is []; it should be a list of texts, not empty (flag --queues)",
            ],
        ),
        (
            ("--queues", "x" * 101),
            ["jobs.queues has a name that no queue can have; 1 to 100 characters are needed (flag --queues)"],
        ),
        (
            ("--concurrency", "many"),
            ['jobs.worker_concurrency is "many"; it should be a whole number from 1 to 1000 (flag --concurrency)'],
        ),
    ],
)
def test_bad_flags_of_run_are_named_all_at_once(flags: tuple[str, ...], problems: list[str]) -> None:
    assert json.loads(check(*flags, "--json").out) == {"valid": False, "problems": problems}


def test_check_config_prints_an_example_to_start_from() -> None:
    assert check("--example").out == (ROOT / "config.example.toml").read_text("utf-8")


def test_importing_the_settings_imports_nothing_slow() -> None:
    code = "import sys, ayb_jobs.config; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    slow = {"croniter", "psycopg", "structlog", "click", "rich", "fastapi", "asyncio", "dateutil", "importlib_metadata"}
    assert slow.isdisjoint(done.stdout.split())


def test_a_queue_needs_a_slot(tmp_path: Path) -> None:
    assert load("[queues.reports]\nconcurrency = 2\n", tmp_path).queues["reports"].concurrency == 2
    with pytest.raises(ConfigError) as refused:
        load("[queues.reports]\nconcurrency = 0\n[queues.mails]\n[queues.news]\nslots = 2\n", tmp_path)
    for told in (
        "queues.reports.concurrency is 0; it should be a whole number from 1 to 100000",
        "queues.mails.concurrency is missing; it should be a whole number from 1 to 100000",
        "queues.news.slots is not a setting",
    ):
        assert told in str(refused.value)


def test_two_limits_on_one_type_and_a_limit_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load('[limits.a]\ntypes = ["x"]\nmax_running = 1\n[limits.b]\ntypes = ["x"]\nrate = "fast"\n', tmp_path)
    assert "limits.b.rate cannot be used: rate is 'fast'; give starts in a time, such as 5/s" in str(refused.value)
    assert "limits.b.types names x, which `limits.a` limits already; a type has one limit at most" in str(refused.value)
