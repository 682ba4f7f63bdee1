"""Runs commands for jobs: programs of the machine, each in a session and a process group of its own.

A daemon starts no command itself. The first command makes it start one more process (`spawner_main`), which starts
commands and ends their groups: when a job is to stop, when a command has ended, and when the daemon dies, since its
sockets end then. `spawner` is the daemon's end of it, and begins a few more while commands run at once. `command` runs
one command to its end, and reads what it writes: its output (`output`), and notes on descriptor 3. `environment` says
what a command finds around it.
"""
