"""The steps of one attempt: which are done already, by this attempt or an earlier one, and what they returned."""

import json
from typing import Any, NamedTuple

from psycopg.errors import UniqueViolation

from ayb_jobs.errors import Discard, InvalidInput, LeaseLost
from ayb_jobs.model.checked import checked_name
from ayb_jobs.model.job import Lease
from ayb_jobs.model.payload import decode_payload, encode_json
from ayb_jobs.model.results import MAX_RESULT_BYTES
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.steps import CHECKPOINT, find_steps, keep_step, keep_step_again

MOST_STEPS = 1000


class Done(NamedTuple):
    """What a step returned, as JSON gives it back."""

    value: Any


class Steps:
    """What the steps of a job have returned. They are read once for an attempt, when the first is asked for."""

    def __init__(self, lease: Lease, database: Database) -> None:
        self._lease = lease
        self._database = database
        self._done: dict[str, str] | None = None

    def find(self, name: str) -> Done | None:
        """Return what a step returned, if it is done; raises `InvalidInput` for no name, and for one step too many."""
        done = self._load()
        if (text := done.get(checked_name(name, "step"))) is not None:
            return Done(decode_payload(text))
        if len(done) > MOST_STEPS:
            raise InvalidInput(f"step {name} is one too many; a job has at most {MOST_STEPS} steps", field="step")
        return None

    def keep(self, name: str, returned: object) -> Any:
        """Keep what a step returned, and return it as JSON gives it back.

        Raises `LeaseLost`, and `Discard` if it cannot be kept: the step is done, and another attempt would repeat it.
        """
        try:
            text = encode_json(returned, "result", MAX_RESULT_BYTES)
        except InvalidInput as error:
            raise Discard(f"what step {name} returned cannot be kept: {error}") from None
        if not self._keep(name, text):
            raise LeaseLost
        self._load()[name] = text
        return decode_payload(text)

    def _keep(self, name: str, text: str) -> bool:
        """Keep a step's result (JSON text); False if the lease is lost."""
        try:
            with self._database.connection() as conn:
                return keep_step(conn, self._lease, name, text)
        except UniqueViolation:  # kept before, but the answer was lost; or by another thread of the handler
            with self._database.connection() as conn:
                return keep_step_again(conn, self._lease, name, text)

    def as_object(self) -> str:
        """Return what the steps returned, by their names, as the text of a JSON object."""
        done = {name: text for name, text in self._load().items() if name != CHECKPOINT}
        return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in done.items()) + "}"

    def checkpoint(self) -> Any:
        """Return the last checkpoint, of this attempt or an earlier one; None if there is none."""
        text = self._load().get(CHECKPOINT)
        return None if text is None else decode_payload(text)

    def reached(self, checkpoint: str) -> None:
        """Take note of a checkpoint (JSON text) that is stored."""
        if self._done is not None:
            self._done[CHECKPOINT] = checkpoint

    def _load(self) -> dict[str, str]:
        if self._done is None:
            with self._database.connection() as conn:
                self._done = find_steps(conn, self._lease.job_id)
        return self._done
