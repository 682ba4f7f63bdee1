"""Each built-in job deletes exactly the rows that its origin's documentation says."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from structlog.testing import LogCapture

from ayb_jobs.config import Config, load_config
from ayb_jobs.daemon.disabled import DisabledDaemon
from ayb_jobs.events import Events
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.packs import build_registry, default_schedules, prune_webhook_deliveries
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_schedule
from tests.handlers.conftest import Lease

Rows = Mapping[str, Mapping[str, str]]
Fill = Callable[[str, Rows], None]
Labels = Callable[[str], set[str]]

BOTH = load_config(overrides={"handlers.packs": ["ayb", "barycenter"]})

PAST, FUTURE = "now() - interval '1 second'", "now() + interval '1 minute'"
DAY_AGO, NOT_DAY_AGO = "now() - interval '24 hours 1 second'", "now() - interval '23 hours 59 minutes'"
EXPIRY: Rows = {
    "gone: past": {"expires_at": PAST},
    "gone: long past": {"expires_at": "'-infinity'"},
    "kept: future": {"expires_at": FUTURE},
    "kept: never": {"expires_at": "'infinity'"},
    "kept: null": {"expires_at": "NULL"},
}
UNIX_EXPIRY: Rows = {
    "gone: past": {"expires_at": "extract(epoch FROM now())::bigint - 2"},
    "gone: zero": {"expires_at": "0"},
    "kept: future": {"expires_at": "extract(epoch FROM now())::bigint + 60"},
    "kept: far": {"expires_at": "9223372036854775807"},
}

CASES: list[tuple[str, dict[str, Rows]]] = [
    ("stale_session_cleanup", {"_ayb_sessions": EXPIRY}),
    (
        "webhook_delivery_prune",
        {
            "_ayb_webhook_deliveries": {
                "gone: older": {"delivered_at": "now() - interval '168 hours 1 second'"},
                "kept: younger": {"delivered_at": "now() - interval '167 hours 59 minutes'"},
                "kept: undelivered": {"delivered_at": "NULL"},
            }
        },
    ),
    (
        "expired_oauth_cleanup",
        {
            "_ayb_oauth_tokens": {
                "gone: expired": {"expires_at": DAY_AGO},
                "gone: revoked": {"expires_at": FUTURE, "revoked_at": DAY_AGO},
                "kept: just expired": {"expires_at": NOT_DAY_AGO},
                "kept: just revoked": {"expires_at": FUTURE, "revoked_at": NOT_DAY_AGO},
                "kept: valid": {"expires_at": FUTURE},
            },
            "_ayb_oauth_authorization_codes": {
                "gone: expired": {"expires_at": PAST},
                "gone: used": {"expires_at": FUTURE, "used_at": DAY_AGO},
                "kept: just used": {"expires_at": FUTURE, "used_at": NOT_DAY_AGO},
                "kept: valid": {"expires_at": FUTURE},
            },
        },
    ),
    ("expired_auth_cleanup", {"_ayb_magic_links": EXPIRY, "_ayb_password_resets": EXPIRY}),
    ("cleanup_expired_sessions", {"sessions": UNIX_EXPIRY}),
    ("cleanup_expired_refresh_tokens", {"refresh_tokens": UNIX_EXPIRY}),
    ("cleanup_expired_challenges", {"webauthn_challenges": UNIX_EXPIRY}),
    ("cleanup_expired_device_codes", {"device_codes": UNIX_EXPIRY}),
]


def job_type(name: str) -> JobType:
    found = build_registry(BOTH).get(name)
    assert found is not None
    return found


def test_both_packs_bring_all_nine_jobs() -> None:
    assert set(build_registry(BOTH).names()) == {name for name, _ in CASES} | {"materialized_view_refresh"}
    assert all(found.description for found in build_registry(BOTH).types())


@pytest.mark.usefixtures("origin_tables")
@pytest.mark.parametrize(("name", "tables"), CASES, ids=[name for name, _ in CASES])
def test_exactly_the_expired_rows_go(
    name: str, tables: dict[str, Rows], lease: Lease, fill: Fill, labels: Labels
) -> None:
    for table, rows in tables.items():
        fill(table, rows)
    answer = job_type(name).run(lease(name))
    assert {table: labels(table) for table in tables} == {
        table: {label for label in rows if label.startswith("kept")} for table, rows in tables.items()
    }
    assert answer == sum(label.startswith("gone") for rows in tables.values() for label in rows)


@pytest.mark.usefixtures("origin_tables")
@pytest.mark.parametrize(("name", "tables"), CASES, ids=[name for name, _ in CASES])
def test_a_second_run_finds_nothing(name: str, tables: dict[str, Rows], lease: Lease, fill: Fill) -> None:
    for table, rows in tables.items():
        fill(table, rows)
    job_type(name).run(lease(name))
    assert job_type(name).run(lease(name)) == 0


@pytest.mark.parametrize(("name", "tables"), CASES, ids=[name for name, _ in CASES])
def test_a_table_that_is_not_there_means_no_rows_and_a_warning(
    name: str, tables: dict[str, Rows], lease: Lease, logs: LogCapture
) -> None:
    assert job_type(name).run(lease(name)) == 0
    warnings = [(line["event"], line["log_level"], line["table"]) for line in logs.entries]
    assert warnings == [("cleanup.table_missing", "warning", table) for table in tables]


def test_a_table_that_is_not_there_is_warned_of_once_for_each_start(lease: Lease, logs: LogCapture) -> None:
    cleanup = job_type("stale_session_cleanup")
    for _ in range(3):
        assert cleanup.run(lease("stale_session_cleanup")) == 0
    assert job_type("stale_session_cleanup").run(lease("stale_session_cleanup")) == 0
    assert [line["log_level"] for line in logs.entries] == ["warning", "debug", "debug", "warning"]


def test_a_missing_table_does_not_keep_the_job_from_the_others(
    conn: Connection, lease: Lease, fill: Fill, labels: Labels
) -> None:
    conn.execute("CREATE TABLE _ayb_password_resets (expires_at timestamptz, label text)")
    fill("_ayb_password_resets", EXPIRY)
    assert job_type("expired_auth_cleanup").run(lease("expired_auth_cleanup")) == 2
    assert "gone: past" not in labels("_ayb_password_resets")


# Numbers that have, or may have, more digits than numeric holds.
BEYOND_NUMERIC = ["1e999999", "1" * 5_000, "1e-999999", "0." + "1" * 5_000]
DELIVERIES: Rows = {
    f"{hours} h": {"delivered_at": f"now() - interval '{hours} hours 1 second'"} for hours in (0, 1, 24, 100, 168, 1000)
}


@pytest.mark.usefixtures("origin_tables")
@pytest.mark.parametrize(
    ("payload", "hours"),
    [
        ({}, 168),
        ({"retention_hours": 24}, 24),
        ({"retention_hours": 1000}, 1000),
        ({"retention_hours": 99.5}, 99.5),
        ({"retention_hours": "24"}, 24),
        ({"retention_hours": 0}, 168),
        ({"retention_hours": 0.0}, 168),
        ({"retention_hours": -5}, 168),
        ({"retention_hours": None}, 168),
        ({"retention_hours": True}, 168),
        ({"retention_hours": "soon"}, 168),
        ({"retention_hours": "1; DROP TABLE _ayb_webhook_deliveries"}, 168),
        ({"retention_hours": [24]}, 168),
        ({"retention_hours": {"hours": 24}}, 168),
        ({"retention_hours": 10**30}, float("inf")),
        ({"retention_hours": 1e30}, float("inf")),
        *(({"retention_hours": beyond}, float("inf")) for beyond in BEYOND_NUMERIC),
        ({"retention": 24}, 168),
    ],
)
def test_retention_hours(payload: object, hours: float, lease: Lease, fill: Fill, labels: Labels) -> None:
    fill("_ayb_webhook_deliveries", DELIVERIES)
    job_type("webhook_delivery_prune").run(lease("webhook_delivery_prune", payload))
    assert labels("_ayb_webhook_deliveries") == {label for label in DELIVERIES if int(label.split()[0]) < hours}


@pytest.mark.usefixtures("origin_tables")
def test_the_legacy_pruning_deletes_deliveries_older_than_seven_days(db: Database, fill: Fill, labels: Labels) -> None:
    fill("_ayb_webhook_deliveries", DELIVERIES)
    assert prune_webhook_deliveries(db) == 2
    assert labels("_ayb_webhook_deliveries") == {"0 h", "1 h", "24 h", "100 h"}


@pytest.mark.usefixtures("origin_tables")
@pytest.mark.parametrize(
    ("retentions", "kept_h"),
    [
        ([720], 720),
        ([24], 168),  # AYB's own timer keeps seven days
        ([24, 720, 200], 720),
        ([None, "never", -1, 0], 168),
        (["720"], 720),
        ([10**30], float("inf")),
        *(([24, beyond], float("inf")) for beyond in BEYOND_NUMERIC),
    ],
)
def test_the_legacy_pruning_keeps_what_any_schedule_in_the_database_keeps(
    retentions: list[object], kept_h: float, db: Database, conn: Connection, fill: Fill, labels: Labels
) -> None:
    for hours in retentions:
        make_schedule(conn, job_type="webhook_delivery_prune", payload={"retention_hours": hours}, enabled=False)
    make_schedule(conn, job_type="another", payload={"retention_hours": 9999})
    fill("_ayb_webhook_deliveries", DELIVERIES)
    prune_webhook_deliveries(db)
    assert labels("_ayb_webhook_deliveries") == {label for label in DELIVERIES if int(label.split()[0]) < kept_h}


def test_the_legacy_pruning_does_without_its_table(db: Database) -> None:
    assert prune_webhook_deliveries(db) == 0


def test_the_legacy_pruning_does_without_our_tables(empty_database_url: str) -> None:
    with closing(Database(empty_database_url)) as database:
        assert prune_webhook_deliveries(database) == 0


def test_a_disabled_daemon_prunes_after_an_hour_and_then_each_hour(db: Database) -> None:
    disabled = DisabledDaemon(config=Config(), url=db.url, events=Events())
    (loop,) = disabled.loops()
    assert 3500 < loop._due - time.monotonic() <= 3600
    assert disabled._prune() == 3600
    disabled.stop()


def test_the_schedules_are_those_of_the_origins() -> None:
    schedules = default_schedules(BOTH)
    assert {name: (found.job_type, found.cron, found.timezone) for name, found in schedules.items()} == {
        "session_cleanup_hourly": ("stale_session_cleanup", "0 * * * *", "UTC"),
        "webhook_delivery_prune_daily": ("webhook_delivery_prune", "0 3 * * *", "UTC"),
        "expired_oauth_cleanup_daily": ("expired_oauth_cleanup", "0 4 * * *", "UTC"),
        "expired_auth_cleanup_daily": ("expired_auth_cleanup", "0 5 * * *", "UTC"),
        "cleanup_expired_sessions": ("cleanup_expired_sessions", "0 0 * * * *", "UTC"),
        "cleanup_expired_refresh_tokens": ("cleanup_expired_refresh_tokens", "0 30 * * * *", "UTC"),
        "cleanup_expired_challenges": ("cleanup_expired_challenges", "0 */5 * * * *", "UTC"),
        "cleanup_expired_device_codes": ("cleanup_expired_device_codes", "0 45 * * * *", "UTC"),
    }
    assert {found.model_dump()["overlap"] for found in schedules.values()} == {"skip"}
    assert schedules["webhook_delivery_prune_daily"].payload == {"retention_hours": 168}
