"""`ayb-jobs jobs …`: the same on the database and through the API."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.queue.jobs import get_job
from tests.cli.conftest import Cli
from tests.factories import make_job

NOWHERE = "01890000-0000-7000-8000-000000000000"


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of what is printed where no terminal is."""
    titles, *rows = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(titles, row, strict=True)) for row in rows]


def item(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_an_empty_list_says_what_to_do_next(cli: Cli) -> None:
    said = cli("jobs", "list")
    assert (said.code, said.out) == (0, "")
    assert "ayb-jobs jobs enqueue TYPE" in said.err
    said = cli("jobs", "list", "--state", "failed")
    assert (said.code, said.out) == (0, "")
    assert "leave out a filter" in said.err
    assert json.loads(cli.ok("jobs", "list", "--json")) == {"items": [], "count": 0}


def test_what_nobody_will_run_or_wait_for_is_warned_of_and_done_all_the_same(cli: Cli, conn: Connection) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["test"]))
    said = cli("jobs", "enqueue", "test", "--queue", "defualt")
    assert said.err == (
        "ayb-jobs: warning: no live daemon serves the queue defualt; served are default; did you mean default?\n"
    )
    gone = "01890000-0000-7000-8000-00000000dead"
    said = cli("jobs", "enqueue", "test", "--queue", "default", "--depends-on", gone)
    assert said.err == (
        f"ayb-jobs: warning: there is no job {gone}; one that is gone counts as completed, so that nothing waits for it\n"
    )
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (2,)
    there = make_job(conn, "running", type="test")
    assert cli("jobs", "enqueue", "test", "--depends-on", there).err == ""
    conn.execute("UPDATE _ayb_job_workers SET drain_requested_at = now()")
    assert cli("jobs", "enqueue", "test", "--queue", "other").err == ""


def test_the_origins_flags_filter_the_list(cli: Cli, conn: Connection) -> None:
    make_job(conn, "failed", type="other")
    wanted = [make_job(conn, "failed", type="mail", queue="slow") for _ in range(3)]
    make_job(conn, "completed", type="mail")
    rows = table(cli.ok("jobs", "list", "--state", "failed", "--type", "mail", "--limit", "2"))
    assert [row["ID"] for row in rows] == [row["ID"] for row in table(cli.ok("jobs", "list", "--queue", "slow"))][:2]
    assert {row["ID"] for row in rows} < set(wanted)
    assert {(row["STATE"], row["TYPE"], row["QUEUE"], row["LAST ERROR"]) for row in rows} == {
        ("failed", "mail", "slow", "it broke")
    }


def test_a_full_page_says_that_there_may_be_more(cli: Cli, conn: Connection) -> None:
    for _ in range(3):
        make_job(conn)
    assert "--limit" in cli("jobs", "list", "--limit", "3").err
    assert "--limit" not in cli("jobs", "list", "--limit", "4").err


def test_json_is_that_of_the_api(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, "failed", payload={"a": [1, None]})
    page = json.loads(cli.ok("jobs", "list", "--json"))
    job = get_job(conn, job_id)
    (found,) = page["items"]
    assert page["count"] == 1
    assert (found["id"], found["payload"], found["maxAttempts"], found["lastError"]) == (
        job_id,
        {"a": [1, None]},
        3,
        "it broke",
    )
    assert datetime.fromisoformat(found["createdAt"]) == job.created_at
    assert found["createdAt"].endswith("Z")
    assert "completedAt" not in found
    assert item(cli.ok("jobs", "show", job_id, "--json")) == found | {"executions": []}


def test_a_job_is_shown_with_its_attempts(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, "running", type="mail", payload={"to": "ü"}, attempts=2, idempotency_key="k")
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, error, records_processed, started_at, ended_at)"
        " VALUES (nextval('_ayb_job_execution_ids'), %s, 'mail', 1, 'failed', 'oh', 7, now() - interval '90 ms', now())",
        (job_id,),
    )
    fields, _, attempts = cli.ok("jobs", "show", job_id).partition("\n\n")
    for word in (job_id, "mail", "running", "2 of 3", '"to": "ü"', "Idempotency key", "Leased until", "factory"):
        assert word in fields
    failed, running = table(attempts)
    assert [failed[title] for title in ("ATTEMPT", "OUTCOME", "TOOK", "RECORDS", "ERROR")] == [
        "1", "failed", "90 ms", "7", "oh",
    ]  # fmt: skip
    assert (running["ATTEMPT"], running["OUTCOME"], running["TOOK"]) == ("2", "running", "")
    assert "No attempt is on record." in cli.ok("jobs", "show", make_job(conn))


