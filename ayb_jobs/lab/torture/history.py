"""The history: what clients asked, and what they were told, one line of JSON each, appended as it happens."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ayb_jobs.lab.checker import Operation

What = Literal["ask", "ok", "fail", "unknown"]


class History:
    """Writes the history of every client into one file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, kind: str, key: str, what: What, job_id: str | None = None) -> None:
        """Append a line: first that something is asked, then how it was answered."""
        line = {"kind": kind, "key": key, "what": what, "job": job_id, "at": time.monotonic()}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> list[Operation]:
    """Return every operation. One that was tried again is one: it is ok once any try was, and unknown once any was."""
    operations: dict[tuple[str, str], Operation] = {}
    with path.open() as file:
        for text in file:
            line = json.loads(text)
            at = (line["kind"], line["key"])
            operations[at] = _after(operations.get(at), line)
    return list(operations.values())


def _after(operation: Operation | None, line: Mapping[str, Any]) -> Operation:
    if operation is None:
        return Operation(line["kind"], line["key"], "unknown", line["job"], line["at"], None)
    if line["what"] == "ok" or (line["what"] == "fail" and operation.answered is None):
        return operation._replace(answer=line["what"], job_id=line["job"] or operation.job_id, answered=line["at"])
    if line["what"] == "unknown" and operation.answer != "ok":
        return operation._replace(answer="unknown", answered=line["at"])
    return operation
