"""Which transactions of a handler's are open around the code that runs: they may still be rolled back."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.job import Lease


@dataclass(slots=True)
class _Block:
    lease: Lease
    is_open: bool = True


BLOCKS = "a block of ctx.connection() or ctx.transaction()"
# By thread and by task, so that a step beside a block is none within it. A task that is made within a block and
# outlives it still has the block, which then is not open.
_BLOCKS: ContextVar[tuple[_Block, ...]] = ContextVar("blocks", default=())


def _open_blocks() -> tuple[_Block, ...]:
    return tuple(block for block in _BLOCKS.get() if block.is_open)


@contextmanager
def block_of(lease: Lease) -> Iterator[None]:
    """Take note that a transaction of the handler that holds this lease is open."""
    block = _Block(lease)
    _BLOCKS.set((*_open_blocks(), block))
    try:
        yield
    finally:
        block.is_open = False
        _BLOCKS.set(_open_blocks())


def refuse_step_within_block(lease: Lease, name: str) -> None:
    """Raise `InvalidInput` if a step would begin within a transaction of the handler: it would outlive a rollback."""
    if _is_within_block(lease):
        raise InvalidInput(
            f"step {name} stands within {BLOCKS}, and would stay done if that is rolled back; open the block within the"
            " step's function, or end it first",
            field="step",
        )


def refuse_checkpoint_within_block(lease: Lease) -> None:
    """Raise `InvalidInput` if a checkpoint would be stored within a transaction of the handler."""
    if _is_within_block(lease):
        raise InvalidInput(
            f"a checkpoint stands within {BLOCKS}, and would stay if that is rolled back; end the block first",
            field="checkpoint",
        )


def _is_within_block(lease: Lease) -> bool:
    return any(block.lease == lease for block in _open_blocks())
