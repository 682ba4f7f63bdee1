"""Arrays for statements that take many rows at once."""

import struct
from binascii import unhexlify
from collections.abc import Iterable, Sequence

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

OID_OF_UUID = psycopg.adapters.types["uuid"].oid
# Of an array of one dimension without nulls, whose first element has number 1, as PostgreSQL's array_recv() reads it.
HEADER = struct.Struct("!iiIii")
EMPTY = struct.pack("!iiI", 0, 0, OID_OF_UUID)
BEFORE_EACH = "00000010"  # its length in bytes


class UuidArray(bytes):
    """An array of ids in the server's own form, which it takes up several times faster than text."""


class UuidArrayDumper(Dumper):
    """Sends a `UuidArray` as it stands."""

    format = Format.BINARY
    oid = psycopg.adapters.types["uuid"].array_oid

    def dump(self, obj: UuidArray) -> UuidArray:
        """Return what is sent."""
        return obj


psycopg.adapters.register_dumper(UuidArray, UuidArrayDumper)


def uuid_array(ids: Sequence[str]) -> UuidArray:
    """Write an array of ids, such as the server writes them, for the statements that each job pays for."""
    if not ids:
        return UuidArray(EMPTY)
    elements = unhexlify((BEFORE_EACH + BEFORE_EACH.join(ids)).encode().translate(None, b"-"))
    return UuidArray(HEADER.pack(1, 0, OID_OF_UUID, len(ids), 1) + elements)


def plain_array(texts: Iterable[str]) -> str:
    """Write an array of ids or fixed words, in which nothing needs quoting, at a tenth of psycopg's cost."""
    return "{" + ",".join(texts) + "}"


def numbers_array(numbers: Sequence[float | None]) -> str:
    """Write an array of numbers and nulls; an empty one if all are null, since `unnest` makes up for it."""
    if numbers.count(None) == len(numbers):
        return "{}"
    return plain_array(["NULL" if number is None else f"{number}" for number in numbers])
