"""What jobs run: Python functions, and deletes and statements written as SQL in the configuration.

A `Registry` (`registry`) says which job types there are; `modules` collects those of the user's own modules, `packs`
those that come with the package, `sql` makes job types of the configuration's `[job_types.*]`, and `cleanup` does their
deletes, batch by batch. A running handler gets a `JobContext` (`context`): its payload, its log, a connection, its
deadline, and whether it was asked to stop.
"""
