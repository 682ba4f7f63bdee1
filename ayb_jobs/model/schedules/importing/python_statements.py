"""What Python statements do to names besides assigning to them, and one form for what can be written in several."""

import ast
from collections.abc import Iterator

# Methods of containers that change nothing.
_READING = frozenset({"get", "items", "keys", "values", "copy", "index", "count"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class _OneForm(ast.NodeTransformer):
    """Writes `getattr(a, "b")` as `a.b`, `setattr(a, "b", c)` as `a.b = c`, and `globals()["a"]` as `a`."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        self.generic_visit(node)
        match node.value:
            case ast.Call(func=ast.Name(id="setattr"), args=[held, ast.Constant(value=str(name)), value], keywords=[]):
                target = ast.Attribute(value=held, attr=name, ctx=ast.Store())
                return ast.copy_location(ast.Assign(targets=[target], value=value), node)
            case _:
                return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[held, ast.Constant(value=str(name))], keywords=[]):
                return ast.copy_location(ast.Attribute(value=held, attr=name, ctx=ast.Load()), node)
            case _:
                return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Subscript(
                value=ast.Call(func=ast.Name(id="globals" | "locals" | "vars"), args=[]),
                slice=ast.Constant(value=str(name)),
            ):
                return ast.copy_location(ast.Name(id=name, ctx=node.ctx), node)
            case _:
                return node


def in_one_form(module: ast.Module) -> ast.Module:
    """Return a module whose attributes and names are written as such."""
    _OneForm().visit(module)  # changes it in place
    return ast.fix_missing_locations(module)


def effects(node: ast.AST) -> Iterator[tuple[ast.Call | ast.NamedExpr, bool]]:
    """Yield the calls and `:=` in a statement's own expressions, the inner ones first.

    With each comes whether it may be left out when the statement runs.
    """
    yield from _effects(node, certain=True)


def _effects(node: ast.AST, *, certain: bool) -> Iterator[tuple[ast.Call | ast.NamedExpr, bool]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            first = isinstance(node, ast.IfExp) and child is node.test
            first = first or (isinstance(node, ast.BoolOp) and child is node.values[0])
            may_not_run = isinstance(node, ast.IfExp | ast.BoolOp | ast.Lambda | ast.comprehension | ast.ListComp)
            yield from _effects(child, certain=certain and (first or not may_not_run))
    if isinstance(node, ast.Call | ast.NamedExpr):
        yield node, not certain


def bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives a value which its source does not show: of loops, `with`, patterns."""
    match node:
        case ast.For() | ast.AsyncFor():
            yield from _targets(node.target)
        case ast.With() | ast.AsyncWith():
            for item in node.items:
                yield from _targets(item.optional_vars)
        case ast.Try():
            yield from (handler.name for handler in node.handlers if handler.name)
        case ast.Match():
            for part in (each for case in node.cases for each in ast.walk(case.pattern)):
                if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                    yield part.name
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case _:
            pass


def _targets(target: ast.expr | None) -> Iterator[str]:
    for part in ast.walk(target) if target is not None else ():
        if isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield ast.unparse(part)


def arguments_of(node: _Function) -> set[str]:
    """Return the names of a function's arguments."""
    return {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}


def names_elsewhere(node: _Function) -> set[str]:
    """Return the names that a function declares to be of the module or of a function around it."""
    return {name for part in ast.walk(node) if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}


def changes(call: ast.Call) -> bool:
    """Tell whether a method call may change the container that it is called on."""
    return isinstance(call.func, ast.Attribute) and call.func.attr not in _READING


def changed_in_loop(node: ast.For | ast.AsyncFor) -> list[ast.expr]:
    """Return what a loop goes over, if it changes what it meets there."""
    names = set(_targets(node.target))
    for part in (each for statement in node.body for each in ast.walk(statement)):
        stored = isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del)
        if (stored and _base(part) in names) or (
            isinstance(part, ast.Call) and changes(part) and _base(part.func) in names
        ):
            return [each for each in ast.walk(node.iter) if isinstance(each, ast.Name | ast.Attribute)]
    return []


def _base(node: ast.AST) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
