"""All the SQL of the queue, each statement above the function that runs it and named alike.

Functions take a connection and answer with values of `model`; whoever calls owns the transaction. The database's clock
is the clock: statements say `now()`, Python passes durations. `database` opens connections, `leasing` is the hot path
(lease, settle, extend, release, recover), `jobs`, `schedules` and `executions` are what operators and applications use,
and `migrate` brings the schema up to date.
"""
