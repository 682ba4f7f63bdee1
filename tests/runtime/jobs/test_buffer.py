"""The buffer hands each job to one worker, in order, and never makes one wait behind another."""

import sys
import threading
from collections import Counter

from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held
from tests.eventually import eventually
from tests.factories import leased_job


def held(name: str, leased: float = 0.0) -> Held:
    return Held(leased_job(id=name, lease_id=name), leased)


def test_jobs_come_out_in_order() -> None:
    buffer = Buffer(on_low=lambda: None)
    buffer.put([held(str(number)) for number in range(5)])
    taken = [buffer.take() for _ in range(5)]
    assert [one.job.id for one in taken if one] == ["0", "1", "2", "3", "4"]


def test_a_look_for_old_jobs_survives_that_a_slot_takes_the_last_one_meanwhile() -> None:
    buffer = Buffer(on_low=lambda: None)

    def work() -> None:
        while buffer.take() is not None:
            pass

    slots = [threading.Thread(target=work) for _ in range(2)]
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for slot in slots:
            slot.start()
        for number in range(5_000):
            buffer.put([held(str(number), leased=0.0)])
            while buffer.waited_s() is not None:
                assert buffer.take_back(older_than_s=1e9) == []
    finally:
        sys.setswitchinterval(often)
        buffer.close()
        for slot in slots:
            slot.join(5)


def test_each_job_goes_to_one_worker() -> None:
    buffer = Buffer(on_low=lambda: None)
    taken: list[str] = []

    def work() -> None:
        while (one := buffer.take()) is not None:
            taken.append(one.job.id)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for batch in range(50):
        buffer.put([held(f"{batch}-{number}") for number in range(20)])
    eventually(lambda: len(taken) == 1000)
    buffer.close()
    for worker in workers:
        worker.join(5)
        assert not worker.is_alive()
    assert Counter(taken).most_common(1)[0][1] == 1


def test_a_long_job_holds_up_no_other() -> None:
    buffer = Buffer(on_low=lambda: None)
    done: list[str] = []
    release = threading.Event()

    def work() -> None:
        while (one := buffer.take()) is not None:
            if one.job.id == "long":
                release.wait(10)
            done.append(one.job.id)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    buffer.put([held("long"), *(held(str(number)) for number in range(50))])
    eventually(lambda: len(done) == 50)
    release.set()
    eventually(lambda: len(done) == 51)
    buffer.close()
    for worker in workers:
        worker.join(5)


def test_waiting_workers_are_counted_and_ask_for_more() -> None:
    asked = threading.Event()
    buffer = Buffer(on_low=asked.set)
    worker = threading.Thread(target=buffer.take)
    worker.start()
    eventually(lambda: buffer.idle == 1)
    assert asked.is_set()
    buffer.close()
    worker.join(5)
    assert buffer.idle == 0


def test_a_closed_buffer_hands_nothing_out_and_keeps_what_it_has() -> None:
    buffer = Buffer(on_low=lambda: None)
    buffer.put([held("a")])
    buffer.close()
    assert buffer.take() is None
    assert [one.job.id for one in buffer.take_back()] == ["a"]


def test_only_stale_jobs_are_taken_back() -> None:
    buffer = Buffer(on_low=lambda: None)
    assert buffer.take_back(older_than_s=1) == []
    buffer.put([held("old", leased=0.0)])
    assert len(buffer.take_back(older_than_s=1)) == 1
    buffer.put([held("new", leased=float("inf"))])
    assert buffer.take_back(older_than_s=1) == []


def test_slots_that_are_too_many_end_as_they_ask_and_missing_ones_are_told() -> None:
    buffer = Buffer(on_low=lambda: None, slots=3)
    buffer.put([held(str(number)) for number in range(4)])
    assert buffer.resize(1) == 0
    assert [buffer.take(), buffer.take()] == [None, None]
    taken = buffer.take()
    assert taken is not None
    assert buffer.resize(4) == 3
    assert buffer.take() is not None


def test_more_slots_take_back_what_was_too_many_before() -> None:
    buffer = Buffer(on_low=lambda: None, slots=3)
    assert (buffer.resize(1), buffer.resize(3)) == (0, 0)
    buffer.put([held("1")])
    assert buffer.take() is not None


def test_slots_that_wait_end_at_once_and_leave_the_jobs_to_the_others() -> None:
    buffer = Buffer(on_low=lambda: None, slots=4)
    taken: list[str] = []

    def work() -> None:
        while (one := buffer.take()) is not None:
            taken.append(one.job.id)

    slots = [threading.Thread(target=work) for _ in range(4)]
    for slot in slots:
        slot.start()
    eventually(lambda: buffer.idle == 4)
    buffer.resize(1)
    eventually(lambda: sum(slot.is_alive() for slot in slots) == 1)
    buffer.put([held(str(number)) for number in range(10)])
    eventually(lambda: len(taken) == 10)
    buffer.close()
    for slot in slots:
        slot.join(5)
