"""Make the mutants: every small change of a function that the operators know, each once.

The operators are mutmut's, and four of our own that take a whole check away. Decorated functions
are changed too (mutmut leaves them out): a cached parser holds as many checks as another. Left
out are annotations, decorators, default arguments and what stands outside of functions.

    python -m tests.mutation.generate SOURCE_ROOT OUT GLOB...
"""

from __future__ import annotations

import ast
import difflib
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, deep_replace
from mutmut.mutation.mutators import OPERATORS_TYPE, mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from tests.mutation.mutant import Mutant, write_mutants
from tests.mutation.words import same_meaning, without_words


def _take_test_away(node: cst.If) -> Iterable[cst.If]:
    """The condition never holds: what it leads to never happens."""
    yield node.with_changes(
        test=cst.Name("False"), whitespace_before_test=cst.SimpleWhitespace(" ")
    )


def _take_call_away(node: cst.Expr) -> Iterable[cst.Expr]:
    """A call made for its effect, often a check that raises, is not made."""
    called = node.value.expression if isinstance(node.value, cst.Await) else node.value
    if isinstance(called, cst.Call):
        yield node.with_changes(value=cst.Ellipsis())


def _take_filter_away(node: cst.CompIf) -> Iterable[cst.CompIf]:
    """A comprehension takes everything."""
    yield node.with_changes(test=cst.Name("True"), whitespace_before_test=cst.SimpleWhitespace(" "))


def _take_operand_away(node: cst.BooleanOperation) -> Iterable[cst.BaseExpression]:
    """One side of an ``and`` or ``or`` alone decides."""
    for side in (node.left, node.right):
        yield (
            side
            if side.lpar
            else side.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        )


OPERATORS: Final[OPERATORS_TYPE] = [
    *mutation_operators,
    (cst.If, _take_test_away),
    (cst.Expr, _take_call_away),
    (cst.CompIf, _take_filter_away),
    (cst.BooleanOperation, _take_operand_away),
]


class _Visitor(MutationVisitor):
    """mutmut's visitor, which goes into decorated functions as well."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            node = node.with_changes(decorators=[])
        return bool(super()._skip_node_and_children(node))


class _Statements:
    """Finds the statement a line belongs to."""

    def __init__(self, tree: ast.Module) -> None:
        self._ranges = [
            _head(node) for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.match_case)
        ]

    def around(self, line: int, last: int) -> tuple[int, int]:
        """Return the smallest range that holds the line; a whole body belongs to its head."""
        holding = [each for each in self._ranges if each[0] <= line <= each[1]]
        return min(holding, key=lambda each: each[1] - each[0], default=(line, last))


def _head(node: ast.stmt | ast.match_case) -> tuple[int, int]:
    if isinstance(node, ast.match_case):
        return node.pattern.lineno, max(node.pattern.lineno, node.body[0].lineno - 1)
    if isinstance(node, ast.Match):
        return node.lineno, node.subject.end_lineno or node.lineno
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        return node.lineno, max(node.lineno, body[0].lineno - 1)
    return node.lineno, node.end_lineno or node.lineno


def _functions(module: cst.Module) -> Iterator[tuple[cst.FunctionDef, str | None]]:
    for statement in module.body:
        if isinstance(statement, cst.FunctionDef):
            yield statement, None
        elif isinstance(statement, cst.ClassDef):
            for each in statement.body.body:
                if isinstance(each, cst.FunctionDef):
                    yield each, statement.name.value


def _plain(source: str) -> str:
    return ast.unparse(ast.parse(source))


def _difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    gone: list[str] = []
    come: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            gone += [line.strip() for line in old[a:b]]
            come += [line.strip() for line in new[c:d]]
    return "\n".join(gone), "\n".join(come)


def mutants(path: Path, name: str) -> Iterator[Mutant]:
    """Make the mutants of one file."""
    text = path.read_text()
    wrapper = MetadataWrapper(cst.parse_module(text))
    visitor = _Visitor(OPERATORS, IgnoredCode(set(), set(), set()), None)
    wrapper.visit(visitor)
    places = wrapper.resolve(PositionProvider)
    statements = _Statements(ast.parse(text))
    of_function: dict[int, list[Mutation]] = {}
    for mutation in visitor.mutations:
        of_function.setdefault(id(mutation.contained_by_top_level_function), []).append(mutation)
    for function, owner in _functions(wrapper.module):
        qualified = f"{owner}.{function.name.value}" if owner else function.name.value
        bare = function.with_changes(decorators=[])
        before = _rendered(wrapper.module, bare, owner)
        number, seen = 0, {_plain(before)}
        for mutation in of_function.get(id(function), []):
            changed = deep_replace(bare, mutation.original_node, mutation.mutated_node)
            assert isinstance(changed, cst.FunctionDef)
            after = _rendered(wrapper.module, changed, owner)
            try:
                plain = _plain(after)
            except SyntaxError:
                continue
            if plain in seen:
                continue
            seen.add(plain)
            number += 1
            place = places[mutation.original_node]
            lines = statements.around(place.start.line, place.end.line)
            yield _mutant((name, qualified, number), lines, _plain(before), plain, after)


def _mutant(
    name: tuple[str, str, int], lines: tuple[int, int], before: str, after: str, source: str
) -> Mutant:
    words = without_words(before) == without_words(after)
    same = same_meaning(before) == same_meaning(after)
    return Mutant(*name, *lines, *_difference(before, after), source, words, same)


def _rendered(module: cst.Module, function: cst.FunctionDef, owner: str | None) -> str:
    code = textwrap.dedent(module.code_for_node(function)).strip("\n") + "\n"
    return f"class {owner}:\n{textwrap.indent(code, '    ')}" if owner else code


def main(root: Path, out: Path, globs: list[str]) -> int:
    """Write the mutants of all files."""
    made: list[Mutant] = []
    for glob in globs:
        for path in sorted((root / "bootlease").glob(glob)):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            made += mutants(path, name)
    write_mutants(out, made)
    sys.stdout.write(f"{len(made)} mutants\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
