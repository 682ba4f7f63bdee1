"""Who acts, how the audit trail is written, and who hears of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ayb_jobs.frozen import frozen
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.storage.audit import Kind, record_deed, snapshot
from ayb_jobs.storage.database import Connection

# Opens a transaction for one step of an operation that takes several.
Begin = Callable[[], AbstractContextManager[Connection]]


def nobody(_: ActionTaken) -> None:
    """Hear nothing: on the command line the answer is all there is."""


@frozen
class Actor:
    """Who acts, as the audit trail names them, and who is told once an operation's transaction has ended.

    A caller that opened a transaction around the operation keeps what is told until its own has ended.
    """

    name: str
    tell: Callable[[ActionTaken], None] = nobody


@contextmanager
def changing(conn: Connection, kind: Kind, target: str, *, actor: Actor, action: str) -> Iterator[None]:
    """Run the block in a transaction, record what it did to one job or schedule, and tell of it.

    If the block raises, nothing is changed, recorded or told.
    """
    with conn.transaction():
        before_text = snapshot(conn, kind, target)
        yield
        after_text = snapshot(conn, kind, target)
        record_deed(
            conn, actor=actor.name, action=action, target=target, before_text=before_text, after_text=after_text
        )
    actor.tell(ActionTaken(actor=actor.name, action=action, target=target))


def record_made(
    conn: Connection, kind: Kind, made: str, *, actor: Actor, action: str, target: str | None = None
) -> None:
    """Record a job or schedule that was made; `target` is what the action was about if that is something else."""
    after_text = snapshot(conn, kind, made)
    record_deed(conn, actor=actor.name, action=action, target=target or made, after_text=after_text)
