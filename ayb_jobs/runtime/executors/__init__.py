"""What runs a handler once a slot has taken its job.

An executor is called with the job's type and its context, and returns what the handler returned, or raises what it
raised. A `JobType` names the one that it needs; the slot finds it in the table that it is given. `threads` runs a
handler in the slot's own thread.
"""

from collections.abc import Callable

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.results import Result

Executor = Callable[[JobType, JobContext], Result]
