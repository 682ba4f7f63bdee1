"""`ayb-jobs types list`, `pause` and `resume`."""

from ayb_jobs.cli.pausing import list_command, pause_command, resume_command
from ayb_jobs.model.pauses import PauseKind

list_ = list_command(PauseKind.TYPE)
pause = pause_command(PauseKind.TYPE)
resume = resume_command(PauseKind.TYPE)
