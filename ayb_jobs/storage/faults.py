"""What the database's errors mean to whoever asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from ayb_jobs.errors import DatabaseError, MigrationError, RightMissing

NOT_SET_UP = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)


# Classes of SQLSTATE that tell of the server or the connection: lost, refused for want of room, shutting down.
OUTAGES = ("08", "57P", "53300", "25006")
# The ones that end the connection. As a mere error, such a one comes from a trigger that speaks to another server.
ENDINGS = ("08", "57P")
# Deadlocks, serialization failures, a full disk, locks that were not to be had, a standby: the same statement may
# succeed a moment later.
PASSING = ("40", "53", "55P03", "25006", *ENDINGS)
# Where the server looks at each row by the policies of row-level security.
CHECKS_ROWS = "ExecWithCheckOptions"
OUR_TABLES = ("_ayb_jobs", "_ayb_job_executions")


class RowUnchanged(DatabaseError):
    """The database left the row as it was, without an error: a trigger returned NULL, the old row, or another state."""

    def __init__(self) -> None:
        super().__init__("the database left the row as it was: a trigger of the application's may keep it so")


# What statements that end or extend attempts cast in vain if a trigger wrote a part of the change only.
KEPT_A_PART = "a trigger kept a part of job "


@contextmanager
def whole_rows() -> Iterator[None]:
    """Raise `RowUnchanged` for a statement that failed itself since a trigger wrote a part of a row's change only."""
    try:
        yield
    except errors.InvalidTextRepresentation as error:
        if KEPT_A_PART not in (error.diag.message_primary or ""):
            raise
        raise RowUnchanged from error


def is_outage(error: BaseException) -> bool:
    """Tell whether an error says that there is no database to work with just now, whatever was asked of it."""
    if isinstance(error, RowUnchanged):
        return False
    if is_anothers_session(error):
        return True
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        ours = OUTAGES if not _is_mere_error(error) else tuple(each for each in OUTAGES if each not in ENDINGS)
        return error.sqlstate.startswith(ours)
    return isinstance(error, DatabaseError | psycopg.OperationalError | OSError)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether the server has no room left on a disk."""
    return isinstance(error, errors.DiskFull)


def is_anothers_session(error: BaseException) -> bool:
    """Tell whether what was prepared on a connection is not there: a pooler has put another session behind it.

    The server says so of a statement before it runs. What a trigger raises has a context.
    """
    return (
        isinstance(error, errors.InvalidSqlStatementName | errors.DuplicatePreparedStatement | errors.ProtocolViolation)
        and error.diag.context is None
    )


def _is_mere_error(error: psycopg.Error) -> bool:
    """Tell whether the connection goes on, which an error of severity FATAL ends."""
    return error.diag.severity_nonlocalized == "ERROR"


def may_be_the_rows(error: BaseException) -> bool:
    """Tell whether a statement over many rows may have failed because of some of them.

    A trigger of the application's may raise any error for one row, so whatever is neither an outage nor passes by
    itself counts.
    """
    if isinstance(error, UnicodeError | RowUnchanged):
        return True
    if not isinstance(error, psycopg.Error) or is_outage(error) or is_our_statements(error):
        return False
    return not may_pass(error)


def is_our_statements(error: BaseException) -> bool:
    """Tell whether the server refused the statement itself, of any rows: a table or a right of ours is missing.

    What a trigger's own statements lack has a context. Row-level security refuses rows, by the same SQLSTATE.
    """
    return (
        isinstance(error, (*NOT_SET_UP, errors.InsufficientPrivilege))
        and error.diag.context is None
        and error.diag.source_function != CHECKS_ROWS
    )


def may_pass(error: BaseException) -> bool:
    """Tell whether the same statement may succeed a moment later, although the server refused it.

    One that fails again and again may be the rows' fault all the same: a trigger may raise these errors too.
    """
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return False
    return error.sqlstate.startswith(PASSING) and (_is_mere_error(error) or not is_outage(error))


# Serialization failures and deadlocks; sessions that the server ended because they were idle.
CONFLICTS = ("40", "57P05", "25P03")


def is_conflict(error: BaseException) -> bool:
    """Tell whether a statement has only to be repeated: another transaction won, or an idle session was ended."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(CONFLICTS)


def was_refused(error: BaseException) -> bool:
    """Tell whether the server refused a statement, for whatever reason, and the connection goes on."""
    return may_be_the_rows(error) or may_pass(error)


def blames_our_values(error: BaseException) -> bool:
    """Tell whether a value that we wrote can never be stored, so that writing it again cannot help.

    What a trigger's own statements violate is no fault of ours, and may pass.
    """
    if isinstance(error, psycopg.IntegrityError):
        return error.diag.table_name in OUR_TABLES
    if isinstance(error, psycopg.DataError):
        return "function" not in (error.diag.context or "")
    return isinstance(error, UnicodeError)


def takes_a_number(error: BaseException) -> bool:
    """Tell whether an attempt's number is taken in the execution log already."""
    return isinstance(error, errors.UniqueViolation) and error.diag.constraint_name == "_ayb_job_executions_pkey"


@contextmanager
def worded_faults() -> Iterator[None]:
    """Raise psycopg's errors as `DatabaseError`, or as `MigrationError` where the schema is not the one needed."""
    try:
        yield
    except (*NOT_SET_UP, errors.InsufficientPrivilege) as error:
        raise not_ours_to_use(error) from error
    except errors.QueryCanceled as error:
        raise DatabaseError(
            "the database took too long: a lock is held, or it is busy; narrow the question, or try again later"
        ) from error
    except errors.ReadOnlySqlTransaction as error:
        raise DatabaseError("the database is read-only; changes need the primary") from error
    except psycopg.Error as error:
        raise DatabaseError(f"the database failed: {words_of(error)}") from error


def not_ours_to_use(error: psycopg.Error) -> DatabaseError:
    """Return the error for a table that is missing, or that the daemon's role may not use."""
    if isinstance(error, errors.InsufficientPrivilege):
        return RightMissing(f"the database's user lacks a right: {words_of(error)}", _how_to_grant(error))
    return MigrationError(
        f"the database is not set up for this version of ayb-jobs ({words_of(error)}); run: ayb-jobs migrate"
    )


def _how_to_grant(error: psycopg.Error) -> str:
    """Return what gives the right that is missing; nothing for what is not ours to give."""
    if not any(named in words_of(error) for named in ("_ayb_job", "for schema ")):
        return ""
    return "as the owner of the tables, run: ayb-jobs grant ROLE --read to look, --daemon for all else"


def words_of(error: psycopg.Error) -> str:
    """Return what the server says, without the statement and its context."""
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
