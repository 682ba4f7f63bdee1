"""The app."""

import sys
from contextlib import closing
from typing import Any

from django.apps import AppConfig
from django.core.checks import Error, register
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db.models.signals import post_migrate

from ayb_jobs.contrib.django.project import database_alias, database_words
from ayb_jobs.errors import AybJobsError
from ayb_jobs.storage.database import connect_for_ourselves
from ayb_jobs.storage.fitness import refuse_unfit_kind
from ayb_jobs.storage.migrate import migrate


class AybJobsConfig(AppConfig):
    """ayb-jobs as an app of Django's."""

    name = "ayb_jobs.contrib.django"
    label = "ayb_jobs"
    verbose_name = "ayb-jobs"

    def ready(self) -> None:
        """Have the queue's tables brought up to date by `manage.py migrate`, and in databases for tests."""
        post_migrate.connect(migrate_queue, sender=self)
        register(check_database)


def check_database(**_: Any) -> list[Error]:
    """Tell `manage.py check` if the settings name no database that can hold the queue."""
    try:
        database_words()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="ayb_jobs.E001")]
    return []


def migrate_queue(using: str, verbosity: int = 1, **_: Any) -> None:
    """Bring the queue's tables up to date if `using` is the alias of its database; raises `CommandError`."""
    if using != database_alias():
        return
    try:
        with closing(connect_for_ourselves(database_words(), name="ayb-jobs-migrate")) as conn:
            refuse_unfit_kind(conn)
            applied = migrate(conn).migrations
    except AybJobsError as error:
        raise CommandError(f"ayb-jobs: {error}") from error
    if verbosity and applied:
        names = ", ".join(migration.name for migration in applied)
        sys.stdout.write(f"  Applying tables of ayb-jobs: {names}\n")
