"""What the database's errors mean to whoever asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from ayb_jobs.errors import DatabaseError, MigrationError


@contextmanager
def worded_faults() -> Iterator[None]:
    """Raise psycopg's errors as `DatabaseError`, or as `MigrationError` where the schema is not the one needed."""
    try:
        yield
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction) as error:
        raise MigrationError(
            f"the database is not set up for this version of ayb-jobs ({_words(error)}); run: ayb-jobs migrate"
        ) from error
    except errors.QueryCanceled as error:
        raise DatabaseError("the database took too long; narrow the question, or try again later") from error
    except errors.ReadOnlySqlTransaction as error:
        raise DatabaseError("the database is read-only; changes need the primary") from error
    except errors.InsufficientPrivilege as error:
        raise DatabaseError(f"the database's user lacks a right: {_words(error)}") from error
    except psycopg.Error as error:
        raise DatabaseError(f"the database failed: {_words(error)}") from error


def _words(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
