"""Named steps of a job's life at which a test has the process killed, as by a power cut.

Inert unless the environment names one as the process starts; then each step costs one comparison.
"""

import os
import signal

ARMED = os.environ.get("AYB_JOBS_FAILPOINT", "")

LEASED = "leased"
BEGUN = "begun"
ENDED = "ended"
SETTLING = "settling"
SETTLED = "settled"
EXTENDED = "extended"
RECOVERED = "recovered"
FIRING = "firing"
FIRED = "fired"
RELEASED = "released"
COMMITTING = "committing"
BATCH_LOCKED = "batch_locked"
BATCH_CLOSED = "batch_closed"


def reach(step: str) -> None:
    """Kill the process where this step is the one that is armed."""
    if step == ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
