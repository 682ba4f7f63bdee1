"""docs/enqueue.md, block by block."""

import ast
import asyncio
import inspect
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from tests.client.connections import django_set_up, sqlalchemy_url
from tests.docs.reading import ROOT, blocks

DOCUMENT = ROOT / "docs" / "enqueue.md"
WORDED = [block.text for block in blocks(DOCUMENT, "python")]
IMPORTS, *WAYS = WORDED
FILL = 'NewJob(type="send_mail", payload={"to": "ada@example.com"})'


@pytest.mark.parametrize("text", WAYS, ids=["psycopg", "SQLAlchemy", "SQLAlchemy async", "asyncpg", "Django"])
def test_each_way_of_python_makes_the_job(text: str, database_url: str, conn: Connection) -> None:
    parts = conninfo_to_dict(database_url)
    names: dict[str, Any] = {
        "psycopg": psycopg,
        "asyncpg": asyncpg,
        "Session": Session,
        "AsyncSession": AsyncSession,
        "URL": f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}",
        "engine": sqlalchemy.create_engine(sqlalchemy_url(database_url, "psycopg"), poolclass=NullPool),
        "async_engine": create_async_engine(sqlalchemy_url(database_url, "asyncpg"), poolclass=NullPool),
    }
    assert FILL in text
    with django_set_up(database_url):
        exec(IMPORTS, names)  # our own document
        code = compile(text, str(DOCUMENT), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)
    assert conn.execute("SELECT type, payload->>'to' FROM _ayb_jobs").fetchall() == [("send_mail", "ada@example.com")]


def test_the_sql_works_by_psql(postgres: EmbeddedPostgres, database_url: str, conn: Connection) -> None:
    role = f"web_{conn.info.dbname}"
    calls, grants = (block.text for block in blocks(DOCUMENT, "sql"))
    conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        conn.execute(grants.replace("web", role).encode())
        run: list[str | Path] = [
            postgres.bin_dir / "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            make_conninfo(database_url, user=role),
        ]
        done = subprocess.run(run, input=calls, capture_output=True, text=True, check=True)
    finally:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    made = conn.execute("SELECT id::text, queue, idempotency_key FROM _ayb_jobs ORDER BY id").fetchall()
    assert [row[0] for row in made] == done.stdout.split()
    assert [row[1:] for row in made] == [("default", None), ("mail", "welcome-42")]


@pytest.mark.skipif(
    not (ROOT / "node_modules" / "pg").exists(), reason="pg is not installed: npm install --no-save pg@8"
)
def test_node_makes_the_job(database_url: str, tmp_path: Path) -> None:
    (program,) = (block.text for block in blocks(DOCUMENT, "js"))
    (tmp_path / "enqueue.js").write_text(program)
    environ = {**os.environ, "DATABASE_URL": database_url, "NODE_PATH": str(ROOT / "node_modules")}
    done = subprocess.run(["node", "enqueue.js"], cwd=tmp_path, check=True, capture_output=True, text=True, env=environ)
    with closing(connect(database_url)) as conn:
        made = conn.execute(
            "SELECT id::text, payload->>'to', run_at - created_at = interval '15 minutes' FROM _ayb_jobs"
        ).fetchall()
    assert made == [(done.stdout.strip(), "ada@example.com", True)]
