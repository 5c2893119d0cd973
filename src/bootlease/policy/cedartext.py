"""The text of Cedar policies, before Cedar's own parser sees it: its bounds and its lines.

Specification: the lexical grammar of Cedar 4 (strings in double quotes with backslash escapes,
comments from ``//`` to the end of a line; a policy ends with ``;``).

Cedar's parser, validator and JSON form descend once for each level of an expression, without a
bound of their own: a text of two thousand brackets ends the process. A policy may come in a proof
file from anybody, so depth and length are bounded here first. Nothing here knows what a policy
means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError

MAX_CEDAR: Final = 128 * 1024
"""Characters of the whole text."""

MAX_POLICIES: Final = 1024
MAX_NESTING: Final = 24
"""Brackets within each other; Cedar 4 in a thread of 8 MiB takes some hundreds."""

MAX_OPERATORS: Final = 192
"""Operators of one policy, square brackets among them: each can be one level of its tree."""

_TOKEN: Final = re.compile(
    r"""(?P<skip>"(?:[^"\\]|\\.)*"|//[^\r\n]*)
    |(?P<broken>")
    |(?P<open>[([{])|(?P<close>[)\]}])
    |(?P<end>;)
    |(?P<operator>&&|\|\||[-+*!.]|[=!<>]=|[<>]|\b(?:if|in|has|like|is)\b)
    |(?P<text>[^\s"/;()\[\]{}&|+*!.=<>-]+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy of a text.

    Attributes:
        line: The line on which it begins, from 1.
        text: The policy, from the end of the one before.
    """

    line: int
    text: str


def split_policies(text: str) -> tuple[Statement, ...]:
    """Split a text into its policies, and bound each.

    Raises:
        MalformedError: The text is too long or too deep, or a string in it has no end.
    """
    if len(text) > MAX_CEDAR:
        raise MalformedError(f"more than {MAX_CEDAR} characters")
    statements = tuple(_statements(text))
    if len(statements) > MAX_POLICIES:
        raise MalformedError(f"more than {MAX_POLICIES} policies")
    return statements


def _statements(text: str) -> Iterator[Statement]:
    start, first, depth, operators = 0, None, 0, 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or ""
        if first is None and not token.group().startswith("//"):
            first = token.start()
        depth += _DEEPER.get(kind, 0)
        # What a bracket follows may be indexed by it: a level, though not within another.
        operators += kind == "operator" or token.group() == "["
        if wrong := _wrong(kind, depth, operators):
            raise MalformedError(f"line {_line(text, token.start())}: {wrong}")
        if kind == "end":
            yield Statement(_line(text, first or start), text[start : token.end()])
            start, first, operators = token.end(), None, 0
    if first is not None:
        yield Statement(_line(text, first), text[start:])


_DEEPER: Final = {"open": 1, "close": -1}


def permitting(statement: Statement, *, any_scope: bool) -> str:
    """Return a policy that permits wherever this one holds, whatever its effect.

    Args:
        statement: A policy that Cedar's parser takes.
        any_scope: Leave out what its head says of the scope.
    """
    text, depth = statement.text, 0
    effect = before = None
    commas: list[int] = []
    for token in _TOKEN.finditer(text):
        kind, word = token.lastgroup or "", token.group()
        depth += _DEEPER.get(kind, 0)
        if effect is None:
            # Annotations come first; what they are called may be any word.
            found = kind == "text" and not depth and before != "@" and word in _EFFECTS
            effect = token.end() if found else None
        elif depth == 1 and kind == "text":
            commas += [token.start() + at for at, letter in enumerate(word) if letter == ","]
        elif not depth and kind == "close":
            head = (
                text[effect : commas[1]] + ", resource)"
                if any_scope
                else text[effect : token.end()]
            )
            return f"permit{head}{text[token.end() :]}"
        before = word if kind != "skip" else before
    raise MalformedError(f"line {statement.line}: a policy without a head")


_EFFECTS: Final = frozenset({"permit", "forbid"})


def _wrong(kind: str, depth: int, operators: int) -> str | None:
    if kind == "broken":
        return "a string has no end"
    if depth < 0:
        return "a bracket is closed that was never opened"
    if depth and kind == "end":
        return "a bracket is still open"
    if depth > MAX_NESTING:
        return f"brackets in more than {MAX_NESTING} levels"
    if operators > MAX_OPERATORS:
        return f"a policy with more than {MAX_OPERATORS} operators"
    return None


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
