"""The tour: both origins' tables on a database that is thrown away, cleaned up by the real daemon.

`tables.sql` makes them, `tour` knows what each job must delete and how the daemon is getting on. The command that shows
it all is `cli.commands.demo`.
"""
