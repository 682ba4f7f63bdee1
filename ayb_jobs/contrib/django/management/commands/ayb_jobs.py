"""`manage.py ayb_jobs`: the program `ayb-jobs`, on the project's database and with its handlers."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandParser

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.main import main
from ayb_jobs.contrib.django.project import project

# As usage and hints show it.
CALLED = "python manage.py ayb_jobs"


class Command(BaseCommand):
    """Hands its arguments on."""

    help = "Run ayb-jobs on this project's database: the daemon (`run`), or any other command of it."
    requires_system_checks: Sequence[str] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the program with all that stands behind this command's name."""
        parser = CommandParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--settings")  # these two are for Django, which has read them
        parser.add_argument("--pythonpath")
        _, rest = parser.parse_known_args(argv[2:])
        sys.argv = [CALLED, *rest]
        try:
            known = project()
        except ImproperlyConfigured as error:
            self.stderr.write(f"ayb-jobs: {error}")
            sys.exit(ExitCode.CONFIG)
        main(project=known)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the program's arguments, as `call_command` gives them."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, arguments: Sequence[str], **__: Any) -> None:
        """Run the program for `call_command`; raises `SystemExit`."""
        main(arguments, project=project())
