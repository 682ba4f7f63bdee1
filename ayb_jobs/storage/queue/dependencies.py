"""Jobs that wait for others: which edges are to be looked at, and what becomes of the children.

One rule makes it exact: lock first, look in the next statement. Two resolvers that each saw one of a child's last two
parents end would otherwise each see the other's edge open, and leave the child to wait. A statement sees what was
committed when it began, so the look is a statement of its own, behind the lock.

An end is followed by a look once it is committed. So is the enqueueing of a child. Whichever is committed later is
followed by a look that sees both.
"""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.errors import LockNotAvailable

from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.dependencies import Edge, Family, Relative
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.rows import Deleted, named, one_row

NO_EDGE = Edge("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000")
# So many relatives of a job are shown.
MOST_SHOWN = 100


class ChildrenLocked(DatabaseError):
    """Somebody else holds a lock on a job that waits for others."""


# Each parent is a walk of the index of its own, whatever the statistics say.
FIND_EDGES_OF = """
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT id FROM unnest(%(parents)s::uuid[]) AS id WHERE id >= %(after_parent)s::uuid
    )
    SELECT edge.child_id::text, asked.id::text
    FROM asked
    CROSS JOIN LATERAL (
        SELECT child_id
        FROM _ayb_job_dependencies
        WHERE parent_id = asked.id AND is_open
            AND child_id > CASE asked.id WHEN %(after_parent)s::uuid THEN %(after_child)s::uuid ELSE %(first)s::uuid END
        ORDER BY child_id
        LIMIT %(limit)s
    ) AS edge
    ORDER BY asked.id, edge.child_id
    LIMIT %(limit)s
"""


def find_edges_of(conn: Connection, parents: Sequence[str], *, after: Edge = NO_EDGE, limit: int) -> list[Edge]:
    """Return the open edges to these parents, those behind `after` in the order of parents and children."""
    values = {
        "parents": plain_array(parents),
        "after_parent": after.parent_id,
        "after_child": after.child_id,
        "first": NO_EDGE.child_id,
        "limit": limit,
    }
    return [Edge(*row) for row in conn.execute(FIND_EDGES_OF, values)]


# A page of the open edges, and those of it whose parent has ended, or whose child no longer waits. Each job is looked
# up by its id, whatever the statistics say.
FIND_RIPE_EDGES = """
    WITH page AS MATERIALIZED (
        SELECT child_id, parent_id, rule
        FROM _ayb_job_dependencies
        WHERE is_open AND (child_id, parent_id) > (%(after_child)s::uuid, %(after_parent)s::uuid)
        ORDER BY child_id, parent_id
        LIMIT %(limit)s
    ), seen AS MATERIALIZED (
        SELECT child_id, parent_id, rule,
            (SELECT state FROM _ayb_jobs WHERE id = page.parent_id) AS parent_state,
            (SELECT state FROM _ayb_jobs WHERE id = page.child_id AND blocked_run_at IS NOT NULL) AS child_state
        FROM page
    )
    SELECT child_id::text, parent_id::text,
        parent_state IS NULL OR parent_state = 'completed' OR parent_state IN ('failed', 'canceled') AND rule <> 'hold'
            OR child_state IS DISTINCT FROM 'queued'
    FROM seen
    ORDER BY child_id, parent_id
"""


class RipeEdges(NamedTuple):
    """The edges of a page that can be closed, the last edge of the page, and whether there may be a further page."""

    ripe: list[Edge]
    last: Edge | None
    is_full: bool


def find_ripe_edges(conn: Connection, *, after: Edge = NO_EDGE, limit: int) -> RipeEdges:
    """Return the edges that can be closed among the next `limit` open ones."""
    values = {"after_child": after.child_id, "after_parent": after.parent_id, "limit": limit}
    rows = conn.execute(FIND_RIPE_EDGES, values).fetchall()
    ripe = [Edge(child, parent) for child, parent, is_ripe in rows if is_ripe]
    return RipeEdges(ripe, Edge(*rows[-1][:2]) if rows else None, len(rows) >= limit)


# In one order for all resolvers, so that none waits for another that waits for it. Here and below, a job is looked up
# by its id alone: with its state beside it, the planner may walk the index of all that waits.
LOCK_CHILDREN = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', %(patience)s, true)
    ), asked AS MATERIALIZED (
        SELECT DISTINCT id FROM impatient, unnest(%(children)s::uuid[]) AS id ORDER BY id
    )
    SELECT job.id
    FROM asked
    CROSS JOIN LATERAL (
        SELECT id FROM _ayb_jobs WHERE id = asked.id AND blocked_run_at IS NOT NULL LIMIT 1 FOR NO KEY UPDATE
    ) AS job