def test_stats_count_by_state(cli: Cli, conn: Connection) -> None:
    make_job(conn, run_at=sql.SQL("now() - interval '3 hours'"))
    for _ in range(2):
        make_job(conn, "failed")
    said = cli("jobs", "stats")
    assert [(row["STATE"], row["JOBS"]) for row in table(said.out)] == [
        ("queued", "1"), ("running", "0"), ("completed", "0"), ("failed", "2"), ("canceled", "0"),
    ]  # fmt: skip
    assert "waited for 3 h" in said.err
    found = json.loads(cli.ok("jobs", "stats", "--json"))
    assert found.pop("oldestQueuedAgeSec") == pytest.approx(3 * 3600, abs=60)
    counts = {"queued": 1, "running": 0, "completed": 0, "failed": 2, "canceled": 0}
    assert found == counts | {"unclaimable": {"test": 1}}  # no daemon is alive


def test_a_job_is_enqueued_as_it_was_asked_for(cli: Cli, conn: Connection) -> None:
    flags = ["--queue", "slow", "--priority", "1", "--max-attempts", "9", "--idempotency-key", "k"]
    made = item(cli.ok("jobs", "enqueue", "mail", "--payload", '{"to": "ü"}', "--in", "2h", *flags, "--json"))
    job = get_job(conn, made["id"])
    assert (job.type, job.payload_text, job.queue, job.priority) == ("mail", '{"to": "ü"}', "slow", 1)
    assert (job.max_attempts, job.idempotency_key) == (9, "k")
    assert (job.run_at - job.created_at).total_seconds() == 7200
    assert item(cli.ok("jobs", "enqueue", "mail", "--idempotency-key", "k", "--json"))["id"] == made["id"]
    assert "is queued" in cli.ok("jobs", "enqueue", "mail")


def test_a_job_may_wait_for_others_and_names_them(cli: Cli, conn: Connection) -> None:
    parent = make_job(conn, "running")
    flags = ["--depends-on", parent, "--on-parent-failure", "hold"]
    child = item(cli.ok("jobs", "enqueue", "mail", *flags, "--json"))["id"]
    shown = json.loads(cli.ok("jobs", "show", child, "--json"))
    assert shown["dependsOn"] == [{"id": parent, "state": "running", "onParentFailure": "hold", "waitedFor": True}]
    told = cli.ok("jobs", "show", child)
    assert f"it depends on job {parent}, which is running" in told
    assert f"{parent}  running" in told
    assert f"{child}  queued" in cli.ok("jobs", "show", parent)
    listed = cli.ok("jobs", "list")
    assert "blocked" in listed
    assert "9999" not in told + listed


def test_a_job_may_wait_for_an_instant(cli: Cli, conn: Connection) -> None:
    made = item(cli.ok("jobs", "enqueue", "mail", "--at", "2040-01-31T09:00:00+01:00", "--json"))
    assert get_job(conn, made["id"]).run_at == datetime(2040, 1, 31, 8, tzinfo=UTC)


def test_an_instant_that_has_no_year_in_utc_is_refused(cli: Cli) -> None:
    for arguments in (("enqueue", "mail", "--at"), ("list", "--since")):
        refused = cli("jobs", *arguments, "9999-12-31T23:59:59-15:00")
        assert refused.code == 2
        assert "its year in UTC should be from 1 to 9999" in refused.err


