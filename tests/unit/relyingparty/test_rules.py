"""Which scope a request needs; what no rule is about is refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from bootlease.errors import VerificationError
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC, Rules

RULES = Rules(
    {
        "GET /search": "tool:search",
        "POST /search": "tool:write",
        "* /repo/*": "repo:read",
        "POST /repo/*": "repo:write",
        "GET /repo/acme/*": "repo:acme/*",
        "GET /healthz": PUBLIC,
        "* /own/*": BY_HANDLER,
        "GET /*": "any:thing",
    }
)


def need(method: str, path: str, raw: bytes | None = None) -> Any:
    """Return what a request needs."""
    return RULES.need(method, path, quote(path).encode() if raw is None else raw)


def refused(method: str, path: str, raw: bytes | None = None) -> str:
    """Return the id of a refusal."""
    with pytest.raises(VerificationError) as caught:
        need(method, path, raw)
    return caught.value.findings[0].id


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/search", "tool:search"),
        ("POST", "/search", "tool:write"),
        ("GET", "/repo/x", "repo:read"),
        ("PUT", "/repo/x/y", "repo:read"),
        ("POST", "/repo/x", "repo:write"),
        ("GET", "/repo/acme/x", "repo:acme/*"),
        ("GET", "/repo/", "repo:read"),
        ("GET", "/repo", "any:thing"),
        ("GET", "/healthz", PUBLIC),
        ("PATCH", "/own/x", BY_HANDLER),
        ("GET", "/", "any:thing"),
        ("GET", "/search/more", "any:thing"),
    ],
)
def test_the_longest_path_decides(method: str, path: str, expected: object) -> None:
    """A method's own rule before the one for every method."""
    assert need(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/search"),
        ("HEAD", "/search"),
        ("POST", "/repo/acme/x"),
        ("POST", "/healthz"),
        ("POST", "/elsewhere"),
        ("get", "/search"),
    ],
)
def test_what_no_rule_is_about_is_refused(method: str, path: str) -> None:
    """It never falls through from a path that has rules to a wider one."""
    assert refused(method, path) == "request.scope.unruled"


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("//search", None),
        ("/repo//x", None),
        ("/repo/../search", None),
        ("/repo/./x", None),
        ("/repo/..", None),
        ("/.", None),
        ("/repo\\x", None),
        ("/search;x", None),
        ("/search\x00", None),
        ("/search\x7f", None),
        ("/repo/acme/x", b"/repo/acme%2Fx"),
        ("/repo/acme/x", b"/repo%2facme/x"),
        ("/repo/%2e", b"/repo/%252e"),
        ("/repo/\ufffd\ufffd/x", b"/repo/%c0%ae/x"),
    ],
)
def test_a_path_with_two_readings_is_refused(path: str, raw: bytes | None) -> None:
    """A router, a file server and a proxy must not disagree on which rule it was."""
    assert refused("GET", path, raw) == "request.path.ambiguous"


def test_an_encoded_letter_is_the_letter() -> None:
    """The rule for a path holds for every spelling that the router takes for it."""
    assert need("GET", "/search", b"/%73earch") == "tool:search"


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"GET search": "x"},
        {"/search": "x"},
        {"get /search": "x"},
        {"GET /a*": "x"},
        {"GET /*/b": "x"},
        {"GET /a/../b": "x"},
        {"GET /a": "no scope"},
        {"GET /a": ""},
        {"GET /a": None},
        {" /a": "x"},
        {"G3T /a": "x"},
    ],
)
def test_a_rule_that_is_none_is_found_at_the_start(rules: dict[str, Any]) -> None:
    """A typo is an error, never a path without protection."""
    with pytest.raises(ValueError, match=r".+"):
        Rules(rules)
