"""What runs a handler once its job is leased.

`threads` runs plain functions in the slot's own thread, `event_loop` runs `async def` functions, each as a task on one
loop (`loop_watch` tells which of them blocks it), and `processes` runs isolated ones, each slot in a `child` that it
keeps. A `JobType` names the executor that it needs. Each has its own
concurrency and its own look for jobs, so none keeps another waiting.
"""
