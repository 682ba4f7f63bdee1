"""Draws docs/pictures/first-run.svg: what `make run` shows, and what a second terminal shows meanwhile.

    .venv/bin/python docs/pictures/draw.py

The daemon is the real one. It runs in a pseudo-terminal, on an embedded database in a folder that is removed at the
end. Port 8091 has to be free.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from terminal import Terminal
from window import drawing

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# As the README calls it: the daemon names it in what it proposes to type.
AYB_JOBS = ".venv/bin/ayb-jobs"
COLUMNS = 108
PATIENCE_S = 60
JOB_TYPE = "expired_auth_cleanup"


def main() -> None:
    """Run the daemon and the commands of the README's first screen, and draw both terminals."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # started by root, the server runs as another user, who has to get in
        (Path(folder) / ".venv").symlink_to(sys.prefix)
        daemon, commands = show(Path(folder))
        windows = [text.replace(folder, "…") for text in (daemon, commands)]
    (HERE / "first-run.svg").write_text(drawing(windows, columns=COLUMNS), "utf-8")


def show(folder: Path) -> tuple[str, str]:
    """Return what the daemon's terminal and a second one show."""
    with Terminal(folder, columns=COLUMNS) as first, Terminal(folder, columns=COLUMNS) as second:
        first.write(prompt("make run"))
        daemon = first.start([AYB_JOBS, "--config", ROOT / "config.example.toml", "run"])
        wait(lambda: "daemon.started" in first.text())
        for words in (["jobs", "enqueue", JOB_TYPE], ["jobs", "list"], ["schedules", "list"]):
            second.write(prompt(" ".join([AYB_JOBS, *words])))
            second.start([AYB_JOBS, *words]).wait()
            wait(lambda: "job.completed" in first.text())
        daemon.send_signal(signal.SIGINT)
        daemon.wait()
        wait(lambda: "daemon.stopped" in first.text())
        return first.text(), second.text()


def prompt(command: str) -> str:
    """Return a command as it stands after a shell's prompt."""
    return f"\x1b[2m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n"


def wait(is_so: Callable[[], bool]) -> None:
    """Return when it is so. Raises `TimeoutError` if that takes a minute."""
    give_up = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > give_up:
            raise TimeoutError("the daemon did not show what the picture needs; is port 8091 in use?")
        time.sleep(0.05)


if __name__ == "__main__":
    os.environ.pop("NO_COLOR", None)
    main()
