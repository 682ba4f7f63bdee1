"""Rows with instants at the edges of what PostgreSQL holds, as plain SQL may write them, in every table of ours."""

from collections.abc import Iterator, Mapping
from itertools import product

from psycopg import sql

from ayb_jobs.storage.database import Connection

INSTANTS = ("infinity", "-infinity", "294276-12-31", "4713-01-01 BC")
STATES = ("queued", "running", "completed", "failed", "canceled")
PLACES = ("plain", "limited", "paused")
AN_HOUR_AGO = "now() - interval '1 hour'"
# What a row needs besides its instants. A limit, a batch, a queue and a pause of one edge belong together.
NEEDED: Mapping[str, Mapping[str, str]] = {
    "_ayb_job_schedules": {"name": "gen_random_uuid()::text", "job_type": "'mail'", "cron_expr": "'0 3 * * *'",
        "expect_success_within_s": "60"},
    "_ayb_job_limits": {"name": "'limit ' || at", "types": "ARRAY['type ' || at]", "max_running": "1", "key_max_running": "1",
        "set_by": "'sql'"},
    "_ayb_job_limit_keys": {"limit_name": "'limit ' || at", "limit_key": "state"},
    "_ayb_job_batches": {"id": "gen_random_uuid()"},
    "_ayb_jobs": {"type": "CASE place WHEN 'limited' THEN 'type ' || at ELSE 'mail' END", "state": "state",
        "queue": "CASE place WHEN 'paused' THEN 'queue ' || at ELSE 'default' END", "lease_id": "CASE state WHEN 'running' THEN gen_random_uuid() END",
        "limited_by": "CASE place WHEN 'limited' THEN 'limit ' || at END", "limited_key": "CASE place WHEN 'limited' THEN 'key' END",
        "priority": "CASE place WHEN 'limited' THEN 6 ELSE 2 END", "worker_id": "CASE state WHEN 'running' THEN 'w' END",
        "schedule_id": "(SELECT id FROM _ayb_job_schedules LIMIT 1)"},
    "_ayb_job_executions": {"id": "nextval('_ayb_job_execution_ids')", "job_id": "(SELECT id FROM _ayb_jobs LIMIT 1)", "job_type": "'mail'",
        "schedule_id": "(SELECT id FROM _ayb_job_schedules LIMIT 1)", "attempt": "1",
        "outcome": "CASE state WHEN 'queued' THEN 'lost' WHEN 'running' THEN 'snoozed' ELSE state END"},
    "_ayb_job_workers": {"id": "gen_random_uuid()", "host": "'h'", "pid": "1", "version": "'1'", "concurrency": "1",
        "queues": "'{default}'", "types": "'{mail}'"},
    "_ayb_job_pauses": {"kind": "CASE WHEN state IN ('queued', 'running') THEN 'queue' WHEN state = 'failed' THEN 'key' ELSE 'type' END",
        "name": "CASE WHEN state = 'queued' THEN 'queue ' || at ELSE gen_random_uuid()::text END", "paused_by": "'sql'"},
    "_ayb_job_fires": {"schedule_id": "(SELECT id FROM _ayb_job_schedules LIMIT 1)", "outcome": "'coalesced'"},
    "_ayb_job_alerts": {"kind": "'overdue'", "schedule_id": "(SELECT id FROM _ayb_job_schedules LIMIT 1)",
        "about": "gen_random_uuid()::text", "message": "'m'"},
    "_ayb_job_alert_deliveries": {"alert_id": "(SELECT id FROM _ayb_job_alerts LIMIT 1)", "target": "gen_random_uuid()::text"},
    "_ayb_job_audit": {"actor": "'sql'", "action": "'job.retry'"},
    "_ayb_job_results": {"job_id": "gen_random_uuid()", "result": "'1'"},
    "_ayb_job_steps": {"job_id": "(SELECT id FROM _ayb_jobs LIMIT 1)", "name": "gen_random_uuid()::text", "result": "'1'"},
    "_ayb_job_outputs": {"lease_id": "gen_random_uuid()", "job_id": "(SELECT id FROM _ayb_jobs LIMIT 1)", "attempt": "1", "output": "'o'"},
    "_ayb_job_refusals": {"job_id": "gen_random_uuid()", "worker_id": "'w'", "error": "'e'", "retry_s": "1"},
    "_ayb_job_minutes": {"job_type": "gen_random_uuid()::text"},
    "_ayb_job_levels": {"waiting": "1", "running": "1", "oldest_wait_s": "1"},
}  # fmt: skip
LIST_INSTANTS = """
    SELECT attribute.attrelid::regclass::text, attribute.attname::text, attribute.attnotnull AND NOT attribute.atthasdef
    FROM pg_attribute AS attribute JOIN pg_class AS ours ON ours.oid = attribute.attrelid
    WHERE attribute.atttypid = 'timestamptz'::regtype AND ours.relkind = 'r' AND ours.relname LIKE '\\_ayb\\_job\\_%%'
        OR attribute.atttypid = 'timestamptz'::regtype AND ours.relname = '_ayb_jobs'
"""
# A conventional theoretical arrival time stays below the year 9999.
CAPPED = "least(at::timestamptz, '9999-12-30')"


def write_edges(conn: Connection) -> None:
    """Write rows for each edge, state and place: with all instants there, and with each by itself."""
    instants: dict[str, dict[str, bool]] = {}
    for table, column, is_needed in conn.execute(LIST_INSTANTS):
        instants.setdefault(table, {})[column] = is_needed
    assert instants.keys() == NEEDED.keys()
    for table, needed in NEEDED.items():
        for chosen in _variants(table, instants[table]):
            _write(conn, table, {**needed, **chosen})


def _variants(table: str, columns: Mapping[str, bool]) -> Iterator[dict[str, str]]:
    """Yield all instants at the edge; then each there, with the others an hour ago, or with their defaults."""
    at = CAPPED if "tat" in columns else "at::timestamptz"
    alive = {"heartbeat_at": "now() - interval '1 second'"} if table == "_ayb_job_workers" else {}
    yield dict.fromkeys(columns, at) | alive
    for column in columns:
        yield dict.fromkeys(columns, AN_HOUR_AGO) | alive | {column: at}
        yield {name: AN_HOUR_AGO for name, is_needed in columns.items() if is_needed} | {column: at}


def _write(conn: Connection, table: str, columns: Mapping[str, str]) -> None:
    rows = sql.SQL(", ").join(map(_row, product(INSTANTS, STATES, PLACES if table == "_ayb_jobs" else PLACES[:1])))
    conn.execute(
        sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM (VALUES {}) AS made (at, state, place) ON CONFLICT DO NOTHING"
        ).format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ".join(columns.values())),
            rows,
        )
    )


def _row(values: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, values)))
