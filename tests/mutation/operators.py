"""List the faults that can be planted in a source file: each changes one place of its syntax tree."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}  # fmt: skip
SWAPPED = dict(
    pair
    for a, b in [
        ("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("any", "all"), ("floor", "ceil"),
        ("zeros", "ones"), ("left", "right"), ("first", "last"), ("break", "continue"),
    ]
    for pair in ((a, b), (b, a))
)  # fmt: skip
"""Names of functions, attributes and settings in place of which the other one is put."""

COMMUTATIVE = {"min", "max", "minimum", "maximum", "clip", "isinstance", "hasattr", "getattr", "add", "multiply"}
"""Functions whose first two arguments are not exchanged: the result is the same, or nothing works at all."""


@dataclass(frozen=True)
class Mutant:
    """One fault in one file."""

    key: str
    """Path, name of the enclosing function or class, and what becomes of which expression; stable when lines move."""
    lines: tuple[int, int]
    """First and last line of the changed expression or statement."""
    function_lines: tuple[int, int] | None
    """First and last line of the enclosing function; None for a fault that takes effect on import."""
    node: int
    """Position of the changed node in `ast.walk` of the file."""
    variant: int
    """Which of the node's changes."""


def list_mutants(source: str, path: str) -> list[Mutant]:
    """Return every fault of a file in the order of its lines; the same text gives the same keys."""
    tree = ast.parse(source)
    positions = {id(node): index for index, node in enumerate(ast.walk(tree))}
    mutants, seen = [], Counter[str]()
    for place in _places(tree):
        for variant, change in enumerate(_changes(place.node)):
            key = f"{path}::{place.scope}::{change.text}"
            if isinstance(place.node, ast.Constant | ast.Attribute):
                key += f" in {_short(place.parent)}"
            seen[key] += 1
            if seen[key] > 1:
                key += f" #{seen[key]}"
            first, last = place.node.lineno, place.node.end_lineno or place.node.lineno  # type: ignore[attr-defined]
            mutants.append(Mutant(key, (first, last), place.function, positions[id(place.node)], variant))
    return sorted(mutants, key=lambda mutant: mutant.lines)


def plant(source: str, mutant: Mutant) -> ast.Module:
    """Return the syntax tree of a file with one fault in it."""
    tree = ast.parse(source)
    node = next(node for index, node in enumerate(ast.walk(tree)) if index == mutant.node)
    _changes(node)[mutant.variant].apply(tree, node)
    return ast.fix_missing_locations(tree)


@dataclass(frozen=True)
class _Place:
    node: ast.AST
    parent: ast.AST
    scope: str
    function: tuple[int, int] | None


@dataclass(frozen=True)
class _Change:
    text: str
    apply: Callable[[ast.Module, ast.AST], None]


def _places(tree: ast.Module) -> Iterator[_Place]:
    """Yield the nodes that may change, without annotations, docstrings, messages of errors and assertions."""

    def walk(node: ast.AST, parent: ast.AST, scope: str, function: tuple[int, int] | None) -> Iterator[_Place]:
        if isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            return
        if isinstance(node, ast.keyword) and node.arg == "strict":
            return  # zip's own assertion
        if hasattr(node, "lineno"):
            yield _Place(node, parent, scope, function)
        if isinstance(node, ast.Raise):
            return
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            scope = node.name if scope == "<module>" else f"{scope}.{node.name}"
        if isinstance(node, ast.FunctionDef):
            for default in _defaults(node.args):
                yield from walk(default.value, default, scope, function)
            children = list(node.body)
            function = function or (node.lineno, node.end_lineno or node.lineno)
        elif isinstance(node, ast.ClassDef):
            children = list(node.body)
        elif isinstance(node, ast.AnnAssign):
            children.remove(node.annotation)
        for child in children:
            yield from walk(child, node, scope, function)

    yield from walk(tree, tree, "<module>", None)


