"""The handler of the jobs that `beside.py` measures with."""

from ayb_jobs import JobContext, Registry

registry = Registry()


@registry.handler("beside_noop")
def noop(ctx: JobContext) -> None:
    """Do nothing."""
    del ctx
