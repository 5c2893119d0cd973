"""Every finding id that the source can give, read from the source without running it.

An id is what stands first in a call of ``Finding``. Most are literals; the rest are followed
through names, parameters, f-strings and tables to the literals that they are made of. What cannot
be followed is an error, so that no id escapes by being made in a new way.

Patterns: ``N`` stands for the number of a PCR, ``EVENT`` for a word of ``reference/match.py``.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "bootlease"
TESTS: Final = ROOT / "tests"

READ_BACK: Final = frozenset(
    {
        ("endorsement/enrolment.py", "_parse_note"),
        ("evidence/denied.py", "_parse_finding"),
        ("findings.py", "_finding"),
        ("ledger/record.py", "_finding"),
        ("node/status.py", "_finding"),
        ("relyingparty/exchange.py", "_finding"),
    }
)
"""Functions that make findings of what was stored or sent; the ids are those of who wrote it."""

GIVEN: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    # What is counted by ``FindingsByKind`` is any finding on an entry of the list.
    ("reference/imafindings.py", "f'{name}-more'"): frozenset({"ima.KIND-more"}),
}
"""Ids that cannot be followed, by module and expression."""

ATTRIBUTE: Final = "f'{role}.attributes.{label}'"
"""Which label goes with which role stands in the tables of ``tpm.key_rules.rules``."""

NEVER: Final = frozenset(
    {
        # ``meaning._demanded`` returns where a demand is met; audit mode is told only where it is
        # on.
        "policy.secure-boot.on",
        "policy.deployed-mode.on",
        "policy.audit-mode.unknown",
        # What dbx must list has an id of its own, ``dbx-old``; what it may list, no rule says.
        "reference.boot.dbx-lacks",
        "reference.boot.dbx-not-allowed",
        "reference.boot.dbx-not-allowed-more",
        # A bound key may leave its scheme open: ``keys._bound_scheme`` asks no further.
        "bound-key.scheme.missing",
    }
)
"""What following finds, and no call gives."""

CHANGED: Final = ("ima.signature.",)
"""Ids whose effect ``imamatch._about`` puts in afterwards."""

_DEPTH: Final = 12


class UnknownIdError(Exception):
    """An id is made in a way that this module does not follow."""


@dataclass(frozen=True)
class Module:
    """A module of the package."""

    name: str
    tree: ast.Module
    parents: Mapping[ast.AST, ast.AST]

    def enclosing(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        """Return the nearest node around ``node`` that is of one of the kinds."""
        at = self.parents.get(node)
        while at is not None and not isinstance(at, kinds):
            at = self.parents.get(at)
        return at


@functools.cache
def modules() -> tuple[Module, ...]:
    """Return the package's modules, its test tools left out."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = str(path.relative_to(SOURCE))
        if not name.startswith("testing/"):
            tree = ast.parse(path.read_text())
            parents = {
                child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
            }
            found.append(Module(name, tree, parents))
    return tuple(found)


