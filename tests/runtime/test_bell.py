"""A bell ends waits, and no ring is lost."""

import threading
import time

from ayb_jobs.runtime.bell import Bell


def test_a_ring_before_the_wait_ends_it_at_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.wait(3600)
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_ring_ends_the_wait_under_way() -> None:
    bell = Bell()
    waiting = threading.Thread(target=bell.wait, args=(3600,))
    waiting.start()
    bell.ring()
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_wait_of_no_time_takes_the_ring() -> None:
    bell = Bell()
    bell.ring()
    bell.wait(0)
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05
