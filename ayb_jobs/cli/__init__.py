"""The command line: `ayb-jobs`, and `ayb`, the same program.

`main` starts it. `program` names the commands and turns whatever goes wrong into one line and an exit code (`exits` has
the table).
`options` are those that every command takes. A command that reads or changes the queue does it through a `backend`: the
database itself (`database_jobs`, `database_schedules`), or with `--url` the admin API of a running daemon (`api`).
Both answer with the same JSON, which `output` prints as it is, or as tables for people.

Whatever takes long to import is imported by the command that needs it.
"""