@functools.cache
def _calls() -> Mapping[str, tuple[tuple[Module, ast.Call], ...]]:
    """Return every call of the package by the name of what is called, ``partial`` seen through."""
    found: dict[str, list[tuple[Module, ast.Call]]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                name, call = _called(node.func), node
                if name == "partial" and node.args:
                    name = _called(node.args[0])
                    call = ast.Call(node.args[0], node.args[1:], node.keywords)
                    ast.copy_location(call, node)
                    _adopt(module, call, node)
                found.setdefault(name, []).append((module, call))
    return {name: tuple(calls) for name, calls in found.items()}


def _adopt(module: Module, call: ast.Call, node: ast.Call) -> None:
    assert isinstance(module.parents, dict)
    module.parents[call] = module.parents[node]


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


@dataclass(frozen=True)
class Made:
    """How the source makes an id.

    Attributes:
        places: The calls.
        effects: ``refuses`` or ``notes`` where all of them say so, ``None`` where somebody decides.
    """

    places: tuple[str, ...]
    effects: str | None


@functools.cache
def finding_ids() -> Mapping[str, Made]:
    """Return every id, as a pattern, and how it is made.

    Raises:
        UnknownIdError: Some id cannot be followed.
    """
    found: dict[str, list[tuple[str, str | None]]] = {}
    for module, call in _calls()["Finding"]:
        function = module.enclosing(call, ast.FunctionDef)
        if isinstance(function, ast.FunctionDef) and (module.name, function.name) in READ_BACK:
            continue
        place = f"{module.name}:{call.lineno}"
        named = [each.value for each in call.keywords if each.arg == "id"]
        first = next(iter([*call.args[:1], *named]), None)
        if first is None:
            raise UnknownIdError(place)
        for each in _id_values(module, first, place) - NEVER:
            found.setdefault(each, []).append((place, _effect(call)))
    return {name: _made(name, calls) for name, calls in sorted(found.items())}


def _made(name: str, calls: list[tuple[str, str | None]]) -> Made:
    effects = {effect for _, effect in calls}
    decided = None in effects or len(effects) > 1 or name.startswith(CHANGED)
    return Made(tuple(place for place, _ in calls), None if decided else effects.pop())


def _effect(call: ast.Call) -> str | None:
    """Return what a finding does, as far as its call says."""
    third = call.args[2:3]
    given = next((each.value for each in call.keywords if each.arg == "effect"), None)
    match given or next(iter(third), None):
        case None:
            return "refuses"
        case ast.Attribute(attr="REFUSES" | "NOTES" as name):
            return name.lower()
    return None


def _id_values(module: Module, expression: ast.expr, place: str) -> frozenset[str]:
    given = GIVEN.get((module.name, ast.unparse(expression)))
    if given is not None:
        return given
    if ast.unparse(expression) == ATTRIBUTE:
        return _attribute_ids()
    try:
        return frozenset(_values(module, expression, _DEPTH))
    except UnknownIdError as exc:
        raise UnknownIdError(f"{place}: {ast.unparse(expression)}: {exc}") from exc


def _values(module: Module, node: ast.expr, depth: int) -> set[str]:
    """Return every text that an expression can have."""
    if depth == 0:
        raise UnknownIdError("too deep")
    match node:
        case ast.Constant(value=str() | int() as value):
            return {str(value)}
        case ast.IfExp():
            return _values(module, node.body, depth - 1) | _values(module, node.orelse, depth - 1)
        case ast.JoinedStr():
            parts = [_values(module, part, depth - 1) for part in node.values]
            return {"".join(each) for each in itertools.product(*parts)}
        case ast.FormattedValue():
            return _values(module, node.value, depth)
        case ast.Call():
            return _called_values(module, node, depth)
        case ast.Attribute(attr="value", value=ast.Name(id=name)):
            return _enum_values(module, node, name, depth)
        case ast.Name():
            return {"N"} if node.id == "pcr" else _named(module, node, depth)
        case ast.Subscript():
            return _texts(_elements(module, node.value, depth - 1), 1, depth)
    raise UnknownIdError(ast.unparse(node))


def _called_values(module: Module, node: ast.Call, depth: int) -> set[str]:
    """Return every text that a call can give."""
    match node:
        case ast.Call(func=ast.Attribute(attr="lower", value=inner)):
            return {each.lower() for each in _values(module, inner, depth - 1)}
        case ast.Call(func=ast.Attribute(attr="get", value=inner), args=[_, default]):
            table = _texts(_elements(module, inner, depth - 1), 1, depth)
            return table | _values(module, default, depth - 1)
        case ast.Call(func=ast.Name(id="_slug")):
            return {"EVENT"}
        case ast.Call(func=ast.Name(id=name)):
            return _returned(name, depth)
    raise UnknownIdError(ast.unparse(node))


def _attribute_ids() -> frozenset[str]:
    """Return the ids on a key's attributes: each role with the labels of its own two tables."""
    found: set[str] = set()
    for module, call in _calls()["attribute_findings"]:
        (role,) = _values(module, call.args[1], 1)
        for table in call.args[2:]:
            found |= {f"{role}.attributes.{label}" for label in _labels(module, table)}
    return frozenset(found)


def _labels(module: Module, node: ast.AST) -> set[str]:
    """Return the labels of a table of rules: each rule is a flag, its label and a reason."""
    match node:
        case ast.Name(id=name) if name != "rules":
            return _labels(*_definition(module, name))
        case ast.Tuple(elts=[ast.Attribute(), ast.Constant(value=str() as label), _]):
            return {label}
        case ast.Call(args=parts) | ast.Tuple(elts=parts):
            return set().union(*(_labels(module, part) for part in parts))
        case ast.Starred(value=inner):
            return _labels(module, inner)
    raise UnknownIdError(ast.unparse(node))


def _returned(name: str, depth: int) -> set[str]:
    """Return the texts that a function of the package returns."""
    found: set[str] = set()
    for module in modules():
        for function in ast.walk(module.tree):
            if isinstance(function, ast.FunctionDef) and function.name == name:
                for each in ast.walk(function):
                    if isinstance(each, ast.Return) and each.value is not None:
                        found |= _values(module, each.value, depth - 1)
    if not found:
        raise UnknownIdError(name)
    return found


def _enum_values(module: Module, node: ast.expr, name: str, depth: int) -> set[str]:
    """Return the values of the enumeration whose member is called ``name`` here."""
    enumeration = ""
    if name == "self":
        inside = module.enclosing(node, ast.ClassDef)
        enumeration = inside.name if isinstance(inside, ast.ClassDef) else ""
    else:
        function = module.enclosing(node, ast.FunctionDef)
        for argument in function.args.args if isinstance(function, ast.FunctionDef) else ():
            if argument.arg == name and argument.annotation is not None:
                enumeration = ast.unparse(argument.annotation)
    for each in modules():
        for found in each.tree.body:
            if isinstance(found, ast.ClassDef) and found.name == enumeration:
                members = [item.value for item in found.body if isinstance(item, ast.Assign)]
                return set().union(*(_values(each, item, depth - 1) for item in members))
    raise UnknownIdError(ast.unparse(node))


def _named(module: Module, node: ast.Name, depth: int) -> set[str]:
    """Return what a name stands for: a local's assignments, an argument, a constant."""
    function = module.enclosing(node, ast.FunctionDef)
    if isinstance(function, ast.FunctionDef):
        bound = list(_bindings(module, function, node.id, depth))
        if bound:
            return set().union(*bound)
        if node.id in [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]:
            return _passed(module, function, node.id, depth)
    return _constant(module, node.id, depth)


def _constant(module: Module, name: str, depth: int) -> set[str]:
    where, value = _definition(module, name)
    return _values(where, value, depth - 1)


def _definition(module: Module, name: str) -> tuple[Module, ast.expr]:
    """Return the value of a module's constant, of its own or imported."""
    own = list(_assigned(module, name))
    if own:
        return module, own[-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and name in [each.name for each in node.names]:
            path = (node.module or "").replace(".", "/").removeprefix("bootlease/")
            for where in modules():
                if where.name in (f"{path}.py", f"{path}/__init__.py"):
                    return _definition(where, name)
    raise UnknownIdError(name)


def _assigned(module: Module, name: str) -> Iterator[ast.expr]:
    for statement in module.tree.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id == name:
                value = getattr(statement, "value", None)
                if isinstance(value, ast.expr):
                    yield value


def _bindings(
    module: Module, function: ast.FunctionDef, name: str, depth: int
) -> Iterator[set[str]]:
    """Yield what each statement of a function binds a local name to."""
    for each in ast.walk(function):
        if isinstance(each, ast.Assign):
            for target in each.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield _values(module, each.value, depth - 1)
                elif isinstance(target, ast.Tuple) and isinstance(each.value, ast.Tuple):
                    for to, value in zip(target.elts, each.value.elts, strict=True):
                        if isinstance(to, ast.Name) and to.id == name:
                            yield _values(module, value, depth - 1) - {""}
        elif isinstance(each, ast.For | ast.comprehension):
            position = _position(each.target, name)
            if position is not None:
                yield _texts(_elements(module, each.iter, depth - 1), position, depth)


def _position(target: ast.expr, name: str) -> int | None:
    """Return which part of a loop's target a name is; 0 where it is all of it."""
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    for position, part in enumerate(parts):
        if isinstance(part, ast.Name) and part.id == name:
            return position
    return None


def _elements(module: Module, node: ast.expr, depth: int) -> list[tuple[Module, list[ast.expr]]]:
    """Return the elements of a table, each as its parts; of a mapping, keys and values."""
    match node:
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return [(module, [key, value]) for key, value in pairs if key is not None]
        case ast.Tuple() | ast.List() | ast.Set():
            return [
                (module, each.elts if isinstance(each, ast.Tuple) else [each]) for each in node.elts
            ]
        case ast.Call(func=ast.Attribute(attr="items", value=inner)):
            return _elements(module, inner, depth - 1)
        case ast.Call(func=ast.Name(id="frozenset" | "MappingProxyType"), args=[inner]):
            return _elements(module, inner, depth - 1)
        case ast.Name(id=name):
            function = module.enclosing(node, ast.FunctionDef)
            for each in ast.walk(function) if function is not None else ():
                if isinstance(each, ast.Assign) and _position(each.targets[0], name) == 0:
                    return _elements(module, each.value, depth - 1)
            where, value = _definition(module, name)
            return _elements(where, value, depth - 1)
    raise UnknownIdError(f"no table: {ast.unparse(node)}")


def _texts(table: Iterable[tuple[Module, list[ast.expr]]], position: int, depth: int) -> set[str]:
    found: set[str] = set()
    for where, parts in table:
        found |= _values(where, parts[position], depth - 1)
    if not found:
        raise UnknownIdError("an empty table")
    return found


def _passed(module: Module, function: ast.FunctionDef, name: str, depth: int) -> set[str]:
    """Return what is passed for a parameter, by every call of the function in the package."""
    inside = module.enclosing(function, ast.ClassDef)
    arguments = [each.arg for each in function.args.args]
    called = function.name
    if isinstance(inside, ast.ClassDef):
        arguments = arguments[1:]
        called = inside.name if called == "__init__" else called
    found: set[str] = set()
    for where, call in _calls().get(called, ()):
        # A private name is its module's own; another module's of the same name is another thing.
        if called.startswith("_") and where is not module:
            continue
        value = next((each.value for each in call.keywords if each.arg == name), None)
        if value is None and name in arguments and arguments.index(name) < len(call.args):
            value = call.args[arguments.index(name)]
        if value is not None:
            found |= _values(where, value, depth - 1)
    defaults = function.args.defaults
    for parameter, default in zip(function.args.args[-len(defaults) :], defaults, strict=False):
        if defaults and parameter.arg == name:
            found |= _values(module, default, depth - 1)
    if not found:
        raise UnknownIdError(f"nobody passes {name} to {called}")
    return found


def event_words() -> frozenset[str]:
    """Return the words that ``EVENT`` stands for."""
    module = next(each for each in modules() if each.name == "reference/match.py")
    table = _elements(module, ast.Name("_SLUGS"), _DEPTH)
    return frozenset(_texts(table, 1, _DEPTH)) | {"event"}


def expression_of(pattern: str) -> re.Pattern[str]:
    """Return an expression for the ids of a pattern."""
    words = {"N": r"(?:\d+|N)", "EVENT": "[a-z-]+", "KIND": "[a-z.-]+"}
    parts = re.split(r"(?<![A-Za-z])(N|EVENT|KIND)(?![A-Za-z])|(?<=pcr)(N)", pattern)
    text = "".join(words.get(part) or re.escape(part) for part in parts if part)
    return re.compile(rf"(?<![a-z0-9.-]){text}(?![a-z0-9-])(?!\.[a-z])")


@dataclass(frozen=True)
class TestTexts:
    """What stands in one test module as text, docstrings and made-up findings left out.

    Attributes:
        literals: Every string, f-strings as far as they are text.
        templates: F-strings, and prefixes that are cut off, with their holes.
    """

    literals: frozenset[str]
    templates: tuple[re.Pattern[str], ...]

    def names(self, pattern: str) -> bool:
        """Tell whether an id of the pattern stands here, in one piece or put together."""
        expression = expression_of(pattern)
        if any(expression.search(text) for text in self.literals):
            return True
        for template in self.templates:
            match = template.fullmatch(pattern)
            if match is not None and self.literals.issuperset(match.groups()):
                return True
        return False


@functools.cache
def texts_of_tests() -> tuple[TestTexts, ...]:
    """Return the texts of every test module."""
    return tuple(
        _texts_of(ast.parse(path.read_text()))
        for path in sorted(TESTS.rglob("*.py"))
        if path != Path(__file__)
    )


def _texts_of(tree: ast.Module) -> TestTexts:
    skipped = {id(part) for node in ast.walk(tree) for part in _not_asserted(node)}
    literals: set[str] = set()
    templates = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            literals.add("".join("N" if part is None else str(part) for part in parts))
            if any(part is not None and "." in str(part) for part in parts):
                texts = [_HOLE if part is None else re.escape(str(part)) for part in parts]
                templates.append(re.compile("".join(texts)))
        elif isinstance(node, ast.Call) and _called(node.func) == "removeprefix":
            templates += [
                re.compile(re.escape(each.value) + _HOLE)
                for each in node.args
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
        ):
            literals.add(node.value)
    return TestTexts(frozenset(literals), tuple(templates))


_HOLE: Final = "([a-z0-9-]+)"


def _not_asserted(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.Call) and _called(node.func) == "Finding":
        yield from node.args[:1]
    elif isinstance(node, ast.JoinedStr):
        yield from node.values