def test_a_payload_comes_from_a_file_or_from_standard_input(cli: Cli, conn: Connection, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('\ufeff{"from": "file"}', "utf-8")
    made = item(cli.ok("jobs", "enqueue", "mail", "--payload", f"@{file}", "--json"))
    assert get_job(conn, made["id"]).payload_text == '{"from": "file"}'
    made = item(cli.ok("jobs", "enqueue", "mail", "--payload", "-", "--json", stdin=b'["stdin"]'))
    assert get_job(conn, made["id"]).payload_text == '["stdin"]'


def test_a_failed_job_is_retried_and_a_queued_one_canceled(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, "failed")
    assert cli.ok("jobs", "retry", job_id) == f"job {job_id} is queued again\n"
    assert get_job(conn, job_id).attempts == 0
    assert cli.ok("jobs", "cancel", job_id) == f"job {job_id} is canceled\n"
    assert item(cli.ok("jobs", "show", job_id, "--json"))["state"] == "canceled"


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_a_wrong_state_is_named(cli: Cli, conn: Connection, command: str) -> None:
    job_id = make_job(conn, "running")
    said = cli("jobs", command, job_id)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"ayb-jobs: job {job_id} is running; only ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_a_missing_job_and_a_bad_id_have_codes_of_their_own(cli: Cli, command: str) -> None:
    assert cli("jobs", command, NOWHERE) == cli("jobs", command, NOWHERE)
    missing = cli("jobs", command, NOWHERE)
    assert (missing.code, missing.out, missing.err) == (1, "", f"ayb-jobs: there is no job {NOWHERE}\n")
    for bad in ("x", "../stats", "a/b", "%2e", "\x1b[31m", "?limit=1", "ü"):
        said = cli("jobs", command, bad)
        assert (said.code, said.out) == (2, ""), said
        assert said.err.count("\n") == 1
        assert "\x1b" not in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mail", "--payload", '{"a":'], "line 1, column 6"),
        (["mail", "--payload", '{"a": NaN}'], "NaN"),
        (["mail", "--payload", '{"a": "\\u0000"}'], "NUL"),
        (["mail", "--payload", '{"a": "\\ud800"}'], "surrogate"),
        (["mail", "--payload", "[" * 100_000], "deep"),
        (["mail", "--payload", "@/no/such/file"], "No such file"),
        (["mail", "--payload", json.dumps("x" * 1024 * 1024)], "1048576"),
        (["x" * 101], "100"),
        ([" "], "type"),
        (["a\x00b"], "type"),
        (["mail", "--queue", "x" * 101], "queue"),
        (["mail", "--idempotency-key", "x" * 256], "255"),
        (["mail", "--priority", "5"], "from 1 to 4"),
        (["mail", "--max-attempts", "99999999999"], "max"),
        (["mail", "--in", "soon"], "90s, 15m, 2h or 1d"),
        (["mail", "--in", "9999999d"], "3650d"),
        (["mail", "--at", "tomorrow"], "2030-01-31"),
        (["mail", "--at", "2030-01-31T09:00:00"], "time zone"),
        (["mail", "--in", "1h", "--at", "2030-01-31T09:00:00Z"], "not both"),
    ],
)
def test_a_bad_value_is_refused_in_words_and_nothing_is_made(
    cli: Cli, conn: Connection, arguments: list[str], words: str
) -> None:
    said = cli("jobs", "enqueue", *arguments)
    assert said.code == 2, said
    assert words.lower() in said.err.lower()
    assert "Traceback" not in said.err
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)


def test_rows_that_python_cannot_hold_are_listed_and_shown(cli: Cli, conn: Connection) -> None:
    deep, long = "[" * 3000 + "7" + "]" * 3000, "9" * 5000
    hostile = {
        make_job(conn, payload=sql.SQL(f"'{deep}'::jsonb")): "[",
        make_job(conn, payload=sql.SQL(f"'{long}'::jsonb")): "999999",
        make_job(conn, run_at=sql.SQL("'infinity'")): "9999-12-31",
        make_job(conn, "running", last_run_at=sql.SQL("'0044-03-15 BC'")): "0001-01-01",
    }
    assert {row["ID"] for row in table(cli.ok("jobs", "list"))} == hostile.keys()
    for job_id, words in hostile.items():
        assert words in cli.ok("jobs", "show", job_id)
    whole = cli.ok("jobs", "list", "--json")
    assert deep in whole
    assert long in whole


def test_what_others_wrote_cannot_steer_the_terminal(cli: Cli, conn: Connection) -> None:
    hostile = "\x1b[2J\x07\u202e\r\nsecond\tline \x9b31m"
    job_id = make_job(conn, "failed", type=hostile, queue=hostile, worker_id=hostile, last_error=hostile)
    listed, shown = cli.ok("jobs", "list"), cli.ok("jobs", "show", job_id)
    assert len(listed.splitlines()) == 2
    for text in (listed, shown):
        assert not set("\x1b\x07\u202e\r\x9b") & set(text)
    assert "\\x1b[2J" in listed
    assert "second" in shown


