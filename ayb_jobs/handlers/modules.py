"""Finds the registries in the modules that `[handlers] modules` names."""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ayb_jobs.errors import InvalidInput
from ayb_jobs.handlers.patching import unpatched
from ayb_jobs.handlers.registry import Registry

OURS = str(Path(__file__).parent.parent)


def load_registry(name: str) -> Registry:
    """Return the registry that a module holds: `myapp.jobs`, or `myapp.jobs:emails` if it holds several.

    The current directory is searched too. Raises `InvalidInput` if the module is missing, cannot be imported, replaces
    Python's threads, or does not hold exactly one registry.
    """
    module_name, _, attribute = name.partition(":")
    module = import_module(module_name)
    if attribute:
        return named_registry(module, attribute)
    if isinstance(getattr(module, "registry", None), Registry):
        return named_registry(module, "registry")
    return only_registry(module)


def import_module(name: str) -> ModuleType:
    """Import a module, from the current directory too; raises `InvalidInput` saying what went wrong, and where."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    with unpatched(name):
        return imported(name)


def imported(name: str) -> ModuleType:
    """Import a module; raises `InvalidInput` saying what went wrong, and where."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InvalidInput(
                f"there is no module {error.name}; it is looked for in the current directory and among what is installed"
            ) from None
        raise InvalidInput(f"{name} cannot be imported: {said(error)}") from error
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{name} cannot be imported: {said(error)}") from error


def named_registry(module: ModuleType, attribute: str) -> Registry:
    """Return a module's registry of that name."""
    found = getattr(module, attribute, None)
    if not isinstance(found, Registry):
        what = "is not a Registry" if hasattr(module, attribute) else "is not there"
        raise InvalidInput(f"{module.__name__}: {attribute} {what}{held(registries(module))}")
    return found


def only_registry(module: ModuleType) -> Registry:
    """Return the one registry that a module holds."""
    found = registries(module)
    if not found:
        raise InvalidInput(f"{module.__name__} holds no Registry; make one: registry = ayb_jobs.Registry()")
    if len(found) > 1:
        raise InvalidInput(
            f"{module.__name__} holds several registries; name one: "
            + " or ".join(f"{module.__name__}:{attribute}" for attribute in found)
        )
    return next(iter(found.values()))


def registries(module: ModuleType) -> dict[str, Registry]:
    """Return a module's registries by the first name that each has there."""
    first_names: dict[int, str] = {}
    for attribute, value in vars(module).items():
        if isinstance(value, Registry):
            first_names.setdefault(id(value), attribute)
    return {attribute: getattr(module, attribute) for attribute in first_names.values()}


def held(found: dict[str, Registry]) -> str:
    """Say which registries there are, to end an error message."""
    return f"; it holds {', '.join(found)}" if found else "; it holds no Registry"


def said(error: BaseException) -> str:
    """Return an exception in one line, with the innermost place it came from in code that is not ours."""
    what = f"{type(error).__name__}: {error}".replace("\n", " ")
    if isinstance(error, SyntaxError):
        return what
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not passing_on(frame.filename)]
    return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else what


def passing_on(filename: str) -> bool:
    """Tell whether a line of code is of the import machinery, or ours, and so not where the fault lies."""
    return "importlib" in filename or filename.startswith(OURS)
