"""Django's connection with psycopg2 behind it: the same calls, the same answers and errors, and no psycopg 3 at all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from ayb_jobs.storage.database import Connection
from tests.storage.queue.test_dropped_jobs import DROP_UNWANTED

ROOT = Path(__file__).parents[2]
# Django takes psycopg 3 if it can be imported.
SET_UP = """
import json, sys
sys.modules["psycopg"] = None
import django
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, LOGGING_CONFIG=None, USE_TZ=True)
django.setup()
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from django.db import connection
from django.db.transaction import atomic
from ayb_jobs import Conflict, InvalidInput, NewJob, Unique, batch, enqueue, enqueue_many, request_cancel, wait_for
connection.ensure_connection()
assert type(connection.connection).__module__.partition(".")[0] == "psycopg2"
HOSTILE = 'a\\tb\\nc\\\\d "e" :x %s %(y)s $1 ü\\\\N'

def refused(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None
"""


def asked(url: str, code: str) -> Any:
    """Run Python code as an application on psycopg2; return what it prints as JSON."""
    parts = conninfo_to_dict(url)
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": parts["dbname"], "USER": parts["user"],
        "HOST": parts["host"], "PORT": parts.get("port", ""),
    }  # fmt: skip
    command = [sys.executable, "-c", SET_UP + code, json.dumps(database)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


JOBS = """
one = enqueue(connection, NewJob(
    type=HOSTILE, payload={HOSTILE: [HOSTILE, None, Decimal("1.10")]}, queue=HOSTILE, priority=4, max_attempts=9,
    run_at=datetime(2040, 1, 1, 12, tzinfo=UTC), idempotency_key=HOSTILE,
))
again = enqueue(connection, NewJob(type=HOSTILE, idempotency_key=HOSTILE))
many = [NewJob(type="many", payload={"n": number, "t": HOSTILE}) for number in range(1000)]
keyed = [NewJob(type="keyed", idempotency_key=key) for key in ("k", "k", "l", None)]
made = enqueue_many(connection, iter([*many, *keyed]))
unique = enqueue(connection, NewJob(type="u", payload={"n": 1}, unique=Unique(key=HOSTILE)))
replaced = enqueue(connection, NewJob(type="u", payload={"n": 2}, unique=Unique(key=HOSTILE, on_conflict="replace")))
late = enqueue(connection, NewJob(type="late", delay=timedelta(days=1, microseconds=1)))
with batch(connection, description=HOSTILE, on_done=NewJob(type="then")) as members:
    members.enqueue(NewJob(type="member"))
    members.enqueue_many([NewJob(type="member"), NewJob(type="member", delay=timedelta(hours=1))])
canceled = request_cancel(connection, late.id)
print(json.dumps([one.id == again.id, again.created, made, unique.id == replaced.id, canceled, one.id, members.id]))
"""
STORED = """
    SELECT type, payload::text LIKE '%%1.10%%', queue, priority, max_attempts, run_at::date::text, idempotency_key
    FROM _ayb_jobs WHERE id = %s
"""


@pytest.mark.outer
def test_every_call_does_there_what_it_does_elsewhere(database_url: str, conn: Connection) -> None:
    same, created, made, replaced, canceled, job_id, batch_id = asked(database_url, JOBS)
    assert (same, created, made, replaced, canceled) == (True, False, 1003, True, "canceled")
    hostile = 'a\tb\nc\\d "e" :x %s %(y)s $1 ü\\N'
    assert conn.execute(STORED, (job_id,)).fetchone() == (hostile, True, hostile, 4, 9, "2040-01-01", hostile)
    numbers = conn.execute("SELECT payload->'n' FROM _ayb_jobs WHERE type = 'many' ORDER BY id").fetchall()
    assert numbers == [(number,) for number in range(1000)]
    assert conn.execute("SELECT payload FROM _ayb_jobs WHERE type = 'u'").fetchall() == [({"n": 2},)]
    members = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE batch_id = %s", (batch_id,)).fetchone()
    assert members == (3,)


ROLLED_BACK = """
def fails(jobs):
    yield from jobs
    raise ValueError("mine")

class Undone(Exception):
    pass

try:
    with atomic():
        enqueue(connection, NewJob(type="undone"))
        enqueue_many(connection, [NewJob(type="undone")])
        raise Undone
except Undone:
    pass
told = [refused(enqueue_many, connection, fails([NewJob(type="undone")]))]
with atomic():
    told.append(refused(enqueue_many, connection, fails([NewJob(type="undone")])))
    enqueue(connection, NewJob(type="kept"))
print(json.dumps(told))
"""


@pytest.mark.outer
def test_the_callers_transaction_decides_there_too(database_url: str, conn: Connection) -> None:
    assert asked(database_url, ROLLED_BACK) == [["ValueError", "mine"]] * 2
    assert conn.execute("SELECT type FROM _ayb_jobs").fetchall() == [("kept",)]


REFUSED = """
jobs = [
    NewJob(type="unwanted"),
    NewJob(type="unwanted", unique=Unique(key="k")),
    NewJob(type="a", traceparent="x" * 56),
    NewJob(type="a", traceparent="\\x00"),
]
print(json.dumps([refused(enqueue, connection, job) for job in jobs]))
"""


@pytest.mark.outer
def test_what_cannot_be_made_is_told_there_as_elsewhere(
    database_url: str, empty_database_url: str, conn: Connection
) -> None:
    conn.execute(DROP_UNWANTED)
    told = asked(database_url, REFUSED)
    kinds = ["Conflict", "Conflict", "InvalidInput", "InvalidInput"]
    assert [kind for kind, _ in told] == kinds, told
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)
    ((kind, words),) = asked(empty_database_url, "print(json.dumps([refused(enqueue, connection, NewJob(type='a'))]))")
    assert kind == "MigrationError"
    assert "run: ayb-jobs migrate" in words
