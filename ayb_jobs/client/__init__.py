"""What an application imports to enqueue jobs, whatever driver its connection is of.

`enqueueing` has the calls. `drivers` knows connections by their classes' names, imports no driver, and says what is
wrong with anything else that is given; `sync_drivers` and `async_drivers` send statements by each. What is sent and
what follows from the answers is in `steps`, once for all of them. `copying` writes rows for COPY, `dialects` writes
statements as a driver wants them, and `faults` words the database's refusals.

Every job is made in the caller's own transaction. One call sends one notification.
"""
