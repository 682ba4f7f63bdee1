"""Databases of other encodings than UTF-8: one without characters is refused, one with few refuses texts."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql

from ayb_jobs.checks.database import unfit_database
from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.encodings import Keepable, _codec
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.migrations import shipped_migrations
from tests.acceptance.processes import daemon
from tests.cli.conftest import Cli
from tests.eventually import eventually

_numbers = count(1)

HANDLERS = """
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("says")
def says(ctx: JobContext) -> None:
    assert ctx.payload["what"] == "Grüße"

@registry.handler("fails")
def fails(ctx: JobContext) -> None:
    raise ValueError("no ☂ in LATIN1, but é")
"""


@contextmanager
def database_of(server: EmbeddedPostgres, encoding: str) -> Iterator[str]:
    name = f"encoded_{encoding.lower()}_{next(_numbers)}"
    with closing(connect(server.url())) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
        yield server.url(name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def ended(conn: Connection) -> dict[str, str | None]:
    rows = conn.execute("SELECT type, state, last_error FROM _ayb_jobs WHERE state IN ('completed', 'failed')")
    return {type_: error for type_, _, error in rows}


def test_a_database_without_an_encoding_is_refused_at_start_in_one_line(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with database_of(postgres, "SQL_ASCII") as url:
        with daemon(tmp_path, url) as refused:
            assert refused.wait() == 78
        (line,) = [line for line in refused.log_file.read_text().splitlines() if "SQL_ASCII" in line]
        assert line.startswith("ayb-jobs: the database's encoding is SQL_ASCII")
        said = Cli({"AYB_JOBS_DATABASE_URL": url})("migrate")
        assert said.code == 78
        assert len(said.err.splitlines()) == 1
        with closing(connect(url)) as conn:
            assert conn.execute("SELECT to_regclass('_ayb_jobs') IS NULL").fetchone() == (True,)
            migrate(conn)  # as an earlier version did
            assert migrate(conn).migrations == []  # and no migration counts as changed
            (finding,) = unfit_database(conn)
            assert "SQL_ASCII" in finding.fact


def test_a_database_that_cannot_be_read_as_utf8_is_refused_at_start_in_one_line(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with database_of(postgres, "MULE_INTERNAL") as url:
        with daemon(tmp_path, url) as refused:
            assert refused.wait() == 78
        (line,) = [line for line in refused.log_file.read_text().splitlines() if "MULE_INTERNAL" in line]
        assert line.startswith("ayb-jobs: the database's encoding is MULE_INTERNAL")
        said = Cli({"AYB_JOBS_DATABASE_URL": url})("migrate")
        assert (said.code, len(said.err.splitlines())) == (78, 1)


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
def test_a_database_of_another_encoding_can_be_migrated(postgres: EmbeddedPostgres, encoding: str) -> None:
    with database_of(postgres, encoding) as url, closing(connect(url)) as conn:
        assert migrate(conn).migrations
        assert migrate(conn).migrations == []
        assert list(unfit_database(conn)) == []


# Of all that a database can be made with; MULE_INTERNAL cannot be read as UTF-8, and SQL_ASCII is refused.
ENCODINGS = [
    *("EUC_CN", "EUC_JP", "EUC_JIS_2004", "EUC_KR", "EUC_TW", "KOI8R", "KOI8U", "WIN866", "WIN874"),
    *(f"ISO_8859_{part}" for part in range(5, 9)),
    *(f"LATIN{number}" for number in range(1, 11)),
    *(f"WIN{number}" for number in range(1250, 1259)),
]
# How many of the characters beyond ASCII are kept at least, of those that are written with several bytes.
KEPT = {"EUC_CN": 7000, "EUC_JP": 13000, "EUC_JIS_2004": 6000, "EUC_KR": 8000, "EUC_TW": 13000}
EVERY_CHARACTER = "".join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x30000)]))
# All others have 256 characters, none of them beyond these; more are looked at for what they must not keep.
FEW_CHARACTERS = "".join(map(chr, [*range(1, 0x3000), 0xE000, 0xFB01, 0xFFFD, 0x1F4A9]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_loop_keeps_of_a_text_the_database_takes(conn: Connection, encoding: str) -> None:
    codec = _codec(encoding)
    assert codec is not None
    looked_at = EVERY_CHARACTER if encoding in KEPT else FEW_CHARACTERS
    written = looked_at.translate(Keepable(encoding, codec))
    assert conn.execute("SELECT length(convert_to(%s, %s)) > 0", (written, encoding)).fetchone() == (True,)
    assert sum(not character.isascii() for character in written) >= KEPT.get(encoding, 80)


def test_an_error_in_characters_that_python_has_and_the_database_has_not_is_stored(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with database_of(postgres, "EUC_JP") as url, closing(connect(url)) as conn:
        migrate(conn)
        enqueue(conn, NewJob(type="fails", max_attempts=1))
        (tmp_path / "encoded_handlers.py").write_text(HANDLERS.replace("no ☂ in LATIN1, but é", "売上 −3 〜 £5"))
        with daemon(tmp_path, url, handlers_modules="encoded_handlers"):
            eventually(lambda: ended(conn), within_s=30)
        assert "売上 &#8722;3 &#12316; &#163;5" in (ended(conn)["fails"] or "")


def test_migrations_are_plain_ascii() -> None:
    assert [migration.name for migration in shipped_migrations() if not migration.sql.isascii()] == []


def test_latin1_refuses_texts_in_words_and_no_loop_fails(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with database_of(postgres, "LATIN1") as url, closing(connect(url)) as conn:
        migrate(conn)
        enqueue(conn, NewJob(type="says", payload={"what": "Grüße"}))
        enqueue(conn, NewJob(type="fails", max_attempts=1))
        with pytest.raises(InvalidInput, match="LATIN1"):
            enqueue(conn, NewJob(type="☂"))
        with pytest.raises(InvalidInput):
            enqueue(conn, NewJob(type="says", payload={"what": "☂"}))
        (tmp_path / "encoded_handlers.py").write_text(HANDLERS)
        with daemon(tmp_path, url, handlers_modules="encoded_handlers") as running:
            eventually(lambda: len(ended(conn)) == 2, within_s=30)
            running.send(signal.SIGTERM)
            assert running.wait() == 0
            assert [line["error"] for line in running.events("loop.failed")] == []
        errors = ended(conn)
        assert errors["says"] is None
        assert "no &#9730; in LATIN1, but é" in (errors["fails"] or "")


def test_a_clients_own_encoding_is_not_taken_over(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with closing(connect(f"{database_url}&client_encoding=LATIN1")) as conn:
        assert conn.execute("SELECT '☂'").fetchone() == ("☂",)
