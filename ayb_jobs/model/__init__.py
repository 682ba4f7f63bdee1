"""The rules, as pure code: no I/O, no threads, no clock and no chance of its own.

`new_job` says what a job is as it is asked for, `job` what it is in the queue, `results` what a handler may wish,
`lifecycle` which changes of state are legal and what an attempt's ending leads to, `backoff` how long a retry waits,
`waiting` why a job waits amid its `surroundings`, `schedules` when a schedule fires. Time and chance come in as
arguments, so that each rule can be tried with any value of either.
"""
