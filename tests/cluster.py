"""A primary and its synchronous standby, which take turns."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import connect
from tests import servers
from tests.eventually import eventually

# Standbys must keep what the primary has acknowledged, through the end of its process.
SETTINGS = {"fsync": "off", "synchronous_commit": "on", "max_connections": "100", "wal_keep_size": "64MB"}
SYNCHRONOUS = "ALTER SYSTEM SET synchronous_standby_names = '*'"
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"


class Cluster:
    """Two servers with places of their own, so that one address names both, whichever is the primary."""

    def __init__(self, like: EmbeddedPostgres, folder: Path) -> None:
        self.primary, self.standby = (servers.server_in(folder / name, like, SETTINGS) for name in ("first", "second"))
        parts = [conninfo_to_dict(server.url()) for server in (self.primary, self.standby)]
        hosts, ports = (",".join(str(part[key]) for part in parts) for key in ("host", "port"))
        # The address of whichever takes writes.
        self.url = make_conninfo(self.primary.url(), host=hosts, port=ports, target_session_attrs="read-write")

    @classmethod
    @contextmanager
    def running(cls, like: EmbeddedPostgres, folder: Path) -> Iterator[Self]:
        """Run a primary and its standby in `folder`, with the programs of `like`, for the time of the block."""
        cluster = cls(like, folder)
        try:
            cluster._make_primary()
            cluster.build_standby()
            yield cluster
        finally:
            for server in (cluster.standby, cluster.primary):
                server.stop("immediate")

    def promote(self, *, both_live: bool = False) -> None:
        """Have the standby take the primary's place, which ends as in a crash.

        Nothing commits until a standby is there.

        With `both_live` the old primary ends only after that, as where it was cut off and not dead.
        """
        if not both_live:
            self.primary.stop("immediate")
        servers.run(self.standby, "pg_ctl", "promote", "-w", "-D", "data")
        self.primary.stop("immediate")
        self.primary, self.standby = self.standby, self.primary

    def build_standby(self) -> None:
        """Copy the primary anew, and have the copy follow it; returns once the primary waits for it at each commit."""
        shutil.rmtree(self.standby.data_dir, ignore_errors=True)
        source = make_conninfo(self.primary.url(), dbname="")
        copied = ("--dbname", source, "--pgdata", "data", "--checkpoint=fast", "--no-sync", "--write-recovery-conf")
        servers.run(self.standby, "pg_basebackup", *copied)
        self.standby.start()
        with closing(connect(self.primary.url())) as conn:
            eventually(lambda: conn.execute(IN_STEP).fetchone() == (1,), within_s=60)

    def _make_primary(self) -> None:
        servers.make(self.primary, "--wal-segsize=1")
        self.primary.start()
        with closing(connect(self.primary.url())) as conn:
            conn.execute(SYNCHRONOUS)
            conn.execute("SELECT pg_reload_conf()")
