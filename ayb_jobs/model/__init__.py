"""The rules, as pure code: no I/O, no threads, no clock and no chance of its own.

`job` says what a job is, `results` what a handler may wish, `lifecycle` which changes of state are legal and what an
attempt's ending leads to, `backoff` how long a retry waits, `cron` when a schedule fires. Time and chance come in as
arguments, so that each rule can be tried with any value of either.
"""
