"""Jobs as lines of COPY's text format."""

from collections.abc import Iterable, Iterator

from ayb_jobs.model.new_job import NewJob

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
        """Yield some lines at a time."""
        lines: list[str] = []
        for line in self._lines():
            lines.append(line)
            if len(lines) == LINES_AT_ONCE:
                yield "".join(lines)
                lines.clear()
        yield "".join(lines)

    def _lines(self) -> Iterator[str]:
        for id_, job in self._jobs:
            if job.batch_id in (None, self._batch_id) and _can_be_copied(job):
                # JSON has its control characters escaped already.
                payload = job.payload_text.replace("\\", "\\\\")
                yield f"{id_}\t{payload}\t{self._rest(job)}"
            else:
                self.others += as_members([(id_, job)], self._batch_id)

    def _rest(self, job: NewJob) -> str:
        """Return the end of a line, which most jobs of a call have alike."""
        values = (job.type, job.queue, job.priority, job.max_attempts, job.traceparent or self._trace)
        rest = self._written.get(values)
        if rest is None:
            texts = (NULL if value is None else str(value).translate(ESCAPES) for value in values)
            rest = self._written[values] = "\t".join(texts) + self._end
            if len(self._written) > LINES_AT_ONCE:
                self._written.clear()
        return rest


def _can_be_copied(job: NewJob) -> bool:
    return (
        job.run_at is None
        and job.delay is None
        and job.idempotency_key is None
        and job.unique is None
        and job.limit_key is None
        and not job.depends_on
    )
