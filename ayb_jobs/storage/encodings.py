"""Databases of other encodings than UTF-8: which can be worked on, and what loops may write to them."""

import codecs
from typing import Any

import psycopg
from psycopg.types.string import StrDumperUnknown

# PostgreSQL's names that Python's codecs do not know.
PYTHONS = {"WIN": "cp", "KOI8R": "koi8_r", "KOI8U": "koi8_u"}


def unfit_encoding(conn: psycopg.Connection[Any]) -> str | None:
    """Return why texts cannot be kept in this database; None if they can, be it only those of its characters."""
    if _encoding(conn) != "SQL_ASCII":
        return None
    return (
        "the database's encoding is SQL_ASCII, which knows no characters but bytes, so that jobs could not be read back;"
        " make one with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )


def write_what_can_be_kept(conn: psycopg.Connection[Any]) -> None:
    """Have a loop's connection write a character that the database does not have as its number, such as `&#9730;`.

    A loop writes what others made, such as the text of a handler's error, and must not fail because of it. Whoever
    enqueues a job gets such characters refused instead, so this is for loops alone.
    """
    codec = _codec(_encoding(conn))
    if codec is not None:
        conn.adapters.register_dumper(str, _dumper(codec))


def _dumper(codec: str) -> type[StrDumperUnknown]:
    class Dumper(StrDumperUnknown):
        """Writes the characters that there are."""

        def dump(self, obj: str) -> bytes:
            """Return a text as it is sent, in UTF-8."""
            return obj.encode(codec, "xmlcharrefreplace").decode(codec).encode()

    return Dumper


def _encoding(conn: psycopg.Connection[Any]) -> str:
    return conn.info.parameter_status("server_encoding") or "UTF8"


def _codec(encoding: str) -> str | None:
    """Return Python's name of an encoding that is not UTF-8; None if it has none, or none is needed."""
    if encoding == "UTF8":
        return None
    for theirs, pythons in PYTHONS.items():
        encoding = encoding.replace(theirs, pythons)
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return None
