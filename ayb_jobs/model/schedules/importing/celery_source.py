"""The assignments of Celery's settings, followed through Python source from top to bottom; nothing is run."""

import ast
from dataclasses import dataclass, field
from typing import Any

from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry
from ayb_jobs.model.schedules.importing.python_values import Scope, Unknown, shown, unknown

UNREADABLE = "what cannot be read"


@dataclass(slots=True)
class Reader:
    """Follows the assignments of a module. `conditions` are those under which the statement at hand is reached."""

    scope: Scope = field(default_factory=Scope)
    conditions: list[str] = field(default_factory=list)
    lost: list[BeatEntry] = field(default_factory=list)

    def read(self, body: list[ast.stmt]) -> None:
        """Follow statements, one after the other."""
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Assign():
                if isinstance(node.value, ast.Call):
                    self._settings(node.value)
                value = self.scope.evaluate(node.value)
                for target in node.targets:
                    self._assign(target, value, node.value)
            case ast.AnnAssign() if node.value is not None:
                self._assign(node.target, self.scope.evaluate(node.value), node.value)
            case ast.AugAssign():
                combined = ast.BinOp(left=_loaded(node.target), op=node.op, right=node.value)
                self._assign(node.target, self.scope.evaluate(ast.fix_missing_locations(combined)), combined)
            case ast.Delete():
                for target in node.targets:
                    self._delete(target)
            case ast.Expr(value=ast.Call() as call):
                self._call(call)
            case _:
                self._block(node)

    def _block(self, node: ast.stmt) -> None:
        match node:
            case ast.If():
                self._under(f"if {shown(node.test)}", node.body)
                self._under(f"if not ({shown(node.test)})", node.orelse)
            case ast.For() | ast.AsyncFor():
                self._under(f"in a loop over {shown(node.iter)}", [*node.body, *node.orelse])
            case ast.While():
                self._under(f"while {shown(node.test)}", [*node.body, *node.orelse])
            case ast.Try():
                self.read(node.body)
                for handler in node.handlers:
                    self._under("after an exception", handler.body)
                self.read([*node.orelse, *node.finalbody])
            case ast.Match():
                for case in node.cases:
                    self._under(f"if {shown(node.subject)} matches", case.body)
            case ast.With() | ast.AsyncWith() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                self.read(node.body)
            case _:
                pass

    def _under(self, condition: str, body: list[ast.stmt]) -> None:
        self.conditions.append(condition)
        self.read(body)
        self.conditions.pop()

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            if alias.name == "*":
                self.scope.stars.append(module)
            else:
                full = f"{module}.{alias.name}" if module else alias.name
                name = alias.asname or (alias.name if module else alias.name.partition(".")[0])
                self.scope.imports[name] = full if alias.asname or module else name
                self.scope.values.pop(name, None)

    # Assignments

    def _assign(self, target: ast.expr, value: Any, node: ast.expr) -> None:
        match target:
            case ast.Subscript():
                self._assign_item(target, value)
            case ast.Name() | ast.Attribute():
                self._assign_name(ast.unparse(target), value, node)
            case ast.Tuple() | ast.List():
                for each in target.elts:
                    self._assign(each, unknown(node), node)
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
        reason = "a later assignment of the whole setting overwrites it"
        self.lost += [BeatEntry(name=str(key), task=UNREADABLE, problem=reason) for key in earlier if key not in after]

    def _assign_item(self, target: ast.Subscript, value: Any) -> None:
        key = self.scope.evaluate(target.slice)
        name = key if isinstance(key, str) else ast.unparse(target.slice)
        if isinstance(key, Unknown):
            value = key
        if isinstance(key, str) and _is_setting(key) and not isinstance(self.scope.evaluate(target.value), dict):
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
                self.lost.append(
                    BeatEntry(name=str(key) if isinstance(key, str) else name, task=UNREADABLE, problem=why)
                )
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

    def _delete(self, target: ast.expr) -> None:
        if isinstance(target, ast.Subscript):
            self._remove(target.value, self.scope.evaluate(target.slice))

    def _remove(self, container: ast.expr, key: Any) -> None:
        held = self.scope.evaluate(container)
        if isinstance(held, dict) and isinstance(key, str) and key in held:
            if self.conditions:
                held[key] = Unknown(f"it is removed {self._when()}")
            else:
                del held[key]

    # Calls

    def _call(self, node: ast.Call) -> None:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        match method:
            case "update" if isinstance(node.func, ast.Attribute):
                self._update(node.func.value, self.scope.arguments(node))
            case "setdefault" | "pop" if isinstance(node.func, ast.Attribute) and node.args:
                self._item_call(node.func.value, method, node.args)
            case "add_periodic_task":
                self._periodic_task(node)
            case _:
                self._settings(node)

    def _settings(self, node: ast.Call) -> None:
        """Take the settings that a call is given: `Celery(beat_schedule=…)`, `config.from_mapping(CELERY={…})`."""
        if ast.unparse(node.func) == "dict":
            return  # a value, which whoever holds it is asked for
        for key, value in self.scope.arguments(node).items():
            if _is_setting(str(key)) or isinstance(value, dict):
                self._assign_name(f"{ast.unparse(node.func)}.{key}", value, node)

    def _update(self, receiver: ast.expr, given: dict[Any, Any]) -> None:
        name = ast.unparse(receiver)
        if self._is_container(receiver):
            container = self._container(receiver)
            for key, value in given.items():
                container[key] = self._conditional(value) if self.conditions else value
            return
        for key, value in given.items():  # conf.update(beat_schedule=…)
            if _is_setting(str(key)):
                self._assign_name(f"{name}.{key}", value, receiver)

    def _is_container(self, node: ast.expr) -> bool:
        return isinstance(self.scope.evaluate(node), dict) or is_schedule(ast.unparse(node))

    def _item_call(self, receiver: ast.expr, method: str, arguments: list[ast.expr]) -> None:
        key = self.scope.evaluate(arguments[0])
        if method == "pop":
            self._remove(receiver, key)
        elif isinstance(key, str) and len(arguments) > 1 and self._is_container(receiver):
            container = self._container(receiver)
            if key not in container:
                value = self.scope.evaluate(arguments[1])
                container[key] = self._conditional(value) if self.conditions else value

    def _periodic_task(self, node: ast.Call) -> None:
        given = {each.arg: self.scope.evaluate(each.value) for each in node.keywords}
        task = shown(node.args[1]) if len(node.args) > 1 else UNREADABLE
        name = given.get("name")
        self.lost.append(
            BeatEntry(
                name=name if isinstance(name, str) else "add_periodic_task",
                task=task,
                problem=f"it is added by add_periodic_task, and the name of its task `{task}` is not in this file",
            )
        )


def _loaded(target: ast.expr) -> ast.expr:
    loaded = ast.parse(ast.unparse(target), mode="eval")
    return loaded.body


def _unread(value: Any, node: ast.AST) -> Unknown:
    return value if isinstance(value, Unknown) else unknown(node)


def is_schedule(name: str) -> bool:
    """Tell whether a name is that of beat's schedule: Celery's, Django's, or one with another prefix."""
    last = name.rpartition(".")[2].lower()
    return last in ("beat_schedule", "celerybeat_schedule") or last.endswith("_beat_schedule")


def _is_setting(name: str) -> bool:
    return is_schedule(name) or name.lower() in ("timezone", "celery_timezone", "enable_utc", "celery_enable_utc")
