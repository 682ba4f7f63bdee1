"""`ayb-jobs schedules`: look at schedules; create, change and watch them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("schedules.list:list_", "List all schedules, by name.", ("ls", "all")),
    "show": Lazy("schedules.show:show", "Show one schedule.", ("get", "info", "inspect", "view", "describe")),
    "create": Lazy("schedules.create:create", "Create a schedule.", ("add", "new", "insert")),
    "update": Lazy("schedules.update:update", "Change a schedule.", ("edit", "change", "set", "modify", "alter")),
    "enable": Lazy("schedules.enable:enable", "Let a schedule fire.", ("on", "resume", "unpause", "start", "activate")),
    "disable": Lazy(
        "schedules.disable:disable", "Keep a schedule from firing.", ("off", "pause", "suspend", "deactivate")
    ),
    "delete": Lazy("schedules.delete:delete", "Delete a schedule.", ("rm", "remove", "drop")),
    "trigger": Lazy("schedules.trigger:trigger", "Run a schedule's job now.", ("run", "fire", "now", "execute")),
    "preview": Lazy("schedules.preview:preview", "Show the next fires.", ("next", "upcoming", "forecast")),
    "timeline": Lazy(
        "schedules.timeline:timeline", "Draw when schedules fire and how long they run.", ("calendar", "gantt", "chart")
    ),
    "lint": Lazy("schedules.lint:lint", "Name what looks wrong about schedules.", ("check", "validate", "verify")),
    "overdue": Lazy(
        "schedules.overdue:overdue",
        "List overdue schedules; exit code 1 if there are any.",
        ("late", "missed", "stale"),
    ),
    "fires": Lazy(
        "schedules.fires:fires", "Show what became of each fire.", ("history", "runs", "log", "logs", "ledger")
    ),
    "diff": Lazy(
        "schedules.diff:diff", "Show how schedules differ from what packs and settings define.", ("drift", "compare")
    ),
    "import": Lazy(
        "schedules.import_:import_", "Read the schedules of cron, pg_cron or Celery beat.", ("load", "convert")
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def schedules() -> None:
    """Look at schedules; create, change and watch them."""
