"""The handler of the jobs that `beside.py`, `batches.py` and `flow.py` measure with."""

from ayb_jobs import JobContext, Registry

registry = Registry()


@registry.handler("beside_noop")
@registry.handler("beside_limited")
def noop(ctx: JobContext) -> None:
    """Do nothing."""
    del ctx