def test_an_empty_filter_is_none_for_a_list_and_refused_for_a_change(cli: Cli, conn: Connection) -> None:
    made = item(cli.ok("jobs", "enqueue", "mail", "--json"))["id"]
    for flag in ("--type", "--queue", "--key", "--batch", "--error"):
        assert [job["id"] for job in json.loads(cli.ok("jobs", "list", flag, "", "--json"))["items"]] == [made]
        refused = cli("jobs", "cancel", flag, "", "--yes")
        assert (refused.code, refused.err) == (
            2,
            f"ayb-jobs: {flag} is empty; leave it out, or say which jobs are meant\n",
        )
    assert get_job(conn, made).state == "queued"


def test_changes_by_hand_are_on_record(cli: Cli, conn: Connection) -> None:
    made = item(cli.ok("jobs", "enqueue", "mail", "--json"))["id"]
    cli.ok("jobs", "cancel", made)
    cli("jobs", "cancel", made)
    deeds = conn.execute("SELECT action, target, before->>'state', after->>'state' FROM _ayb_job_audit ORDER BY id")
    assert deeds.fetchall() == [("job.enqueue", made, None, "queued"), ("job.cancel", made, "queued", "canceled")]


def test_what_is_not_said_comes_from_the_configuration(database_cli: Cli, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        "[jobs]\nmax_retries_default = 7\n"
        '[job_types.tidy]\nstatements = ["SELECT 1"]\nmax_attempts = 2\npayload = { days = 3 }\n'
    )
    for name, payload, attempts in (("tidy", '{"days": 3}', 2), ("other", "{}", 7)):
        made = item(database_cli.ok("jobs", "enqueue", name, "--json", "--config", str(tmp_path / "a.toml")))
        job = get_job(conn, made["id"])
        assert (job.payload_text, job.max_attempts) == (payload, attempts)
    given = ["--payload", "[]", "--max-attempts", "1", "--config", str(tmp_path / "a.toml")]
    job = get_job(conn, item(database_cli.ok("jobs", "enqueue", "tidy", "--json", *given))["id"])
    assert (job.payload_text, job.max_attempts) == ("[]", 1)
    made = item(
        database_cli.ok(
            "schedules", "create", "--name", "n", "--job-type", "tidy", "--cron", "@daily", "--json",
            "--config", str(tmp_path / "a.toml"),
        )
    )  # fmt: skip
    assert made["maxAttempts"] == 2


HOUR_AGO = sql.SQL("now() - interval '1 hour'")
DAY_AGO = sql.SQL("now() - interval '1 day'")


def states(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT state FROM _ayb_jobs ORDER BY created_at, id")]


def test_lists_are_filtered_by_time_and_error(cli: Cli, conn: Connection) -> None:
    old = make_job(conn, "failed", created_at=DAY_AGO, last_error="OSError: disk full")
    new = make_job(conn, "failed", created_at=HOUR_AGO, last_error="KeyError: disk")
    for flags, found in (
        (["--since", "2h"], [new]),
        (["--until", "2h"], [old]),
        (["--since", "2d", "--until", "2h"], [old]),
        (["--since", "2020-01-01T00:00:00Z"], [new, old]),
        (["--error", "DISK FULL"], [old]),
        (["--error", "disk"], [new, old]),
        (["--since", "5m"], []),
    ):
        listed = json.loads(cli.ok("jobs", "list", *flags, "--json"))["items"]
        assert [job["id"] for job in listed] == found, flags
    assert "No such jobs" in cli("jobs", "list", "--error", "nothing").err
    turned = cli("jobs", "list", "--since", "2h", "--until", "5h")
    assert (turned.code, "until is not after since" in turned.err) == (2, True), turned


def test_many_jobs_are_counted_before_they_are_changed(cli: Cli, conn: Connection) -> None:
    for number in range(3):
        make_job(conn, "failed", created_at=DAY_AGO, last_error="OSError" if number else "KeyError")
    make_job(conn, "failed", created_at=HOUR_AGO, last_error="OSError")
    flags = ["--type", "test", "--queue", "default", "--state", "failed", "--until", "2h", "--error", "OSError"]
    assert cli.ok("jobs", "retry", *flags, "--dry-run") == "2 jobs are failed and would be queued again\n"
    refused = cli("jobs", "retry", *flags)
    assert (refused.code, refused.err) == (2, "ayb-jobs: 2 jobs are failed; give --yes to retry them\n")
    assert states(conn) == ["failed"] * 4
    assert cli.ok("jobs", "retry", *flags, "--yes") == "2 jobs are queued again\n"
    assert sorted(states(conn)) == ["failed", "failed", "queued", "queued"]
    assert cli.ok("jobs", "cancel", "--state", "queued", "--yes") == "2 jobs are canceled\n"
    assert sorted(states(conn)) == ["canceled", "canceled", "failed", "failed"]
    deeds = conn.execute(
        "SELECT action, before->>'error', jsonb_array_length(before->'ids') FROM _ayb_job_audit ORDER BY id"
    )
    assert deeds.fetchall() == [("jobs.retry", "OSError", 2), ("jobs.cancel", None, 2)]
    assert cli.ok("jobs", "retry", "--type", "nobody") == "0 jobs are queued again\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retry"], "give a JOB-ID, or a filter such as --type; --state failed alone means all of them"),
        (["cancel", "--yes"], "--state queued alone means all of them"),
        (["retry", NOWHERE, "--type", "a"], "not both"),
        (["retry", "--state", "running", "--yes"], "--state is running; only failed jobs can be retried"),
        (["cancel", "--state", "failed"], "--state is failed; only queued jobs can be canceled"),
        (["retry", "--since", "yesterday"], "2030-01-31"),
        (["retry", "--since", "2030-01-31T09:00:00"], "time zone"),
        (["retry", "--error", "x" * 1001], "1000"),
    ],
)
def test_a_change_of_many_is_refused_in_words(cli: Cli, conn: Connection, arguments: list[str], words: str) -> None:
    make_job(conn, "failed")
    said = cli("jobs", *arguments)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert states(conn) == ["failed"]


