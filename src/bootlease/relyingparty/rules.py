"""Which scope a request needs, by method and path; what no rule is about is refused.

The path is compared as the application's router compares it: decoded, without query. A path that a
router, a file server and a proxy may read differently (``//``, ``/../``, an encoded slash) is
refused, so that no spelling leads past a rule.

Not handled: queries and bodies. What a request may do must follow from its method and path, or be
demanded by the handler (``BY_HANDLER``).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bootlease.errors import VerificationError
from bootlease.model import Finding
from bootlease.token.scope import is_scope_name

_BRANCH: Final = "/*"
_TWO_READINGS: Final = re.compile(r"//|/\.{1,2}(?:/|$)|[\\;\x00-\x1f\x7f\ufffd]")
"""An empty segment, ``.`` or ``..``; a backslash, which some take for a slash; ``;``, where some
end a segment; control characters; what a server puts in place of bytes that are no UTF-8, of which
some make a dot or a slash."""

_ENCODED: Final = re.compile(rb"%(?:2[Ff]|25)")
"""A slash or percent sign that is no slash or percent sign before it is decoded."""


class Access(enum.Enum):
    """What a rule may say instead of a scope name."""

    PUBLIC = "public"
    """Anybody may, without a token."""

    BY_HANDLER = "by-handler"
    """Who proves a lease may ask; the handler demands the scope, or its answer is withheld."""


PUBLIC: Final = Access.PUBLIC
BY_HANDLER: Final = Access.BY_HANDLER

Need = str | Access
"""A scope name, or what stands in its place."""


@dataclass(frozen=True, slots=True)
class _Rule:
    method: str
    path: str
    need: Need

    def covers(self, path: str) -> bool:
        if self.path.endswith(_BRANCH):
            return path.startswith(self.path[:-1])
        return path == self.path


class Rules:
    """Says what each request needs.

    Keys are a method and a path: ``GET /search``; ``GET /repo/*`` for every path that begins with
    ``/repo/``; ``* /repo/*`` for every method. The narrowest path that covers a request's decides.
    Where it has rules, none of which is about the method, the request is refused: it never falls
    through to a wider rule. A WebSocket is opened with GET.
    """

    def __init__(self, rules: Mapping[str, Need]) -> None:
        """Read the rules.

        Raises:
            ValueError: There is none, or one is no rule.
        """
        # The narrowest first, so that the first path that covers decides; those of one path stand
        # together, so that none of them is overlooked.
        self._rules: Final = sorted(
            (_read(key, need) for key, need in rules.items()),
            key=lambda rule: (not rule.path.endswith(_BRANCH), len(rule.path), rule.path),
            reverse=True,
        )
        if not rules:
            raise ValueError("no request could ever pass")

    def need(self, method: str, path: str, raw_path: bytes) -> Need:
        """Return what a request needs.

        Args:
            method: Its method.
            path: Its path, decoded, as the router gets it.
            raw_path: The same as it was sent.

        Raises:
            VerificationError: No rule is about it, or its path has two readings.
        """
        if _TWO_READINGS.search(path) or _ENCODED.search(raw_path):
            raise _refused("request.path.ambiguous", "The path has more than one reading.", path)
        deciding: str | None = None
        anyhow: Need | None = None
        for rule in self._rules:
            if deciding is not None and rule.path != deciding:
                break
            if rule.covers(path):
                deciding = rule.path
                if rule.method == method:
                    return rule.need
                if rule.method == "*":
                    anyhow = rule.need
        if anyhow is None:
            raise _refused(
                "request.scope.unruled", "No rule is about this method and path.", method
            )
        return anyhow


def _read(key: str, need: Need) -> _Rule:
    method, _, path = key.partition(" ")
    stem = path[:-1] if path.endswith(_BRANCH) else path
    if not path.startswith("/") or "*" in stem or _TWO_READINGS.search(stem):
        raise ValueError(f"{key!r:.80} is no rule such as 'GET /search' or 'GET /repo/*'")
    if method != "*" and (not method.isalpha() or not method.isupper()):
        raise ValueError(f"{key!r:.80} does not begin with a method or *")
    if not isinstance(need, Access) and not is_scope_name(need):
        raise ValueError(f"{need!r:.80} is not a scope name")
    return _Rule(method, path, need)


def _refused(id_: str, message: str, seen: str) -> VerificationError:
    return VerificationError(Finding(id_, message, seen=seen[:128]))
