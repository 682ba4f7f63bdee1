"""What can be found wrong, each in one function that returns a `Finding` or none.

`/readyz`, `/metrics`, `ayb-jobs health` and `check-config` ask the same checks, so that the same fault is told in the
same sentence everywhere. A check reads and changes nothing. One that needs the database takes a connection, and its
caller decides how long it may take.
"""
