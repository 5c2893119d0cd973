"""Tell the mutants that no test could or should notice, by their form alone.

Two kinds are known without a look at what the code does: what changes only the words of a message
(a person reads them; no check does), and what says the same in another way.
"""

from __future__ import annotations

import ast
from typing import Final

_SAY: Final = {
    "Finding",
    "refused",
    "_refused",
    "_finding",
    "_missing",
    "unknown_key",
    "unknown_profile",
    "wrong_algorithm",
    "wrong_typ",
}
"""They make a finding, or the error with it."""

_LABELLED: Final = {
    "require_text",
    "require_digest",
    "require_number",
    "_require_text",
    "_require_number",
    "_require_bytes",
    "_require_digests",
    "_same",
}
"""Their first argument names a value in the message of the error."""


class _Words(ast.NodeTransformer):
    """Forgets texts with a space in them, and all that an error or finding says.

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
        if name in _LABELLED and node.args and isinstance(node.args[0], ast.Constant):
            node.args[0] = ast.Constant("...")
        if (
            name == "require_safe"
            and len(node.args) == 2
            and isinstance(node.args[1], ast.Constant)
        ):
            node.args[1] = ast.Constant("...")
        if not name.endswith("Error") and name not in _SAY:
            return self.generic_visit(node)
        ids = [each for each in node.args if isinstance(each, ast.Constant) and _is_id(each.value)]
        inner = [self.visit(each) for each in node.args if isinstance(each, ast.Call | ast.Starred)]
        return ast.Call(node.func, [*ids, *inner], [])


class _Meaning(ast.NodeTransformer):
    """Writes alike what Python takes alike."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """The name of an HTTP header in capitals."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Attribute) and node.value.attr == "headers":
            node.slice = _lower(node.slice)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A default that is said, or is not; a name in capitals where case makes no difference."""
        self.generic_visit(node)
        for keyword in node.keywords:
            if keyword.arg == "headers" and isinstance(keyword.value, ast.Dict):
                keyword.value.keys = [key and _lower(key) for key in keyword.value.keys]
        if isinstance(node.func, ast.Name) and node.func.id == "float" and node.args:
            node.args[0] = _lower(node.args[0])
        if not isinstance(node.func, ast.Attribute):
            return node
        match node.func.attr, node.args:
            case "encode" | "decode", [ast.Constant(str(name)), *rest]:
                node.args = [ast.Constant(name.lower()), *rest]
            case "get", [key, ast.Constant(None)]:
                node.args = [key]
            case "to_bytes" | "from_bytes", [first, ast.Constant("big")]:
                node.args = [first]
        return node


def _lower(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.Constant(node.value.lower())
    return node


def _is_id(value: object) -> bool:
    return isinstance(value, str) and "." in value and " " not in value


def without_words(source: str) -> str:
    """Return the source with all messages alike."""
    return ast.unparse(ast.fix_missing_locations(_Words().visit(ast.parse(source))))


def same_meaning(source: str) -> str:
    """Return the source in one of several forms that mean the same."""
    return ast.unparse(ast.fix_missing_locations(_Meaning().visit(ast.parse(source))))
