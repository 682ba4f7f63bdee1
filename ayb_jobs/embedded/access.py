"""Who may log in to root's server: root alone.

Root's server runs as another user, mostly `nobody`, and so do other services. PostgreSQL's own files of access lie in
the data folder, where that user could change them; so root keeps its own beside it, and names them at each start.
"""

import os
import pwd
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ayb_jobs.embedded.account import make_way

ACCESS = "local all all peer map=ayb_jobs\n"
# A server before PostgreSQL 16 takes `all` for a user's name, and lets root in as `postgres` only.
MAY_LOG_IN = "ayb_jobs {user} postgres\nayb_jobs {user} all\n"


def access_settings(place: Path, owner: int | None) -> Mapping[str, str]:
    """Return the settings by which only root, and the owner of the data unless it is `nobody`, may log in.

    Nothing if we are not root: then the socket's folder is closed to everybody else.
    """
    if owner is None:
        return {}
    folder = place / "access"
    make_way(folder / "file")
    users = ["root"] if owner == pwd.getpwnam("nobody").pw_uid else ["root", pwd.getpwuid(owner).pw_name]
    access, idents = folder / "hba.conf", folder / f"ident-{owner}.conf"
    _write(access, ACCESS)
    _write(idents, "".join(MAY_LOG_IN.format(user=user) for user in users))
    return {"hba_file": str(access), "ident_file": str(idents)}


def _write(file: Path, text: str) -> None:
    """Put a whole file in place at once: another root may be starting a server that reads it."""
    handle, unfinished = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "w") as written:
        written.write(text)
        os.fchmod(written.fileno(), 0o644)
    Path(unfinished).rename(file)
