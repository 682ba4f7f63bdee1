"""The threads of the daemon, each with one duty and one owner, the daemon. No SQL text, no HTTP.

The notifier wakes the producer, which leases jobs into the buffer; slots run them and hand each ending to the
completer, which settles many in one statement. Meanwhile the lease keeper extends what is held, the watchdog tells
handlers to stop whose time or lease runs out, the recoverer returns jobs whose daemon died, the scheduler turns due
schedules into jobs, and the pruner removes what retention no longer keeps.
"""
