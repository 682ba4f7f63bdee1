"""Measures this daemon on the machine at hand, each figure beside a bare loop in the same run.

A bare loop executes the very same SQL on as many connections with nothing around it. Absolute figures say more about
the machine than about the daemon; the ratio to the bare loop survives a slow or a busy one.

- `figures`: what a measurement ends in, and how rounds become one figure.
- `scratch`: databases that are made for a measurement and dropped.
- `processes`: the processes that are measured, `measured` what runs in them, `bare` the bare loops.
- `kinds`: jobs of every kind beside the same work bare, which is in `kinds_bare`.
- `drain`, `waiting`, `enqueue`, `latency`, `deep`, `reads`, `pinned`, `watched`, `daemons`, `queues`, `idle`,
  `cleanup`, `retention`, `schedules`: one work each.
- `works`: all of them by name.
"""
