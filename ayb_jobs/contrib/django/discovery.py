"""Finds the handlers of a project's apps, and has Django's connections closed around them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import close_old_connections, reset_queries
from django.utils.module_loading import module_has_submodule

from ayb_jobs.handlers.middleware import around
from ayb_jobs.handlers.modules import imported, registries
from ayb_jobs.handlers.registry import Registry


def discovered(module: str) -> Registry:
    """Return the job types of every `Registry` in a `jobs` module of an installed app.

    `module` is where a child process finds them. Raises `InvalidInput` if one cannot be imported, or a type is defined
    twice.
    """
    found: dict[int, Registry] = {}
    for app in apps.get_app_configs():
        if module_has_submodule(app.module, "jobs"):
            found |= {id(registry): registry for registry in registries(imported(f"{app.name}.jobs")).values()}
    all_types = Registry()
    for registry in found.values():
        for job_type in registry.types():
            if job_type.executor == "async":
                run = around(job_type.run, [with_fresh_connections_async], of_async=True)
            else:
                run = around(job_type.run, [with_fresh_connections], of_async=False)
            all_types.add(replace(job_type, run=run, module=module))
    return all_types


def with_fresh_connections(_: Any, call: Callable[[], Any]) -> Any:
    """Run a handler as Django runs a request: connections that are broken or too old are closed before and after."""
    renew_connections()
    try:
        return call()
    finally:
        close_old_connections()


async def with_fresh_connections_async(_: Any, call: Callable[[], Any]) -> Any:
    """Do the same for an `async def` handler, in the thread in which Django runs its queries."""
    await sync_to_async(renew_connections)()
    try:
        return await call()
    finally:
        await sync_to_async(close_old_connections)()


def renew_connections() -> None:
    """Forget the queries that Django logs in debug mode, and close connections that are broken or too old."""
    reset_queries()
    close_old_connections()
