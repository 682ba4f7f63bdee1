"""What jobs run: Python functions, and the commands, addresses, statements and deletes of the configuration.

A `Registry` (`registry`) says which job types there are; `modules` collects those of the user's own modules, `packs`
those that come with the package, and `kinds` makes job types of the configuration's `[job_types.*]`. `commands` runs
programs for jobs, `requests` posts to addresses. A running handler gets a `JobContext` (`context`): its payload, its
log, a connection, its deadline, and whether it was asked to stop.
"""
