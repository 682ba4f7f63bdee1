"""Handlers that take the payload as a dataclass or a pydantic model: it is validated before they run."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from ayb_jobs.errors import Discard, InvalidInput
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext

BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
# Further fields that do not fit are counted.
MOST_NAMED = 10


def model_of(name: str, run: Callable[..., object]) -> type | None:
    """Return the class by which the handler of job type `name` wants its payload; None if it wants none.

    Raises `InvalidInput` if there is a second parameter that is annotated with none, or with one that is not known yet.
    """
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError):
        return None  # some built-in callables have no signature to look at
    second = parameters[1] if len(parameters) > 1 and parameters[1].kind in BY_PLACE else None
    if second is None:
        return None
    annotation = _resolved(name, run, second)
    if isinstance(annotation, type) and (is_dataclass(annotation) or issubclass(annotation, BaseModel)):
        return annotation
    if second.default is not inspect.Parameter.empty:
        return None
    raise InvalidInput(
        f"the handler of {name} has a parameter {second.name!r} that is annotated with neither a dataclass nor a pydantic"
        " model; a handler takes the JobContext, and may take the payload as one of these",
        field="handler",
    )


def _resolved(name: str, run: Callable[..., object], parameter: inspect.Parameter) -> object:
    """Return a parameter's annotation, even if the module has its annotations as texts."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return inspect.signature(run, eval_str=True).parameters[parameter.name].annotation
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise InvalidInput(
            f"the annotation {parameter.annotation} of the handler of {name} cannot be found ({error}); define it in the"
            " module, above the handler",
            field="handler",
        ) from None


def validating(name: str, run: Callable[..., Any], model: type, *, is_async: bool) -> Callable[[Any], Any]:
    """Return a handler that runs `run` with the validated payload, and discards a job whose payload does not fit."""
    try:
        adapter: TypeAdapter[object] = TypeAdapter(model)
    except PydanticUserError as error:
        raise InvalidInput(f"the payload of {name} cannot be validated: {error.message}", field="handler") from None

    def payload(ctx: JobContext | AsyncJobContext) -> object:
        try:
            return adapter.validate_json(ctx.job.payload_text or "null")
        except ValidationError as error:
            raise Discard(f"the payload is no {model.__name__}: {misfits(error)}") from None

    def run_validated(ctx: JobContext) -> Any:
        return run(ctx, payload(ctx))

    async def run_validated_async(ctx: AsyncJobContext) -> Any:
        return await run(ctx, payload(ctx))

    return run_validated_async if is_async else run_validated


def misfits(error: ValidationError) -> str:
    """Name the fields that do not fit, and what is wrong with each; not what they hold, which may be secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(map(str, one['loc'])) or 'payload'}: {one['msg']}" for one in found[:MOST_NAMED]]
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
