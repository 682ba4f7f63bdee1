"""The table of kinds."""

from collections.abc import Sequence

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.handlers.kinds.cleanup import CLEANUP
from ayb_jobs.handlers.kinds.exec import EXEC
from ayb_jobs.handlers.kinds.http import HTTP
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.python import PYTHON
from ayb_jobs.handlers.kinds.sql import SQL

KINDS: Sequence[Kind] = (PYTHON, SQL, CLEANUP, EXEC, HTTP)


def kind_of(settings: JobTypeSettings, kinds: Sequence[Kind] = KINDS) -> Kind:
    """Return the kind that these settings are of."""
    return next(kind for kind in kinds if kind.settings is type(settings))
