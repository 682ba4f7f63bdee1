"""What Celery's settings hold, as one assignment after the other is taken; nothing is run."""

import ast
from dataclasses import dataclass, field
from typing import Any

from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry
from ayb_jobs.model.schedules.importing.python_values import Scope, Unknown, shown, unknown

UNREADABLE = "what cannot be read"


@dataclass(slots=True)
class Settings:
    """What the source has set so far. `conditions` are those under which the statement at hand is reached.

    `lost` are tasks that cannot be imported; `notes` are of the whole source.
    """

    scope: Scope = field(default_factory=Scope)
    conditions: list[str] = field(default_factory=list)
    lost: list[BeatEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note_later(self, node: ast.AST) -> None:
        """Note what may set the schedule anew, if there is one already."""
        if any(map(is_schedule, self.scope.values)):
            self.notes.append(f"`{shown(node)}` comes after it, and may set it anew")

    def rebind(self, name: str, why: str) -> None:
        """Forget the value of a name that gets another, which cannot be known."""
        if name in self.scope.values:
            self._assign_name(name, Unknown(why), ast.Name(id=name))

    def augment(self, node: ast.AugAssign) -> None:
        """Take `target op= value`, which changes a container in place."""
        held = self.scope.evaluate(node.target)
        if isinstance(held, dict) and isinstance(node.op, ast.BitOr):
            self.update(node.target, self.scope.spread(node.value))
            return
        self.change(node.target, f"`{shown(node)}` changes it")
        combined = ast.BinOp(left=_loaded(node.target), op=node.op, right=node.value)
        value = self.scope.evaluate(ast.fix_missing_locations(combined))
        self.assign(node.target, value, combined)

    def change(self, node: ast.expr, why: str) -> None:
        """Take a container as unknown, under each of its names."""
        held = self.scope.evaluate(node)
        match held:
            case dict():
                held |= {key: Unknown(why) for key in held}
            case list():
                held[:] = [Unknown(why)]
            case frozenset():  # a set, which is held as what cannot be changed in place
                self.rebind(ast.unparse(node), why)
            case _:
                pass

    def assign(self, target: ast.expr, value: Any, node: ast.expr) -> None:
        """Take a value that a target is given; `node` is its source."""
        match target:
            case ast.Subscript():
                self._assign_item(target, value)
            case ast.Name() | ast.Attribute():
                self._assign_name(ast.unparse(target), value, node)
            case ast.Tuple() | ast.List():
                for each in target.elts:
                    self.assign(each, unknown(node), node)
            case ast.Starred():
                self.assign(target.value, unknown(node), node)
            case _:
                pass

    def _assign_name(self, name: str, value: Any, node: ast.expr) -> None:
        values = self.scope.values
        before = values.get(name)
        self.scope.imports.pop(name, None)
        if not is_schedule(name):
            values[name] = self._conditional(value) if self.conditions else value
            return
        after = value if isinstance(value, dict) else {f"{name}={shown(node)}".replace(" ", ""): _unread(value, node)}
        earlier = before if isinstance(before, dict) else {}
        if self.conditions:
            changed = {key: Unknown(f"it is set anew {self._when()}") for key in earlier}
            values[name] = changed | {key: Unknown(f"it is set only {self._when()}") for key in after}
            return
        values[name] = after
        for key in [key for key in earlier if key not in after]:
            self.lose(str(key), UNREADABLE, "a later assignment of the whole setting overwrites it")

    def _assign_item(self, target: ast.Subscript, value: Any) -> None:
        key = self.scope.evaluate(target.slice)
        name = key if isinstance(key, str) else ast.unparse(target.slice)
        if isinstance(key, Unknown):  # whose source may be spelled like the name of an entry
            name, value = f"[{name}]", key
        if isinstance(key, str) and is_setting(key) and not isinstance(self.scope.evaluate(target.value), dict):
            self._assign_name(f"{ast.unparse(target.value)}.{key}", value, target)
            return
        self._container(target.value)[name] = self._conditional(value) if self.conditions else value

    def _container(self, node: ast.expr) -> dict[Any, Any]:
        """Return the dictionary that an expression names, which is made if it is from elsewhere."""
        held = self.scope.evaluate(node)
        if isinstance(held, dict):
            return held
        name = ast.unparse(node)
        if isinstance(node, ast.Subscript):
            key = self.scope.evaluate(node.slice)
            if not (isinstance(key, str) and is_schedule(key)):
                why = f"a part of it is set here (`{shown(node)}`), and the rest cannot be read"
                if isinstance(key, Unknown):  # any of them may be meant
                    self.change(node.value, f"a part of it may be set here (`{shown(node)}`)")
                self.lose(key if isinstance(key, str) else name, UNREADABLE, why)
                return {}
            name = f"{ast.unparse(node.value)}.{key}"
        made: dict[Any, Any] = {}
        if isinstance(held, Unknown):
            made[f"{name},before"] = held
        self.scope.values[name] = made
        return made

    def _conditional(self, value: Any) -> Any:
        return Unknown(f"it is set only {self._when()}") if not isinstance(value, Unknown) else value

    def _when(self) -> str:
        return " and ".join(self.conditions)

    def delete(self, target: ast.expr) -> None:
        """Take `del target`."""
        match target:
            case ast.Subscript():
                self._remove(target.value, self.scope.evaluate(target.slice))
            case ast.Name() | ast.Attribute() if isinstance(held := self.scope.evaluate(target), dict):
                self.clear(held)
            case ast.Name() | ast.Attribute():
                self.rebind(ast.unparse(target), f"`{shown(target)}` is deleted")
            case _:
                pass

    def _remove(self, container: ast.expr, key: Any) -> None:
        held = self.scope.evaluate(container)
        if isinstance(key, Unknown):
            self.change(container, f"it may be removed: {key.why}")
        elif isinstance(held, dict) and isinstance(key, str) and key in held:
            if self.conditions:
                held[key] = Unknown(f"it is removed {self._when()}")
            else:
                del held[key]

    def clear(self, held: dict[Any, Any]) -> None:
        """Take every entry out of a dictionary."""
        if self.conditions:
            held |= {key: Unknown(f"it is removed {self._when()}") for key in held}
        else:
            held.clear()

    def take(self, holder: str, given: dict[Any, Any], node: ast.expr) -> None:
        """Take what are settings among the values that `holder` is given."""
        for key, value in given.items():
            if is_setting(str(key)) or isinstance(value, dict):
                self._assign_name(f"{holder}.{key}", value, node)

    def update(self, receiver: ast.expr, given: dict[Any, Any]) -> None:
        """Take `receiver.update(given)`."""
        if not self._is_container(receiver):
            self.take(ast.unparse(receiver), given, receiver)
            return
        container = self._container(receiver)
        for key, value in given.items():
            container[key] = self._conditional(value) if self.conditions else value

    def _is_container(self, node: ast.expr) -> bool:
        return isinstance(self.scope.evaluate(node), dict) or is_schedule(ast.unparse(node))

    def item_call(self, receiver: ast.expr, method: str, arguments: list[ast.expr]) -> None:
        """Take `receiver.pop(…)` or `receiver.setdefault(…)`."""
        key = self.scope.evaluate(arguments[0])
        if method == "pop":
            self._remove(receiver, key)
        elif isinstance(key, str) and len(arguments) > 1 and self._is_container(receiver):
            container = self._container(receiver)
            if key not in container:
                value = self.scope.evaluate(arguments[1])
                container[key] = self._conditional(value) if self.conditions else value

    def lose(self, name: str, task: str, why: str) -> None:
        """Note a task that cannot be imported, and why."""
        self.lost.append(BeatEntry(name=name, task=task, problem=why))


def _loaded(target: ast.expr) -> ast.expr:
    loaded = ast.parse(ast.unparse(target), mode="eval")
    return loaded.body


def _unread(value: Any, node: ast.AST) -> Unknown:
    return value if isinstance(value, Unknown) else unknown(node)


def is_schedule(name: str) -> bool:
    """Tell whether a name is that of beat's schedule: Celery's, Django's, or one with another prefix."""
    last = name.rpartition(".")[2].lower()
    return last in ("beat_schedule", "celerybeat_schedule") or last.endswith("_beat_schedule")


def is_setting(name: str) -> bool:
    """Tell whether a name is that of a setting that is read."""
    return is_schedule(name) or name.lower() in ("timezone", "celery_timezone", "enable_utc", "celery_enable_utc")