"""

# A child that is freed is due now at the earliest: leasing does not look below the place where it leased last. Parents
# end in the order of their ids mostly, so the last open edge is looked at first. The children are locked, so each is
# where it was seen, and in the state that it was seen in.
CLOSE_EDGES = f"""
    WITH seen AS MATERIALIZED (
        SELECT edge.place, asked.child_id, asked.parent_id, edge.rule, child.place AS child_place, child.state AS child_state,
            (SELECT state FROM _ayb_jobs WHERE id = asked.parent_id) AS parent_state
        FROM unnest(%(children)s::uuid[], %(parents)s::uuid[]) AS asked (child_id, parent_id)
        CROSS JOIN LATERAL (
            SELECT ctid AS place, rule
            FROM _ayb_job_dependencies
            WHERE child_id = asked.child_id AND parent_id = asked.parent_id AND is_open
            LIMIT 1
        ) AS edge
        LEFT JOIN LATERAL (
            SELECT ctid AS place, state FROM _ayb_jobs WHERE id = asked.child_id AND blocked_run_at IS NOT NULL LIMIT 1
        ) AS child ON true
    ), ended AS MATERIALIZED (
        SELECT * FROM seen
        WHERE parent_state IS NULL OR parent_state = 'completed' OR parent_state IN ('failed', 'canceled') AND rule <> 'hold'
            OR child_state IS DISTINCT FROM 'queued'
    ), closed AS (
        UPDATE _ayb_job_dependencies SET is_open = false WHERE ctid = ANY (ARRAY(SELECT place FROM ended))
    ), doomed AS MATERIALIZED (
        SELECT DISTINCT ON (child_id) child_id, child_place, parent_id, parent_state
        FROM ended
        WHERE parent_state IN ('failed', 'canceled') AND rule = 'cancel' AND child_state = 'queued'
        ORDER BY child_id, parent_id
    ), canceled AS (
        UPDATE _ayb_jobs AS job
        SET state = 'canceled', canceled_at = now(), updated_at = now(),
            last_error = 'it depended on job ' || doomed.parent_id
                || CASE doomed.parent_state WHEN 'failed' THEN ', which failed' ELSE ', which was canceled' END
        FROM doomed
        WHERE job.ctid = ANY (ARRAY(SELECT child_place FROM doomed)) AND job.id = doomed.child_id
            AND job.blocked_run_at IS NOT NULL
        RETURNING job.id, job.state
    ), waiting AS MATERIALIZED (
        SELECT DISTINCT child_id, child_place
        FROM ended
        WHERE child_state = 'queued' AND child_id NOT IN (SELECT child_id FROM doomed)
    ), free AS MATERIALIZED (
        SELECT child_place
        FROM waiting
        WHERE (
            SELECT true
            FROM _ayb_job_dependencies AS other
            WHERE other.child_id = waiting.child_id AND other.is_open
                AND (other.child_id, other.parent_id) NOT IN (SELECT child_id, parent_id FROM ended)
            ORDER BY other.parent_id DESC
            LIMIT 1
        ) IS NULL
    ), freed AS (
        UPDATE _ayb_jobs AS job
        SET run_at = greatest(job.blocked_run_at, now()), blocked_run_at = NULL, updated_at = now()
        WHERE job.ctid = ANY (ARRAY(SELECT child_place FROM free)) AND job.blocked_run_at IS NOT NULL
        RETURNING job.id, job.run_at, job.blocked_run_at
    ), woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM freed WHERE run_at <= now() LIMIT 1
    )
    SELECT ARRAY(SELECT id::text FROM freed WHERE blocked_run_at IS NULL),
        ARRAY(SELECT id::text FROM canceled WHERE state = 'canceled'),
        (SELECT count(*) FROM free) + (SELECT count(*) FROM doomed), (SELECT count(*) FROM woken)
"""

# What else a canceled child waited for matters no more.
FORGET_EDGES = """
    UPDATE _ayb_job_dependencies
    SET is_open = false
    WHERE ctid = ANY (ARRAY(
        SELECT edge.place
        FROM unnest(%(children)s::uuid[]) AS child (id)
        CROSS JOIN LATERAL (
            SELECT ctid AS place
            FROM _ayb_job_dependencies
            WHERE child_id = child.id AND is_open
            ORDER BY parent_id
            LIMIT 10000
        ) AS edge
    ))
"""


class Resolved(NamedTuple):
    """The children that were freed, and those that were canceled for a parent's failure, by their ids."""

    freed: Sequence[str] = ()
    canceled: Sequence[str] = ()


