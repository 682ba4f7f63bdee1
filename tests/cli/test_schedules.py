"""`ayb-jobs schedules …`, as its user types it."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import TupleRow

from ayb_jobs.cli.main import main

Conn = psycopg.Connection[TupleRow]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(database_url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AYB_JOBS_DATABASE_URL", database_url)

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(["schedules", *arguments])
        out, err = capfd.readouterr()
        return Ran(int(str(ended.value.code)), out, err)

    return run


NIGHTLY = ("--name", "nightly", "--job-type", "report", "--cron", "0 3 * * *")


def test_the_origins_commands_work_word_for_word(run: Run) -> None:
    assert run("create", "--name", "cleanup", "--job-type", "stale_session_cleanup", "--cron", "0 * * * *").code == 0
    made = run("list", "--json").json["items"][0]
    assert run("update", made["id"], "--cron", "15 * * * *", "--enabled", "true").code == 0
    assert run("disable", made["id"]).code == 0
    assert run("enable", made["id"]).code == 0
    changed = run("list", "--json").json["items"][0]
    assert (changed["cronExpr"], changed["enabled"], changed["timezone"]) == ("15 * * * *", True, "UTC")
    assert run("delete", made["id"]).code == 0
    assert run("list", "--json").json == {"items": [], "count": 0}


def test_every_field_can_be_given(run: Run) -> None:
    flags = (
        "--timezone=Europe/Berlin", '--payload={"a": 1}', "--enabled=false", "--queue=slow", "--priority=1",
        "--max-attempts=7", "--catchup=all", "--catchup-max=5", "--catchup-window=2h", "--overlap=queue_one", "--dst=both", "--jitter=5m", "--timeout=90s",
        "--expect-success-within=26h", "--ping-url=https://example.com/x",
    )  # fmt: skip
    assert run("create", *NIGHTLY, *flags).code == 0
    made = run("list", "--json").json["items"][0]
    del made["id"], made["createdAt"], made["updatedAt"], made["nextRunAt"]
    assert made == {
        "name": "nightly", "jobType": "report", "payload": {"a": 1}, "cronExpr": "0 3 * * *",
        "timezone": "Europe/Berlin", "enabled": False, "maxAttempts": 7, "queue": "slow", "priority": 1,
        "catchup": "all", "catchupMax": 5, "catchupWindowSec": 7200.0, "overlap": "queue_one", "dst": "both",
        "jitterSec": 300.0, "timeoutSec": 90.0, "expectSuccessWithinSec": 93600.0, "pingUrlSet": True,
        "origin": "operator", "state": "disabled",
    }  # fmt: skip


def test_an_empty_list_says_how_to_make_one(run: Run) -> None:
    shown = run("list")
    assert shown.code == 0
    assert "schedules create" in shown.err


def test_a_list_shows_what_matters(run: Run, conn: Conn) -> None:
    run("create", *NIGHTLY)
    conn.execute("UPDATE _ayb_job_schedules SET last_error = 'no such zone', next_run_at = NULL")
    shown = run("list").out
    assert "nightly" in shown
    assert "broken" in shown
    assert "no such zone" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("create", "--name", "x", "--job-type", "t", "--cron", "0 0 30 2 *"), 2, "five years"),
        (("create", "--name", "x", "--job-type", "t", "--cron", "@daily", "--timezone", "Berlin"), 2, "time zone"),
        (("create", "--name", "x", "--job-type", "t"), 2, "--cron"),
        (("create", *NIGHTLY, "--payload", "{"), 2, "JSON"),
        (("update", "nobody", "--cron", "@daily"), 1, "nobody"),
        (("enable", "nobody"), 1, "nobody"),
        (("delete", "nobody"), 1, "nobody"),
        (("trigger", "nobody"), 1, "nobody"),
        (("preview", "nobody"), 1, "nobody"),
        (("show", "nobody"), 1, "nobody"),
        (("preview",), 2, "--cron"),
        (("preview", "--cron", "@daily", "--timezone", "Mars"), 2, "time zone"),
        (("preview", "--cron", "@daily", "--from", "yesterday"), 2, "instant"),
        (
            ("preview", "--cron", "@daily", "--from", "9999-12-31T00:00:00Z"),
            2,
            "its year in UTC should be from 2 to 9998",
        ),
        (("timeline", "--from", "9999-12-31T23:59:59-15:00"), 2, "its year in UTC should be from 2 to 9998"),
        (("fires", "nobody"), 1, "nobody"),
        (("import", "crontab", "/nowhere"), 2, "/nowhere"),
        (("import", "pg_cron"), 1, "cron.job"),
        (("import", "celery"), 1, "django_celery_beat"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, hint: str
) -> None:
    refused = run(*arguments)
    assert refused.code == code
    assert hint in refused.err
    assert "Traceback" not in refused.err
    assert refused.out == ""


def test_one_schedule_is_shown_by_name_or_id(run: Run) -> None:
    run("create", *NIGHTLY, "--expect-success-within", "26h", "--payload", '{"a": 1}')
    made = run("list", "--json").json["items"][0]
    assert run("show", "nightly", "--json").json == made
    shown = run("show", made["id"])
    assert shown.code == 0
    for words in ("0 3 * * *", "expected within 93600 s", '"a": 1', "an operator", made["nextRunAt"]):
        assert words in shown.out


def test_a_taken_name_is_refused(run: Run) -> None:
    run("create", *NIGHTLY)
    refused = run("create", *NIGHTLY)
    assert refused.code == 1
    assert "nightly" in refused.err


def test_trigger_enqueues_a_job(run: Run, conn: Conn) -> None:
    run("create", *NIGHTLY)
    assert run("trigger", "nightly", "--json").json["type"] == "report"
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)


def test_preview_marks_what_a_change_of_clocks_does(run: Run) -> None:
    shown = run(
        "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2027-10-30T12:00:00Z",
        "--count", "2", "--json",
    ).json["items"]  # fmt: skip
    assert [(item["at"], item["local"], item["fires"]) for item in shown] == [
        ("2027-10-31T00:30:00Z", "2027-10-31T02:30:00+02:00", True),
        ("2027-10-31T01:30:00Z", "2027-10-31T02:30:00+01:00", False),
        ("2027-11-01T01:30:00Z", "2027-11-01T02:30:00+01:00", True),
    ]
    assert "twice" in shown[0]["note"]
    assert "left out" in shown[1]["note"]
    assert shown[2]["note"] == ""


@pytest.mark.parametrize(("dst", "count"), [("once", 2), ("skip", 1), ("both", 2)])
def test_preview_shows_each_rule_in_spring(run: Run, dst: str, count: int) -> None:
    shown = run(
        "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2027-03-27T12:00:00Z",
        "--count", str(count), "--dst", dst, "--json",
    ).json["items"]  # fmt: skip
    assert [item["fires"] for item in shown] == [dst != "skip", True]
    assert shown[0]["at"] == "2027-03-28T01:00:00Z"


def test_preview_takes_a_schedules_own_zone_and_rule(run: Run) -> None:
    run("create", *NIGHTLY, "--timezone", "Asia/Tokyo")
    shown = run("preview", "nightly", "--count", "3")
    assert shown.out.count("03:00:00 JST") == 3
    assert shown.out.count("18:00:00") == 3


def test_preview_counts_an_interval_from_the_next_run(run: Run, conn: Conn) -> None:
    run("create", "--name", "slow", "--job-type", "t", "--cron", "@every 7h")
    conn.execute("UPDATE _ayb_job_schedules SET next_run_at = date_trunc('hour', now()) + interval '2 hours'")
    next_run = run("show", "slow", "--json").json["nextRunAt"]
    assert run("preview", "slow", "--count", "1", "--json").json["items"][0]["at"] == next_run
    assert run("timeline", "--hours", "8", "--json").json["items"][0]["fires"] == [next_run]


def test_overdue_ends_with_one_where_anything_is(run: Run, conn: Conn) -> None:
    run("create", *NIGHTLY, "--expect-success-within", "1h")
    fine = run("overdue")
    assert (fine.code, fine.out) == (0, "")
    conn.execute("UPDATE _ayb_job_schedules SET watched_since = now() - interval '2 hours'")
    late = run("overdue", "--json")
    assert late.code == 1
    assert [(item["name"], item["reason"]) for item in late.json["items"]] == [("nightly", "no_success")]
    assert "nightly" in run("overdue").out


def test_fires_show_what_became_of_each(run: Run, conn: Conn) -> None:
    run("create", *NIGHTLY)
    conn.execute(
        "INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, reason) "
        "SELECT id, '2026-01-01 03:00+00', 'skipped', 'missed' FROM _ayb_job_schedules"
    )
    assert run("fires", "nightly", "--json").json["items"][0]["reason"] == "missed"
    assert "missed" in run("fires").out


def test_timeline_draws_fires_and_names_collisions(run: Run) -> None:
    run("create", *NIGHTLY)
    run("create", "--name", "other", "--job-type", "report", "--cron", "0 3 * * *")
    drawn = run("timeline")
    assert drawn.out.count("●") >= 2
    assert "together" in drawn.out
    assert run("timeline", "--json").json["collisions"][0]["schedules"] == ["nightly", "other"]


def test_timeline_writes_svg_that_is_well_formed_whatever_the_names(run: Run, tmp_path: Path) -> None:
    run("create", "--name", "<script>&'\"\x01", "--job-type", "t", "--cron", "0 * * * *")
    assert run("timeline", "--svg", "out.svg").code == 0
    drawing = ET.fromstring((tmp_path / "out.svg").read_text(encoding="utf-8"))  # our own
    bars = [each for each in drawing.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")]
    assert len(bars) == 24
    assert not list(drawing.iter("{http://www.w3.org/2000/svg}script"))


def test_lint_names_what_looks_wrong(run: Run, conn: Conn) -> None:
    for name, cron, zone in (
        ("both-days", "0 3 13 * 5", "UTC"),
        ("leap", "0 5 29 2 *", "UTC"),
        ("uneven", "*/7 * * * *", "UTC"),
        ("too-long", "*/90 * * * *", "UTC"),
        ("clocks", "30 2 * * *", "Europe/Berlin"),
        ("fine", "17 6 * * *", "UTC"),
    ):
        run("create", "--name", name, "--job-type", "t", "--cron", cron, "--timezone", zone)
    run("create", "--name", "hasty", "--job-type", "t", "--cron", "9 9 * * *", "--expect-success-within", "2h")
    assert run("lint").code == 0
    conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, timezone) VALUES ('lost', 't', '@daily', 'Mars/X')"
    )
    found = run("lint", "--json")
    assert found.code == 1
    messages = {item["schedule"]: item["message"] for item in found.json["items"]}
    assert set(messages) == {"both-days", "leap", "uneven", "too-long", "clocks", "hasty", "lost"}
    assert "it fires on days that match either" in messages["both-days"]
    assert messages["uneven"] == "*/7 does not divide 60 minutes: the last gap is 4; @every keeps the distance"
    assert messages["hasty"] == "expects a success within 2 h, but fires up to 1 d apart"
    assert "leap years" in messages["leap"]
    assert "Mars/X" in messages["lost"]
    assert {"too-long", "uneven"} <= {name for each in found.json["collisions"] for name in each["schedules"]}


def test_diff_shows_an_operators_edit(run: Run, conn: Conn, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[handlers]\npacks = []\n[schedules.a]\njob_type = "t"\ncron = "@daily"\n')
    missing = run("diff", "--config", "c.toml", "--json")
    assert missing.code == 1
    assert missing.json["items"] == [{"name": "a", "kind": "missing", "fields": {}}]


def test_a_crontab_becomes_settings_with_what_differs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text(
        "MAILTO=me\n\n# nightly\n0 3 * * * /usr/bin/backup --all\n0 4 */2 * 1 report\n@reboot start\n0 25 * * * bad\n"
    )
    shown = run("import", "crontab", "crontab", "--json")
    assert shown.code == 1  # not all of it can be had
    first, days, reboot, bad = shown.json["items"]
    assert first["schedule"]["payload"] == {"command": "/usr/bin/backup --all"}
    assert first["schedule"]["name"] == "backup"
    assert any("time zone" in note for note in first["notes"])
    assert days["schedule"]["cronExpr"] == "0 4 */2 * 1"
    assert "schedule" not in reboot
    assert reboot["notes"] == ["not imported: @reboot has no counterpart here"]
    (reason,) = bad["notes"]
    assert "0 to 23" in reason
    printed = run("import", "crontab", "crontab")
    assert printed.err == "Not imported: 2 of 4; above each stands why.\n"


def test_imported_settings_are_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text('CRON_TZ=Europe/Berlin\n0 3 * * * echo "a\\b" \x7f é\n')
    printed = run("import", "crontab", "crontab").out
    (tmp_path / "c.toml").write_text(f"[handlers]\npacks = []\n{printed}", encoding="utf-8")
    assert run("diff", "--config", "c.toml", "--json").json["items"][0]["name"] == "echo"


def test_an_import_creates_all_or_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("0 3 * * * backup\n0 4 * * * report\n")
    assert run("import", "crontab", "crontab", "--create").code == 0
    assert run("list", "--json").json["count"] == 2
    run("delete", "backup")
    assert run("import", "crontab", "crontab", "--create").code == 1
    assert run("list", "--json").json["count"] == 1


def test_pg_crons_table_becomes_jobs_written_as_sql(run: Run, conn: Conn) -> None:
    conn.execute(
        "CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint, schedule text, command text, nodename text, "
        "nodeport int, database text, username text, active bool, jobname text)"
    )
    conn.execute(
        "INSERT INTO cron.job VALUES (1, '0 0 $ * *', 'VACUUM x', '', 5432, 'app', 'ana', true, 'monthly'), "
        "(2, '30 seconds', 'SELECT 1', '', 5432, 'app', 'ana', false, NULL)"
    )
    monthly, fast = run("import", "pg_cron", "--json").json["items"]
    assert (monthly["schedule"]["cronExpr"], monthly["statements"]) == ("0 0 L * *", ["VACUUM x"])
    assert (fast["schedule"]["cronExpr"], fast["schedule"]["enabled"]) == ("@every 30s", False)
    assert '[job_types."monthly"]' in run("import", "pg_cron").out


BEAT = """
from celery.schedules import crontab
from datetime import timedelta
app.conf.beat_schedule = {
    "nightly": {"task": "app.nightly", "schedule": crontab(minute=30, hour=3), "args": (1, "x")},
    "odd": {"task": "app.odd", "schedule": crontab(0, 4, day_of_week="mon", day_of_month="1")},
    "first": {"task": "app.first", "schedule": crontab(0, 4, day_of_week="mon", day_of_month="1-7")},
    "often": {"task": "app.often", "schedule": timedelta(minutes=5), "kwargs": {"a": 1}, "options": {"queue": "q"}},
    "plain": {"task": "app.plain", "schedule": 30.0},
    "sun": {"task": "app.sun", "schedule": solar("sunset", 1, 2)},
}
"""


def test_celerys_settings_are_read_and_never_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text("raise SystemExit('run')\n" + BEAT)
    items = {item["source"].split()[2]: item for item in run("import", "celery", "settings.py", "--json").json["items"]}
    crons = {name: item["schedule"]["cronExpr"] for name, item in items.items() if "schedule" in item}
    assert crons == {
        "nightly": "30 3 * * *", "first": "0 4 * * 1#1", "often": "@every 300s", "plain": "@every 30s",
    }  # fmt: skip
    assert items["nightly"]["schedule"]["payload"] == {"args": [1, "x"]}
    assert items["often"]["schedule"]["queue"] == "q"
    assert any("both must match" in note for note in items["odd"]["notes"])


BEAT_WITH_NAMES = """
app.conf.timezone = "Europe/Berlin"
app.conf.beat_schedule = {
    "product": {"task": "t", "schedule": 60.0 * 5, "args": (HERE,)},
    "minutes": {"task": "t", "schedule": timedelta(0, 0, 0, 0, 5)},
    "seconds": {"task": "t", "schedule": schedule(run_every=timedelta(seconds=90))},
    "sunday": {"task": "t", "schedule": crontab(0, 4, day_of_week="sunday"), "kwargs": ["x"]},
    "sum": {"task": "t", "schedule": timedelta(hours=1, minutes=HERE)},
    "spread": {"task": "t", "schedule": crontab(0, **HERE)},
    "endless": {"task": "t", "schedule": 1e400},
    "made": made(),
    **others,
}
"""


def test_what_celerys_settings_compute_is_neither_guessed_nor_overlooked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(BEAT_WITH_NAMES)
    shown = run("import", "celery", "settings.py", "--json")
    assert shown.code == 1
    items = {item["source"].split()[2]: item for item in shown.json["items"]}
    crons = {name: item["schedule"]["cronExpr"] for name, item in items.items() if "schedule" in item}
    assert crons == {
        "minutes": "@every 300s", "seconds": "@every 90s",
    }  # fmt: skip
    assert set(items) - set(crons) == {"product", "sunday", "sum", "spread", "endless", "made", "**others"}
    assert items["minutes"]["schedule"]["timezone"] == "Europe/Berlin"
    assert items["product"]["notes"] == ["not imported: its args: `HERE` is not a plain value"]
    assert "keyword arguments are not a dictionary" in items["sunday"]["notes"][0]
    assert '"UTC"' in run("import", "celery", "settings.py", "--timezone", "UTC", "--json").out


def test_celerys_tables_are_read(run: Run, conn: Conn) -> None:
    conn.execute(
        "CREATE TABLE django_celery_beat_crontabschedule (id int, minute text, hour text, day_of_week text, "
        "day_of_month text, month_of_year text, timezone text);"
        "CREATE TABLE django_celery_beat_intervalschedule (id int, every int, period text);"
        "CREATE TABLE django_celery_beat_periodictask (name text, task text, args text, kwargs text, queue text, "
        "enabled bool, crontab_id int, interval_id int, one_off bool DEFAULT false, expires timestamptz);"
        "INSERT INTO django_celery_beat_crontabschedule VALUES (1, '0', '6', '*', '*', '*', 'Europe/Paris');"
        "INSERT INTO django_celery_beat_intervalschedule VALUES (1, 2, 'hours'), (2, 5, 'microseconds');"
        "INSERT INTO django_celery_beat_periodictask VALUES ('a', 'app.a', '[]', '{\"k\": 1}', NULL, true, 1, NULL), "
        "('b', 'app.b', '[]', '{}', 'q', false, NULL, 1), ('c', 'app.c', '[]', '{}', NULL, true, NULL, 2);"
        "UPDATE django_celery_beat_periodictask SET expires = '2030-01-01Z' WHERE name = 'a';"
        "INSERT INTO django_celery_beat_periodictask VALUES ('d', 'app.d', '[]', '{}', NULL, true, 1, NULL, true)"
    )
    a, b, c, d = run("import", "celery", "--json").json["items"]
    assert (a["schedule"]["cronExpr"], a["schedule"]["timezone"]) == ("0 6 * * *", "Europe/Paris")
    assert "it ends at 2030" in a["notes"][0]
    assert (b["schedule"]["cronExpr"], b["schedule"]["enabled"]) == ("@every 7200s", False)
    assert "schedule" not in c
    assert d["notes"] == ["not imported: it is to run only once"]


def test_celerys_tables_name_what_they_mean_otherwise(run: Run, conn: Conn) -> None:
    conn.execute(
        "CREATE TABLE django_celery_beat_crontabschedule (id int, minute text, hour text, day_of_week text, "
        "day_of_month text, month_of_year text, timezone text);"
        "CREATE TABLE django_celery_beat_intervalschedule (id int, every int, period text);"
        "CREATE TABLE django_celery_beat_periodictask (name text, task text DEFAULT 't', args text DEFAULT '[]', "
        "kwargs text DEFAULT '{}', queue text, exchange text, routing_key text, headers text DEFAULT '{}', priority int, "
        "expires timestamptz, expire_seconds int, one_off bool DEFAULT false, start_time timestamptz, "
        "enabled bool DEFAULT true, crontab_id int, interval_id int DEFAULT 1, solar_id int, clocked_id int, "
        "last_run_at timestamptz DEFAULT now(), total_run_count int DEFAULT 7);"
        "INSERT INTO django_celery_beat_intervalschedule VALUES (1, 2, 'hours');"
        "INSERT INTO django_celery_beat_periodictask (name, args) VALUES ('no-json', '[1'), ('null', '[null, 1]');"
        "INSERT INTO django_celery_beat_periodictask (name, kwargs) VALUES ('list', '[1]');"
        "INSERT INTO django_celery_beat_periodictask (name, args, kwargs) VALUES ('both', '[1]', '{\"args\": 2}');"
        "INSERT INTO django_celery_beat_periodictask (name, interval_id, solar_id) VALUES ('solar', NULL, 1);"
        "INSERT INTO django_celery_beat_periodictask (name, interval_id, clocked_id) VALUES ('clocked', NULL, 1);"
        "INSERT INTO django_celery_beat_periodictask (name, expires) VALUES ('over', '2020-01-01Z');"
        "INSERT INTO django_celery_beat_periodictask (name, exchange, routing_key, headers, priority, expire_seconds, "
        "start_time) VALUES ('routed', 'e', 'k', '{\"h\": 1}', 5, 60, '2030-01-01Z');"
        "INSERT INTO django_celery_beat_crontabschedule VALUES (1, '0', '6', '*', '*', '*', 'UTC');"
        "INSERT INTO django_celery_beat_periodictask (name, crontab_id) VALUES ('two', 1);"
        "INSERT INTO django_celery_beat_periodictask (name, task) VALUES ('idle', ''), (NULL, NULL);"
        "INSERT INTO django_celery_beat_periodictask (name, queue, exchange, routing_key, headers) "
        "VALUES ('blank', '', '', '', '')"
    )
    items = {item["source"].split()[2]: item for item in run("import", "celery", "--json").json["items"]}
    assert {name for name, item in items.items() if "schedule" in item} == {"null", "routed", "blank"}
    assert (items["blank"]["schedule"]["queue"], items["blank"]["notes"]) == ("default", items["null"]["notes"][:1])
    assert items["null"]["schedule"]["payload"] == {"args": [None, 1]}
    for name, word in (
        ("no-json", "not JSON"), ("list", "not a dictionary"), ("both", "key args"), ("solar", "solar"), ("clocked", "clocked"),
        ("over", "2020"), ("two", "a crontab and an interval"), ("idle", "no task"), ("task", "no task"),
    ):  # fmt: skip
        assert word in items[name]["notes"][-1]
    for word in ("exchange (e)", "routing_key (k)", "headers", "priority (5)", "expire_seconds (60)", "starts at 2030"):
        assert any(word in note for note in items["routed"]["notes"]), word
    printed = run("import", "celery")
    assert printed.code == 1
    assert '[schedules."null"]' not in printed.out
    assert "null, which settings" in printed.out


def test_python_source_is_read_in_the_encoding_that_it_names(run: Run, tmp_path: Path) -> None:
    source = "# -*- coding: latin-1 -*-\nbeat_schedule = {'a': {'task': 't', 'schedule': 60, 'args': ('é',)}}\n"
    (tmp_path / "settings.py").write_bytes(source.encode("latin-1"))
    (tmp_path / "marked.py").write_bytes(b"\xef\xbb\xbf" + source.partition("\n")[2].encode())
    for file in ("settings.py", "marked.py"):
        [item] = run("import", "celery", file, "--json").json["items"]
        assert item["schedule"]["payload"] == {"args": ["é"]}
