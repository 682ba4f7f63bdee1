"""Jobs as lines of COPY's text format."""

from collections.abc import Iterable, Iterator

from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.payload import encode_payload

# What has a meaning in a line of COPY.
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
NULL = "\\N"
# Lines are sent together: each sending costs as much as writing a line.
LINES_AT_ONCE = 100


def as_members(jobs: Iterable[tuple[str, NewJob]], batch_id: str | None) -> list[tuple[str, NewJob]]:
    """Return jobs as members of a batch, if there is one."""
    return list(jobs) if batch_id is None else [(id_, job._replace(batch_id=batch_id)) for id_, job in jobs]


class Copied:
    """The lines of those jobs that can be copied; the others are kept, since something has to be looked up for them.

    Jobs without a time, a key and parents can be copied. `columns` are the values that many jobs have alike. With
    `batch_id`, all of them become members of that batch.
    """

    def __init__(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> None:
        self._jobs = jobs
        self._trace = trace
        self._batch_id = batch_id
        self._end = "\n" if batch_id is None else f"\t{batch_id}\n"
        self._written: dict[tuple[object, ...], str] = {}
        self.others: list[tuple[str, NewJob]] = []

    def chunks(self) -> Iterator[str]:
        """Yield some lines at a time. Thousands are written in one call, so each job is taken apart once."""
        lines: list[str] = []
        batches, written = (None, self._batch_id), self._written
        for id_, job in self._jobs:
            kind, payload, queue, priority, most, run_at, delay, key, trace, unique, parents, _, limit, batch = job
            has_time_or_key = not (
                run_at is None and delay is None and key is None and unique is None and limit is None
            )
            if has_time_or_key or parents or batch not in batches:
                self.others += as_members([(id_, job)], self._batch_id)
                continue
            values = (kind, queue, priority, most, trace or self._trace)
            # JSON has its control characters escaped already.
            text = encode_payload(payload).replace("\\", "\\\\")
            lines.append(f"{id_}\t{text}\t{written.get(values) or self._write_end(values)}")
            if len(lines) == LINES_AT_ONCE:
                yield "".join(lines)
                lines.clear()
        yield "".join(lines)

    def _write_end(self, values: tuple[object, ...]) -> str:
        """Return the end of a line, which most jobs of a call have alike."""
        if len(self._written) > LINES_AT_ONCE:
            self._written.clear()
        texts = (NULL if value is None else str(value).translate(ESCAPES) for value in values)
        end = self._written[values] = "\t".join(texts) + self._end
        return end
