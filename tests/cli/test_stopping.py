"""A command that runs for a while is ended by each signal as by Ctrl-C, so that it takes down what it has started."""

import os
import signal
from collections.abc import Iterator

import pytest

from ayb_jobs.cli.stopping import end_as_by_ctrl_c

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("number", NUMBERS)
def test_each_signal_interrupts_the_command(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    end_as_by_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@pytest.mark.usefixtures("_as_before")
def test_a_command_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_as_by_ctrl_c()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
