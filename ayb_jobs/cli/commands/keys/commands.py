"""`ayb-jobs keys list`, `pause` and `resume`."""

from ayb_jobs.cli.pausing import list_command, pause_command, resume_command
from ayb_jobs.model.pauses import PauseKind

list_ = list_command(PauseKind.KEY)
pause = pause_command(PauseKind.KEY)
resume = resume_command(PauseKind.KEY)
