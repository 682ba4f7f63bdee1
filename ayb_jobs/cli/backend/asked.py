"""Which of the two ways a command was asked to go, and with which token."""

import os

from ayb_jobs.cli.options import Options
from ayb_jobs.errors import InvalidInput


def api_url(options: Options) -> str:
    """Return the address of the API that was asked for; empty where the database is meant."""
    if options.url and options.database_url:
        raise InvalidInput("give --url (a daemon's API) or --database-url, not both", field="url")
    return options.url or ("" if options.database_url else os.environ.get("AYB_JOBS_URL", ""))


def token(options: Options) -> str:
    """Return the admin token: the flag's, else the environment's; empty where there is none."""
    environ = os.environ
    return options.admin_token or environ.get("AYB_JOBS_ADMIN_TOKEN") or environ.get("AYB_ADMIN_TOKEN") or ""
