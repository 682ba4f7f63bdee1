"""The API's application, imported when it is built: FastAPI takes time that the first job must not wait for."""

from collections.abc import Callable
from typing import Any

from ayb_jobs.http.services import Services


def app_factory(services: Services) -> Callable[[], Any]:
    """Return what makes the API's application; it is meant to be called in the server's thread."""

    def build() -> Any:
        from ayb_jobs.http.app import build_app  # noqa: PLC0415 - see above

        return build_app(services)

    return build
