"""The application: every route, behind the guard."""

from collections.abc import Callable
from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

import ayb_jobs
from ayb_jobs.events import RequestFailed
from ayb_jobs.http.dashboard import pages
from ayb_jobs.http.edge.auth import Authenticator, tokens_of
from ayb_jobs.http.edge.guard import Doors, Guard
from ayb_jobs.http.edge.problems import answer_errors
from ayb_jobs.http.routes import (
    audit,
    batches,
    bulk,
    figures,
    graphql,
    health,
    jobs,
    limits,
    openapi,
    queues,
    schedules,
    stream,
    why,
)
from ayb_jobs.http.routes import daemons as workers
from ayb_jobs.http.routes import metrics as exposition
from ayb_jobs.http.services import Services

# In this order, since /api/admin/jobs/{id} would take whatever comes after it.
ROUTERS = (
    bulk.router,
    stream.router,
    figures.router,
    jobs.router,
    schedules.router,
    queues.router,
    limits.router,
    batches.router,
    why.router,
    workers.router,
    audit.router,
    graphql.router,
    health.router,
    exposition.router,
    openapi.router,
)


def build_app(services: Services) -> Guard:
    """Return the API and the dashboard as an ASGI application on these services."""
    app = FastAPI(
        title="ayb-jobs",
        version=ayb_jobs.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    authenticator = Authenticator(tokens_of(services.api))
    app.state.authenticator = authenticator
    app.state.prober = health.Prober()
    app.state.graphql_threads = graphql.threads()
    answer_errors(app)
    if services.config.dashboard.enabled:
        app.state.dashboard = pages.pages_of(services, authenticator)
        app.router.routes += routes_of(pages.router)
    for router in ROUTERS:
        app.router.routes += routes_of(router)
    openapi.describe(app)
    doors = Doors(
        host=services.api.host,
        allowed_hosts=services.api.allowed_hosts,
        allowed_origins=services.api.allowed_origins,
    )
    return Guard(app, doors=doors, authenticator=authenticator, on_error=_reporter(services))


@cache
def routes_of(router: Callable[[], APIRouter]) -> tuple[BaseRoute, ...]:
    """Return the routes of a subject: made once, since they hold nothing of an application and take long to make."""
    return tuple(router().routes)


def _reporter(services: Services) -> Callable[[str, BaseException], None]:
    def report(request: str, error: BaseException) -> None:
        services.events.emit(RequestFailed(request=request, error=error))

    return report
