"""The migrations that come with this program: plain SQL files, numbered."""

import hashlib
from pathlib import Path

import ayb_jobs
from ayb_jobs.frozen import frozen


@frozen
class Migration:
    """One numbered file; `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    sql: bytes
    checksum: str


def shipped_migrations() -> list[Migration]:
    """Return the migrations that came with this program, in order."""
    return [_read(path) for path in sorted(_folder().glob("[0-9]*.sql"))]


def _folder() -> Path:
    """Return the folder of the files: inside an installed package, beside it in the source tree."""
    package = Path(ayb_jobs.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _read(path: Path) -> Migration:
    sql = path.read_bytes()
    return Migration(
        version=int(path.name.partition("_")[0]), name=path.stem, sql=sql, checksum=hashlib.sha256(sql).hexdigest()
    )
