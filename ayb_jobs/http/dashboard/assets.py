"""The files that pages load."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

from ayb_jobs.http.dashboard.packing import compressed


class Assets:
    """The files of the dashboard, each with a mark of its content in its address, so that browsers may keep them."""

    TYPES: Mapping[str, str] = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

    def __init__(self) -> None:
        folder = files("ayb_jobs.http.dashboard") / "static"
        self.content = {each.name: each.read_bytes() for each in folder.iterdir() if "." in each.name}
        self.packed = {name: compressed(content) for name, content in self.content.items()}
        self._marks = {name: sha256(content).hexdigest()[:12] for name, content in self.content.items()}

    def address(self, name: str) -> str:
        """Return where a file is served."""
        return f"/static/{name}?v={self._marks[name]}"
