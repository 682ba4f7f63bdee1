"""Handlers that run in a child process, which finds them by the module in which they are registered."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.registry import Registry


def isolation_faults(registry: Registry) -> Iterator[str]:
    """Yield which isolated types a child process could not find."""
    for job_type in registry.types():
        if job_type.executor == "process" and (fault := fault_of(job_type)):
            yield f"job type {job_type.name} cannot run in a child process: {fault}"


def fault_of(job_type: JobType) -> str | None:
    """Say why a child process could not find a handler; None if it can."""
    if job_type.module in ("", "__main__"):
        return "its handler is defined in the program itself; move it into a module, which a child can import"
    if job_type.module not in sys.modules:
        return f"its module {job_type.module} cannot be imported by this name"
    if holder(sys.modules[job_type.module], job_type.name) is None:
        return f"{job_type.module} holds no Registry with it as a global name; a child looks there"
    return None


def find_handler(module: str, name: str) -> JobType:
    """Return the job type that a module registers. Raises what importing it raises, or `InvalidInput`."""
    registry = holder(importlib.import_module(module), name)
    job_type = None if registry is None else registry.get(name)
    if job_type is None:
        raise InvalidInput(f"module {module} registers no job type {name} in a child process")
    return job_type


def holder(module: ModuleType, name: str) -> Registry | None:
    """Return the registry among a module's global names that has this job type."""
    registries = (value for value in vars(module).values() if isinstance(value, Registry))
    return next((registry for registry in registries if registry.get(name) is not None), None)