def test_a_job_that_fails_again_at_once_is_not_retried_for_ever(
    database_cli: Cli, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.operations.bulk.BATCH", 1)
    monkeypatch.setattr("ayb_jobs.operations.bulk.MOST_BATCHES", 1)
    for _ in range(3):
        make_job(conn, "failed")
    conn.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN UPDATE _ayb_jobs SET state = 'failed' WHERE id = new.id; RETURN NULL; END $$"
    )
    conn.execute(
        "CREATE TRIGGER fail AFTER UPDATE ON _ayb_jobs FOR EACH ROW WHEN (new.state = 'queued') EXECUTE FUNCTION fail()"
    )
    assert database_cli.ok("jobs", "retry", "--state", "failed", "--yes") == "3 jobs are queued again\n"


def keep(conn: Connection, instead: str = "") -> None:
    """Have a trigger keep jobs of a type as they are, and do something else instead."""
    conn.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF old.type = 'kept' THEN {instead} RETURN NULL; END IF; RETURN new; END $$;"
        "CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()".encode()
    )


@pytest.mark.parametrize(
    ("action", "before", "after"), [("retry", "failed", "queued"), ("cancel", "queued", "canceled")]
)
def test_a_change_of_many_sees_all_that_match_however_many_stay_as_they_are(
    cli: Cli, conn: Connection, monkeypatch: pytest.MonkeyPatch, action: str, before: str, after: str
) -> None:
    monkeypatch.setattr("ayb_jobs.operations.bulk.BATCH", 2)
    monkeypatch.setattr("ayb_jobs.operations.bulk.MOST_BATCHES", 1)
    for _ in range(7):
        make_job(conn, before, type="kept")
    last = make_job(conn, before)
    keep(conn)
    said = cli("jobs", action, "--state", before, "--yes")
    assert (said.code, said.out.split()[0]) == (0, "1")
    assert "7 stayed as they are" in said.err
    assert conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = %s", (after,)).fetchall() == [(last,)]


def test_a_change_of_many_ends_however_fast_others_are_made(
    database_cli: Cli, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.operations.bulk.BATCH", 1)
    monkeypatch.setattr("ayb_jobs.operations.bulk.MOST_BATCHES", 1)
    for _ in range(3):
        make_job(conn, type="kept")
    keep(conn, "INSERT INTO _ayb_jobs (type, created_at) VALUES ('kept', clock_timestamp());")
    assert database_cli.ok("jobs", "cancel", "--type", "kept", "--yes") == "0 jobs are canceled\n"
    assert len(states(conn)) == 3 + 5  # one for each job that a call has seen


def test_whoever_cancels_a_job_that_runs_is_told_the_flag_for_it(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, "running")
    said = cli("jobs", "cancel", job_id)
    assert said.code == 1
    assert said.err.endswith("only queued jobs can be canceled; --running has it end canceled\n")
