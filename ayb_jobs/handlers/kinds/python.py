"""Job types whose handlers are functions in Python, registered by the application's modules.

A `[job_types.NAME]` with the common settings alone is about such a type: it overrides what the module says of it.
"""

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.handlers.kinds.kind import Kind

PYTHON = Kind(name="python", settings=JobTypeSettings)
