"""Databases of other encodings than UTF-8: which can be worked on, and what loops may write to them."""

import codecs
import sys
from typing import Any

import psycopg
from psycopg.types.string import StrDumperUnknown

# PostgreSQL's names that Python's codecs do not know.
PYTHONS = {"WIN": "cp", "KOI8R": "koi8_r", "KOI8U": "koi8_u", "EUC_JIS_2004": "shift_jis", "EUC_TW": "big5"}
# Characters that Python's codec has, and PostgreSQL's encoding has not or has elsewhere.
REFUSED = {"EUC_JP": "\u00a2\u00a3\u00ac\u2016\u2212\u301c", "EUC_JIS_2004": "\u2015\uffe3\uffe5"}
# What the two have in common beyond ASCII, of an encoding that Python does not have.
COMMON = {"EUC_TW": ("\u4e00", "\u9fff")}
# The longest sequence that PostgreSQL has for a character of these; Python writes composed Hangul in eight.
MOST_BYTES = {"EUC_KR": 2}


MAKE_ONE = "make one with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"


def unreadable_encoding(error: Exception) -> str | None:
    """Return why a database to which no connection can be opened can never be read; None if it is for another reason.

    PostgreSQL converts every encoding to UTF-8 but this one.
    """
    if "MULE_INTERNAL" not in str(error):
        return None
    return f"the database's encoding is MULE_INTERNAL, which PostgreSQL does not convert to UTF-8; {MAKE_ONE}"


def unfit_encoding(conn: psycopg.Connection[Any]) -> str | None:
    """Return why texts cannot be kept in this database; None if they can, be it only those of its characters."""
    if _encoding(conn) != "SQL_ASCII":
        return None
    return (
        "the database's encoding is SQL_ASCII, which knows no characters but bytes, so that jobs could not be read back;"
        f" {MAKE_ONE}"
    )


def write_what_can_be_kept(conn: psycopg.Connection[Any]) -> None:
    """Have a loop's connection write a character that the database does not have as its number, such as `&#9730;`.

    A loop writes what others made, such as the text of a handler's error, and must not fail because of it. Whoever
    enqueues a job gets such characters refused instead, so this is for loops alone.
    """
    encoding = _encoding(conn)
    codec = _codec(encoding)
    if codec is not None:
        conn.adapters.register_dumper(str, _dumper(Keepable(encoding, codec)))


class Keepable(dict[int, int | str]):
    """For `str.translate`: a character that a database of this encoding keeps as itself, any other as its number."""

    def __init__(self, encoding: str, codec: str) -> None:
        super().__init__()
        self._encoding = encoding
        self._codec = codec

    def __missing__(self, code: int) -> int | str:
        self[code] = found = code if self._keeps(chr(code)) else f"&#{code};"
        return found

    def _keeps(self, character: str) -> bool:
        first, last = COMMON.get(self._encoding, ("", chr(sys.maxunicode)))
        if character.isascii():
            return True
        if character in REFUSED.get(self._encoding, "") or not first <= character <= last:
            return False
        try:
            data = character.encode(self._codec)
            return len(data) <= MOST_BYTES.get(self._encoding, len(data)) and data.decode(self._codec) == character
        except UnicodeError:
            return False


def _dumper(keepable: Keepable) -> type[StrDumperUnknown]:
    class Dumper(StrDumperUnknown):
        """Writes the characters that there are."""

        def dump(self, obj: str) -> bytes:
            """Return a text as it is sent, in UTF-8."""
            return obj.translate(keepable).encode()

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
