"""Each admin action once: its rule, its transaction, its audit row, its notification and its event.

The HTTP API, GraphQL and the command line parse what they are asked, call an operation, and show its answer or its
error. An operation takes a connection and opens its transaction there, a savepoint if the caller has one already. One
that works in steps (`bulk`, deleting a schedule) takes `begin`, which opens a transaction for each step.
`Actor` says who acts and who hears of it.
"""
