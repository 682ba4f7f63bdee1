"""The lanes of a look: where the last lease in each ended, and how much of a batch each has had lately."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.queue.lanes import NO_FLOOR, Lane

# How much of the newest batch counts in the mean.
NEWEST = 0.25


class Lanes:
    """The lanes of some queues.

    With many queues a look that found a full batch is followed by one `by_turn`, which must not lock a batch in each.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self.by_turn = False
        self._many = len(queues) > 1
        self._bottom = [Lane(queue, priority) for priority in range(1, 5) for queue in queues]
        self._places = {(lane.queue, lane.priority): place for place, lane in enumerate(self._bottom)}
        self._lanes = list(self._bottom)
        self._parts = [1 / len(queues)] * len(self._bottom)
        self._rooms: Mapping[str, int] = {}
        self._owed: set[str] = set()

    def forget_floors(self) -> None:
        """Look from the bottom of each lane next."""
        self._lanes = list(self._bottom)

    def now(self, limit: int, rooms: Mapping[str, int], *, sweeping: bool) -> list[Lane]:
        """Return the lanes for a look for up to `limit` jobs, from the bottom if it is `sweeping`.

        `rooms` are the queues that may fill some slots only, with how many of these are free.
        """
        self._rooms = rooms
        lanes = self._bottom if sweeping else self._lanes
        if self.by_turn:
            lanes = self._with_shares(lanes, limit)
        return self._with_rooms(lanes, rooms, sweeping=sweeping) if rooms else list(lanes)

    def _with_rooms(self, lanes: Sequence[Lane], rooms: Mapping[str, int], *, sweeping: bool) -> list[Lane]:
        """Leave queues out that are full. What a sweep leaves out is looked at from the bottom once it is not."""
        full = {queue for queue, room in rooms.items() if not room}
        owed = self._owed if not sweeping else set[str]()
        self._owed = full if sweeping else self._owed & full
        return [
            self._bottom[place]._replace(share=lane.share, room=rooms.get(lane.queue, lane.room))
            if lane.queue in owed
            else lane._replace(room=rooms.get(lane.queue, lane.room))
            for place, lane in enumerate(lanes)
            if lane.queue not in full
        ]

    def _with_shares(self, lanes: Sequence[Lane], limit: int) -> list[Lane]:
        return [lane._replace(share=share_of(part * limit)) for lane, part in zip(lanes, self._parts, strict=True)]

    def looked(self, jobs: Sequence[LeasedJob], limit: int, *, full: bool, sweeping: bool) -> None:
        """Note what a look for up to `limit` jobs has met, and whether these were as many."""
        if self._many and jobs:
            self._note_parts(jobs, limit)
        self._raise_floors(jobs if full or not sweeping else self._of_filled(jobs))
        self.by_turn = full and self._many

    def has_filled(self, jobs: Sequence[LeasedJob], *, kept: bool) -> bool:
        """Tell whether the last look got all that some queue had room for. `kept` says that it met jobs it let lie."""
        return bool(self._rooms) and (kept or bool(self._of_filled(jobs)))

    def _raise_floors(self, jobs: Sequence[LeasedJob]) -> None:
        """Start the next look of each lane where this one ended.

        A sweep that found a whole batch, or all that a queue had room for, may lower a floor: there is more below the
        old one. One that ran dry leaves it, since it has looked at everything between.
        """
        ends = {(job.queue, job.priority): (job.run_at_text, job.id) for job in jobs}
        for lane, (run_at, job_id) in ends.items():
            place = self._places.get(lane)
            if place is None:
                continue  # a trigger of the application's has moved the job
            self._lanes[place] = self._bottom[place]._replace(floor_run_at=run_at, floor_id=job_id)

    def walked(self, until: str) -> None:
        """Start the next look of each lane here at the earliest: whatever is due before was looked at, and not wanted.

        `until` is the database's text of an instant, which sorts as instants do.
        """
        self._lanes = [
            lane if lane.floor_run_at >= until else lane._replace(floor_run_at=until, floor_id=NO_FLOOR[1])
            for lane in self._lanes
        ]

    def _of_filled(self, jobs: Sequence[LeasedJob]) -> list[LeasedJob]:
        """Return the jobs of those queues that got all that they had room for."""
        taken = Counter(job.queue for job in jobs if job.queue in self._rooms)
        return [job for job in jobs if job.queue in taken and taken[job.queue] >= self._rooms[job.queue]]

    def _note_parts(self, jobs: Sequence[LeasedJob], limit: int) -> None:
        """Learn which part of a batch each lane has, of those that were reached."""
        met = Counter((job.queue, job.priority) for job in jobs)
        reached = jobs[-1].priority
        for lane, place in self._places.items():
            if lane[1] > reached:
                break
            part = met[lane] / limit
            known = self._parts[place]
            more_than_guessed = met[lane] >= share_of(known * limit)
            self._parts[place] = part if more_than_guessed else known + NEWEST * (part - known)


def share_of(mean: float) -> int:
    """Return how many jobs a lane hardly ever has in a batch, if it has `mean` on average and jobs come at random."""
    return int(mean + 3 * sqrt(mean)) + 3
