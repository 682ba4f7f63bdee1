"""Celery's settings, followed through Python source from top to bottom; nothing is run."""

import ast
from dataclasses import dataclass, field

from ayb_jobs.model.schedules.importing.celery_assignments import UNREADABLE, Settings, is_schedule
from ayb_jobs.model.schedules.importing.python_statements import (
    arguments_of,
    bound,
    changed_in_loop,
    changes,
    effects,
    names_elsewhere,
)
from ayb_jobs.model.schedules.importing.python_values import Unknown, shown

# Functions and methods, by their last name, that leave a schedule that they are given as it is.
_READERS = frozenset(
    {"dict", "list", "len", "sorted", "print", "pprint", "repr", "str", "copy", "deepcopy", "dumps", "isinstance"}
    | {"debug", "info", "warning", "error"}
)


@dataclass(slots=True)
class Reader:
    """Follows the statements of a module, and keeps what they set in `settings`."""

    settings: Settings = field(default_factory=Settings)

    def read(self, body: list[ast.stmt]) -> None:
        """Follow statements, one after the other."""
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        for effect, may_not_run in effects(node):
            self._effect(effect, ["in a part of an expression"] if may_not_run else [])
        for name in bound(node):
            self.settings.rebind(name, f"`{name}` gets its value in `{shown(node)}`")
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Assign() | ast.AnnAssign() if node.value is not None:
                value = self.settings.scope.evaluate(node.value)
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self.settings.assign(target, value, node.value)
            case ast.AugAssign():
                self.settings.augment(node)
            case ast.Delete():
                for target in node.targets:
                    self.settings.delete(target)
            case _:
                self._block(node)

    def _effect(self, node: ast.Call | ast.NamedExpr, conditions: list[str]) -> None:
        self.settings.conditions += conditions
        if isinstance(node, ast.NamedExpr):
            self.settings.assign(node.target, self.settings.scope.evaluate(node.value), node.value)
        else:
            self._call(node)
        del self.settings.conditions[len(self.settings.conditions) - len(conditions) :]

    def _block(self, node: ast.stmt) -> None:
        match node:
            case ast.If():
                self._under(f"if {shown(node.test)}", node.body)
                self._under(f"if not ({shown(node.test)})", node.orelse)
            case ast.Match():
                for case in node.cases:
                    self._under(f"if {shown(node.subject)} matches", case.body)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node)
            case ast.Try():
                self.read(node.body)
                for handler in node.handlers:
                    self._under("after an exception", handler.body)
                self.read([*node.orelse, *node.finalbody])
            case ast.With() | ast.AsyncWith():
                self.read(node.body)
            case ast.ClassDef():
                self._class(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node)
            case _:
                pass

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        if isinstance(node, ast.While):
            condition = f"while {shown(node.test)}"
        else:
            condition = f"in a loop over {shown(node.iter)}"
            for each in changed_in_loop(node):
                self.settings.change(each, f"it may be changed {condition}")
        self._under(condition, [*node.body, *node.orelse])

    def _under(self, condition: str, body: list[ast.stmt]) -> None:
        self.settings.conditions.append(condition)
        self.read(body)
        self.settings.conditions.pop()

    def _class(self, node: ast.ClassDef) -> None:
        """Read a class, whose names are known as its attributes afterwards."""
        if any(ast.unparse(base).endswith("PeriodicTask") for base in node.bases):
            self.settings.lose(
                node.name, node.name, "it is a class of periodic tasks, and its task's name is not in this file"
            )
        outer = self.settings.scope.values
        self.settings.scope.values = {
            name: value for name, value in outer.items() if "." in name or not is_schedule(name)
        }
        self.read(node.body)
        inner, self.settings.scope.values = self.settings.scope.values, outer
        for name, value in inner.items():
            if "." in name:
                outer[name] = value
            elif name not in outer or outer[name] is not value:
                outer[f"{node.name}.{name}"] = value

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Read a function as if it were called once; its names hide those of the module while it is read."""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("periodic_task"):
                self.settings.lose(
                    node.name, node.name, "it is a periodic_task, and its task's name is not in this file"
                )
        values, arguments, elsewhere = self.settings.scope.values, arguments_of(node), names_elsewhere(node)
        before = dict(values)
        values |= {name: Unknown(f"`{name}` is an argument of {node.name}()") for name in arguments}
        self.read(node.body)
        for name in arguments - before.keys():
            values.pop(name, None)
        for name, value in before.items():
            if name.isidentifier() and not is_schedule(name) and values.get(name) is not value:
                values[name] = Unknown(f"`{name}` is set in {node.name}()") if name in elsewhere else value

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            if alias.name == "*":
                self.settings.scope.stars.append(module)
                self.settings.note_later(node)
            else:
                full = f"{module}.{alias.name}" if module else alias.name
                name = alias.asname or (alias.name if module else alias.name.partition(".")[0])
                self.settings.rebind(name, f"`{name}` is imported ({full}), and not in this file")
                self.settings.scope.imports[name] = full if alias.asname or module else name
                if not is_schedule(name):
                    self.settings.scope.values.pop(name, None)

    def _call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(attr="update", value=receiver):
                self.settings.update(receiver, self.settings.scope.arguments(node))
            case ast.Attribute(attr="setdefault" | "pop" as method, value=receiver) if node.args:
                self.settings.item_call(receiver, method, node.args)
            case ast.Attribute(attr="clear", value=receiver) if isinstance(
                held := self.settings.scope.evaluate(receiver), dict
            ):
                self.settings.clear(held)
            case ast.Attribute(attr="add_periodic_task"):
                self._periodic_task(node)
            case ast.Attribute(value=receiver) if changes(node):
                self.settings.change(receiver, f"`{shown(node)}` may change it")
                self._given(node)
            case _:
                self._given(node)

    def _given(self, node: ast.Call) -> None:
        """Take the settings that a call is given: `Celery(beat_schedule=…)`, `config.from_mapping(CELERY={…})`."""
        function = ast.unparse(node.func)
        if function == "dict":
            return  # a value, which whoever holds it is asked for
        if function in ("exec", "execfile"):
            self.settings.note_later(node)
        self.settings.take(function, self.settings.scope.arguments(node), node)
        if function.rpartition(".")[2] not in _READERS:
            for each in node.args:
                if is_schedule(ast.unparse(each)) and isinstance(self.settings.scope.evaluate(each), dict):
                    self.settings.lose(
                        shown(node), UNREADABLE, "what this call adds to the schedule or changes is not known"
                    )

    def _periodic_task(self, node: ast.Call) -> None:
        given = {each.arg: self.settings.scope.evaluate(each.value) for each in node.keywords}
        task = shown(node.args[1]) if len(node.args) > 1 else UNREADABLE
        name = given.get("name")
        why = f"it is added by add_periodic_task, and the name of its task `{task}` is not in this file"
        self.settings.lose(name if isinstance(name, str) else "add_periodic_task", task, why)