def resolve(conn: Connection, edges: Sequence[Edge], *, patience_s: float = 1.0) -> Resolved:
    """Close those of these edges whose parent has ended; free or cancel the children that wait for nothing more.

    To be called in a transaction. Raises `ChildrenLocked` if somebody else keeps one of the children locked, and
    `RowUnchanged` if a trigger kept one as it was.
    """
    values = {
        "children": plain_array(edge.child_id for edge in edges),
        "parents": plain_array(edge.parent_id for edge in edges),
        "patience": f"{patience_s * 1000:.0f}ms",
    }
    try:
        conn.execute(LOCK_CHILDREN, values)
    except LockNotAvailable as error:
        raise ChildrenLocked from error
    row = conn.execute(CLOSE_EDGES, values).fetchone()
    freed, canceled, count = row[:3] if row else ([], [], 0)
    if len(freed) + len(canceled) < count:
        raise RowUnchanged
    resolved = Resolved(freed, canceled)
    if resolved.canceled:
        conn.execute(FORGET_EDGES, {"children": plain_array(resolved.canceled)})
    return resolved


# Those that are waited for come first.
LIST_FAMILY = """
    WITH parents AS MATERIALIZED (
        SELECT edge.parent_id AS id, edge.rule, edge.is_open,
            (SELECT state FROM _ayb_jobs WHERE id = edge.parent_id) AS state
        FROM _ayb_job_dependencies AS edge
        WHERE edge.child_id = %(id)s::uuid
        ORDER BY edge.is_open DESC, edge.parent_id
        LIMIT %(most)s
    ), children AS MATERIALIZED (
        SELECT edge.child_id AS id, edge.rule, edge.is_open,
            (SELECT state FROM _ayb_jobs WHERE id = edge.child_id) AS state
        FROM _ayb_job_dependencies AS edge
        WHERE edge.parent_id = %(id)s::uuid
        ORDER BY edge.is_open DESC, edge.child_id
        LIMIT %(most)s
    )
    SELECT true AS is_parent, id::text, state, rule, is_open,
        (SELECT count(*) FROM _ayb_job_dependencies WHERE child_id = %(id)s::uuid) AS number
    FROM parents
    UNION ALL
    SELECT false, id::text, state, rule, is_open,
        (SELECT count(*) FROM _ayb_job_dependencies WHERE parent_id = %(id)s::uuid)
    FROM children
"""


def list_family(conn: Connection, job_id: str) -> Family:
    """Return the jobs that a job depends on and those that depend on it, up to 100 of each."""
    rows = named(conn).execute(LIST_FAMILY, {"id": job_id, "most": MOST_SHOWN}, prepare=False).fetchall()
    sides = {
        side: [
            Relative(id=row.id, state=row.state, rule=row.rule, is_open=row.is_open)
            for row in rows
            if row.is_parent is side
        ]
        for side in (True, False)
    }
    counts = {row.is_parent: row.number for row in rows}
    return Family(
        parents=sides[True],
        children=sides[False],
        parent_count=counts.get(True, 0),
        child_count=counts.get(False, 0),
    )


# A batch walks so many rows of the primary key, and looks each of their children up by its id, whatever the statistics
# say.
FIND_ORPHANED_EDGES = """
    WITH walked AS MATERIALIZED (
        SELECT child_id
        FROM _ayb_job_dependencies
        WHERE %(after)s::uuid IS NULL OR child_id > %(after)s::uuid
        ORDER BY child_id, parent_id
        LIMIT %(limit)s
    ), children AS MATERIALIZED (
        SELECT DISTINCT child_id FROM walked
    )
    SELECT
        ARRAY(
            SELECT child_id::text FROM children
            WHERE (SELECT true FROM _ayb_jobs WHERE id = children.child_id) IS NULL
            ORDER BY child_id
        ),
        (SELECT child_id::text FROM children ORDER BY child_id DESC LIMIT 1)
"""


class OrphanedEdges(NamedTuple):
    """Children that are gone and have left edges, and the id behind which the next batch goes on; None at the end."""

    child_ids: list[str]
    next: str | None


def find_orphaned_edges(conn: Connection, *, after: str | None = None, limit: int = 1000) -> OrphanedEdges:
    """Return which children are gone, of those that the next `limit` edges belong to."""
    row = conn.execute(FIND_ORPHANED_EDGES, {"after": after, "limit": limit}, prepare=False).fetchone()
    return OrphanedEdges([], None) if row is None else OrphanedEdges(*row)


DELETE_EDGES = """
    WITH gone AS (
        DELETE FROM _ayb_job_dependencies WHERE child_id = ANY (%(ids)s::uuid[]) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone,
        (SELECT count(*) AS rows FROM _ayb_job_dependencies WHERE child_id = ANY (%(ids)s::uuid[])) AS old
"""


def delete_edges(conn: Connection, child_ids: Sequence[str]) -> Deleted:
    """Remove the edges of these children."""
    return Deleted(*one_row(conn.execute(DELETE_EDGES, {"ids": list(child_ids)}, prepare=False)))
