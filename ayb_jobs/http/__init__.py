"""The API: AYB's REST, Barycenter's GraphQL, health, metrics, and a stream of changes.

`ApiServer` owns one thread in which uvicorn serves what `build_app` made from `Services`. A request passes, in this
order, `connection` (time and size of what a client sends), `guard` (Host, Origin, body), `auth` (token and scope), and
then a route that speaks to `storage` in one bounded transaction. `problems` words every error in one shape.

Importing this package costs nothing: FastAPI and its kin are imported in the server's thread, while jobs run already.
"""

from ayb_jobs.http.application import app_factory
from ayb_jobs.http.edge.server import ApiServer
from ayb_jobs.http.services import Services

__all__ = ["ApiServer", "Services", "app_factory"]
