"""For tests of one's handlers: what is enqueued, and jobs run in the test's own thread, on a real database.

`enqueued`, `assert_enqueued` and `make_due` take any synchronous connection that `enqueue` takes, and see what its
transaction sees. `drain` and `run_job` take the database's address, and see what is committed. `fixtures` is a plugin
for pytest with a database for each test: `pytest_plugins = ["ayb_jobs.testing.fixtures"]`.
"""

from ayb_jobs.testing.inline import Ran, drain, run_job
from ayb_jobs.testing.inspecting import Waiting, assert_enqueued, enqueued, make_due

__all__ = ["Ran", "Waiting", "assert_enqueued", "drain", "enqueued", "make_due", "run_job"]
