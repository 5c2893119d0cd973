"""List the mutants that no test noticed, from what mutmut left behind in ``mutants/``.

Mutants that change only the words of a message are left out and counted: what a person reads is
no check. Prints each survivor as a difference of one function.
"""

from __future__ import annotations

import ast
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MUTANTS: Final = Path("mutants/src")
_SURVIVED: Final = 0
_NO_TESTS: Final = 33
_SAY: Final = {"Finding", "refused", "_refused", "_finding", "_missing"}
_MARK: Final = "__mutmut_"


class _Words(ast.NodeTransformer):
    """Makes all messages alike: texts with a space in them, and all that an error or finding says.

    Which error it is, and the id of a finding, stay.
    """

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Forget what a message says."""
        if isinstance(node.value, str) and " " in node.value:
            return ast.Constant("...")
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Forget what an error or a finding says."""
        name = ast.unparse(node.func).rpartition(".")[2]
        if not name.endswith("Error") and name not in _SAY:
            return self.generic_visit(node)
        ids = [each for each in node.args if isinstance(each, ast.Constant) and _is_id(each.value)]
        inner = [self.visit(each) for each in node.args if isinstance(each, ast.Call | ast.Starred)]
        return ast.Call(node.func, [*ids, *inner], [])


def _is_id(value: object) -> bool:
    return isinstance(value, str) and "." in value and " " not in value


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Give every function of a module with its name, those of its classes too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def text(node: ast.AST, name: str, *, words: bool) -> str:
    """Return a function's source, under ``name``."""
    copy = ast.parse(ast.unparse(node))
    if not words:
        copy = _Words().visit(copy)
    function = copy.body[0]
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.name = name
    return ast.unparse(copy)


def main() -> int:
    """Print the survivors."""
    total = killed = worded = untested = 0
    for meta in sorted(MUTANTS.rglob("*.meta")):
        codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
        if not codes:
            continue
        module = meta.with_suffix("")
        known = dict(functions(ast.parse(module.read_text())))
        for key, code in codes.items():
            if code is None:
                continue
            total += 1
            if code not in {_SURVIVED, _NO_TESTS}:
                killed += 1
                continue
            mutant = key.rpartition(".")[2]
            original = f"{mutant.rpartition(_MARK)[0]}{_MARK}orig"
            before, after = known[original], known[mutant]
            name = original.removesuffix(f"{_MARK}orig").removeprefix("x_")
            if text(before, name, words=False) == text(after, name, words=False):
                worded += 1
                continue
            untested += code == _NO_TESTS
            sys.stdout.write(f"\n{module.relative_to(MUTANTS)}: {key}\n")
            lines = difflib.unified_diff(
                text(before, name, words=True).splitlines(),
                text(after, name, words=True).splitlines(),
                lineterm="",
                n=1,
            )
            sys.stdout.write("\n".join(list(lines)[2:]) + "\n")
    left = total - killed - worded
    sys.stdout.write(
        f"\n{total} mutants: {killed} noticed, {worded} of words alone, {left} survived"
        f" ({untested} of them in code that no test of these parts runs)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