def _defaults(arguments: ast.arguments) -> Iterator[ast.keyword]:
    """Yield the parameters that have a default, in the form name=default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    late = positional[len(positional) - len(arguments.defaults) :]
    for argument, default in (
        *zip(late, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ):
        if default is not None:
            yield ast.keyword(argument.arg, default)


def _changes(node: ast.AST) -> list[_Change]:
    """Return the changes of one node."""
    found = _statement_changes(node) if isinstance(node, ast.stmt) else _expression_changes(node)
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        text = _short(node.test)
        found.append(_Change(f"if {text} → if not ({text})", _negate_test))
    return found


def _statement_changes(node: ast.AST) -> list[_Change]:
    changes = []
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        changes.append(_Change(f"{_short(node)} → return None", _return_none))
    if isinstance(node, ast.AugAssign):
        other = ARITHMETIC.get(type(node.op))
        if other:
            changed = copy.deepcopy(node)
            changed.op = other()
            changes.append(_Change(f"{_short(node)} → {_short(changed)}", _set("op", other())))
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Delete) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript | ast.Attribute)
    ):
        changes.append(_Change(f"{_short(node)} → pass", _remove))
    if isinstance(node, ast.Break):
        changes.append(_Change("break → continue", _replace_by(ast.Continue())))
    if isinstance(node, ast.Continue):
        changes.append(_Change("continue → break", _replace_by(ast.Break())))
    return changes


def _expression_changes(node: ast.AST) -> list[_Change]:
    """Return the changes that replace an expression by another."""
    made: dict[str, ast.expr] = {}
    for other in _other_expressions(node):
        made.setdefault(ast.unparse(other), other)
    return [_Change(f"{_short(node)} → {_short(other)}", _replace_by(other)) for other in made.values()]


def _other_expressions(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for table in (BOUNDARY, NEGATED):
                if type(operator) in table:
                    changed = copy.deepcopy(node)
                    changed.ops[index] = table[type(operator)]()
                    yield changed
    elif isinstance(node, ast.BoolOp):
        changed_bool = copy.deepcopy(node)
        changed_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield changed_bool
    elif isinstance(node, ast.BinOp):
        if type(node.op) in ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            changed_binary = copy.deepcopy(node)
            changed_binary.op = ARITHMETIC[type(node.op)]()
            yield changed_binary
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.Attribute) and node.attr in SWAPPED and isinstance(node.ctx, ast.Load):
        yield ast.Attribute(copy.deepcopy(node.value), SWAPPED[node.attr], ast.Load())
    elif isinstance(node, ast.Slice):
        for bound in ("lower", "upper"):
            if getattr(node, bound) is not None:
                changed_slice = copy.deepcopy(node)
                setattr(changed_slice, bound, None)
                yield changed_slice
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(copy.deepcopy(node.test), copy.deepcopy(node.orelse), copy.deepcopy(node.body))


def _other_constants(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, float):
        yield from (ast.Constant(1.25 * value), ast.Constant(0.75 * value)) if value else (ast.Constant(1.0),)
    elif isinstance(value, str) and value in SWAPPED:
        yield ast.Constant(SWAPPED[value])


def _other_calls(node: ast.Call) -> Iterator[ast.expr]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if isinstance(node.func, ast.Name) and name in SWAPPED:
        yield ast.Call(ast.Name(SWAPPED[name], ast.Load()), copy.deepcopy(node.args), copy.deepcopy(node.keywords))
    plain = len(node.args) >= 2 and not any(isinstance(argument, ast.Starred) for argument in node.args[:2])
    if plain and name not in COMMUTATIVE and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        arguments = copy.deepcopy(node.args)
        arguments[0], arguments[1] = arguments[1], arguments[0]
        yield ast.Call(copy.deepcopy(node.func), arguments, copy.deepcopy(node.keywords))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 160 else f"{text[:157]}…"


def _negate_test(tree: ast.Module, node: ast.AST) -> None:
    assert isinstance(node, ast.If | ast.While | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _return_none(tree: ast.Module, node: ast.AST) -> None:
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)


def _set(name: str, value: object) -> Callable[[ast.Module, ast.AST], None]:
    return lambda tree, node: setattr(node, name, value)


def _replace_by(other: ast.AST) -> Callable[[ast.Module, ast.AST], None]:
    """Return the change that puts another node in a node's place."""

    def apply(tree: ast.Module, node: ast.AST) -> None:
        class Replacing(ast.NodeTransformer):
            def visit(self, visited: ast.AST) -> ast.AST:
                return ast.copy_location(other, node) if visited is node else self.generic_visit(visited)

        Replacing().visit(tree)

    return apply


def _remove(tree: ast.Module, node: ast.AST) -> None:
    _replace_by(ast.Pass())(tree, node)
