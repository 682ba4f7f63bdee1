"""What runs a handler once its job is leased.

`threads` runs plain functions in the slot's own thread, and `event_loop` runs `async def` functions, each as a task on
one loop (`loop_watch` tells which of them blocks it). `processes` runs isolated ones, each slot in a child that it
keeps: `child_process` is the daemon's end of a child, `child` what runs in it, and `fork_server` what it is forked from
(`forking` is the daemon's end of that). `successor` begins the child that takes its place. A `JobType` names the
executor that it needs. Each has its own concurrency and its own look for jobs, so none keeps another waiting.
"""
