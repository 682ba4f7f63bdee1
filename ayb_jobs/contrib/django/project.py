"""What a project's settings say to ayb-jobs."""

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ayb_jobs.model.project import Project

HANDLERS = "ayb_jobs.contrib.django.handlers"
# What Django hands to psycopg that is no word of an address.
PSYCOPGS_OWN = {"context", "cursor_factory", "prepare_threshold", "row_factory", "autocommit"}


def database_alias() -> str:
    """Return the alias of the database that holds the queue: `AYB_JOBS_DATABASE` of the settings, or `default`."""
    alias: str = getattr(settings, "AYB_JOBS_DATABASE", "default")
    return alias


def database_words() -> str:
    """Return the address of the queue's database as `key=value` words; in a test, that of Django's test database.

    Raises Django's `ImproperlyConfigured` if there is no such database, or if it is no PostgreSQL.
    """
    alias = database_alias()
    if alias not in connections.settings:
        raise ImproperlyConfigured(
            f"AYB_JOBS_DATABASE is {alias!r}, and DATABASES has no such alias; give one of {', '.join(connections.settings)}"
        )
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f"ayb-jobs keeps its queue in PostgreSQL, and DATABASES[{alias!r}] is {connection.vendor};"
            " name another in AYB_JOBS_DATABASE"
        )
    return address_words(connection.get_connection_params())


def address_words(params: dict[str, Any]) -> str:
    """Return the parameters of a connection as `key=value` words, for what libpq knows."""
    known = {key: value for key, value in params.items() if key not in PSYCOPGS_OWN and isinstance(value, str | int)}
    return " ".join(f"{key}={quoted(str(value))}" for key, value in known.items())


def quoted(value: str) -> str:
    """Return a value as libpq reads it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def project() -> Project:
    """Return what holds in a project unless its file, the environment or a flag says otherwise."""
    return Project(
        name=os.environ.get("DJANGO_SETTINGS_MODULE", "Django"),
        values={
            "jobs.enabled": True,
            "handlers.modules": [HANDLERS],
            "handlers.packs": [],
            "database.url": database_words(),
        },
    )
