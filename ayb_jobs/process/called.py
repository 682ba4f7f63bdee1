"""How this program was called, so that what it suggests can be typed."""

import shlex
import shutil
import sys
from pathlib import Path


def as_called() -> str:
    """Return the words that call this program from the current folder: `ayb-jobs` if the shell finds it by its name."""
    called = sys.argv[0]
    if " " in Path(called).name:
        return called  # another program's command, which has put its own words there
    if Path(called).name == "__main__.py":
        return shlex.join([_from_here(sys.executable), "-m", "ayb_jobs"])
    found = shutil.which(Path(called).name)
    if found and Path(found).resolve() == Path(called).resolve():
        return Path(called).name
    return shlex.quote(_from_here(called))


def _from_here(path: str) -> str:
    """Return a path as the shell takes it in the current folder, if it lies below; else the whole path."""
    here = Path.cwd()
    below = Path(path).relative_to(here) if Path(path).is_relative_to(here) else Path(path)
    return str(below) if "/" in str(below) else f"./{below}"
