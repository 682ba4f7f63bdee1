"""The database's refusals in our words, by SQLSTATE, whatever driver they come through."""

from collections.abc import Iterator
from contextlib import contextmanager

from ayb_jobs.errors import Conflict, DatabaseError, InvalidInput, MigrationError

# Undefined tables, columns and functions.
NOT_SET_UP = ("42P01", "42703", "42883")
NO_RIGHT = "42501"
TOO_COMPLEX = "54001"
DATA = "22"
# What our SQL functions raise of a job that a trigger drops.
NOT_IN_STATE, NOT_MADE = "55000", "the job was not made:"
OURS = "_ayb_job"


@contextmanager
def worded(level: str = "--enqueue") -> Iterator[None]:
    """Raise what the database refuses as one of our errors, if it is about our tables or about a value.

    `level` is what a role has to be granted for the call.

    Everything else passes as it is, such as a lost connection, a deadlock, or an error of the application's own.
    """
    try:
        yield
    except UnicodeError as error:
        raise InvalidInput(f"a value does not fit the connection's encoding: {error}") from None
    except Exception as error:
        ours = in_our_words(error, level)
        if ours is None:
            raise
        raise ours from error


def in_our_words(error: BaseException, level: str) -> Exception | None:
    """Return our error for one of a driver's; None if it is none of ours to word."""
    origin = _origin(error)
    state, words = _sqlstate(origin), _words(origin)
    if state in NOT_SET_UP and OURS in words:
        return MigrationError(
            f"the database is not set up for this version of ayb-jobs ({words}); run: ayb-jobs migrate"
        )
    if state == NO_RIGHT and OURS in words:
        return DatabaseError(f"the database's user lacks a right: {words}; run: ayb-jobs grant ROLE {level}")
    if state == NOT_IN_STATE and words.startswith(NOT_MADE):
        return Conflict(words)
    if state == TOO_COMPLEX:
        return InvalidInput("payload is nested too deeply", field="payload")
    if state.startswith(DATA) or (not state and _is_data_error(origin)):
        return InvalidInput(f"the database refuses a value: {words}")
    return None


def _origin(error: BaseException) -> BaseException:
    """Return the driver's error: SQLAlchemy keeps it as `orig`, and Django as the cause, of its own."""
    found: BaseException | None = error
    while found is not None:
        if _sqlstate(found) and not isinstance(getattr(found, "orig", None), BaseException):
            return found
        found = getattr(found, "orig", None) or found.__cause__
    return error


def _sqlstate(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else ""


def _words(error: BaseException) -> str:
    """Return what the server says, without its context."""
    said = getattr(getattr(error, "diag", None), "message_primary", None) or getattr(error, "message", None)
    return said if isinstance(said, str) else str(error).partition("\n")[0].rpartition("'>: ")[2]


def _is_data_error(error: BaseException) -> bool:
    """Tell whether a driver refused a value before it was sent; psycopg2 has no error of its own for a NUL."""
    is_nul = isinstance(error, ValueError) and "NUL (0x00)" in str(error)
    return is_nul or any(cls.__name__ == "DataError" for cls in type(error).__mro__)
