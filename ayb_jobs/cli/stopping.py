"""How a command that runs for a while is stopped."""

import signal


def end_as_by_ctrl_c() -> None:
    """Have SIGTERM and a terminal that is closed end the command as Ctrl-C does, or what it started would be left."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
