"""`ayb-jobs schedules`: look at schedules; create, change and watch them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("schedules.list:list_", "List all schedules, by name."),
    "show": Lazy("schedules.show:show", "Show one schedule."),
    "create": Lazy("schedules.create:create", "Create a schedule."),
    "update": Lazy("schedules.update:update", "Change a schedule."),
    "enable": Lazy("schedules.enable:enable", "Let a schedule fire."),
    "disable": Lazy("schedules.disable:disable", "Keep a schedule from firing."),
    "delete": Lazy("schedules.delete:delete", "Delete a schedule."),
    "trigger": Lazy("schedules.trigger:trigger", "Run a schedule's job now."),
    "preview": Lazy("schedules.preview:preview", "Show the next fires."),
    "timeline": Lazy("schedules.timeline:timeline", "Draw when schedules fire and how long they run."),
    "lint": Lazy("schedules.lint:lint", "Name what looks wrong about schedules."),
    "overdue": Lazy("schedules.overdue:overdue", "List overdue schedules; exit code 1 if there are any."),
    "fires": Lazy("schedules.fires:fires", "Show what became of each fire."),
    "diff": Lazy("schedules.diff:diff", "Show how schedules differ from what packs and settings define."),
    "import": Lazy("schedules.import_:import_", "Read the schedules of cron, pg_cron or Celery beat."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def schedules() -> None:
    """Look at schedules; create, change and watch them."""
