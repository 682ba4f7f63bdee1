"""All the SQL of the queue, each statement above the function that runs it and named alike.

Functions take a connection and answer with values of `model`; whoever calls owns the transaction. The database's clock
is the clock: statements say `now()`, Python passes durations. `database` opens connections, and `migrate` brings the
schema up to date. `queue` is about jobs: `leasing`, `leases` and `settling` are its hot path. `schedules` is about
schedules and their fires, `fleet` about the daemons, what they were told, and what waits for them.
"""
