"""A delegation is read in one form: what stands in its place is no token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from bootlease.errors import MalformedError
from bootlease.testing.chains import chain
from bootlease.token.delegation import Delegation, DelegationLink
from bootlease.token.grants import MAX_GRANT

_MADE: Final = chain(2).delegation
assert _MADE is not None
MADE: Final = _MADE
ROOT: Final = MADE.root
LINK: Final = MADE.links[0]


@pytest.mark.parametrize(
    "change",
    [
        *({"lease_id": value} for value in (b"l" * 15, b"l" * 17, "l" * 16, None)),
        *({"digest": value} for value in (b"d" * 31, b"d" * 33, "d" * 32, None)),
        *({"decision": value} for value in (b"d" * 31, b"d" * 33, "d" * 32, None)),
        *({"scope": value} for value in ((), ("",), ("a b",))),
        *({"audience": value} for value in ("", "a" * 513, "a\n", b"aud", None, ("a",))),
        *({"expires_at": value} for value in (-1, 1 << 53, 1.0, "1", True, None)),
    ],
    ids=lambda change: repr(change)[:40],
)
def test_a_root_has_every_value_in_its_form(change: dict[str, Any]) -> None:
    """Each value is bounded and of its type, whichever encoding it came in."""
    with pytest.raises(ValueError, match=r"delegation|scope"):
        replace(ROOT, **change)


@pytest.mark.parametrize(
    "change",
    [{"audience": "a"}, {"audience": "a" * 512}, {"expires_at": 0}, {"expires_at": (1 << 53) - 1}],
    ids=lambda change: repr(change)[:40],
)
def test_a_root_reaches_its_bounds(change: dict[str, Any]) -> None:
    """What is just within a bound is taken."""
    assert replace(ROOT, **change) != ROOT


@pytest.mark.parametrize(
    "change",
    [
        *({"lease_id": value} for value in (b"l" * 15, b"l" * 17, "l" * 16, None)),
        *({"thumbprint": value} for value in (b"d" * 31, b"d" * 33, "d" * 32, None)),
        *({"grant": value} for value in ("", "a" * (MAX_GRANT + 1), "é", b"a", ("a",))),
    ],
    ids=lambda change: repr(change)[:40],
)
def test_a_link_has_every_value_in_its_form(change: dict[str, Any]) -> None:
    """Each value is bounded and of its type, whichever encoding it came in."""
    with pytest.raises(ValueError, match=r"delegation|grant"):
        replace(LINK, **change)


@pytest.mark.parametrize("grant", ["a", "a" * MAX_GRANT], ids=["shortest", "longest"])
def test_a_link_reaches_its_bounds(grant: str) -> None:
    """What is just within a bound is taken."""
    assert DelegationLink(LINK.lease_id, LINK.thumbprint, grant).grant == grant


def test_links_are_a_tuple() -> None:
    """A list could be changed after it was checked."""
    with pytest.raises(ValueError, match="1 to 8 grants"):
        Delegation(ROOT, list(MADE.links))  # type: ignore[arg-type]  # that is the point


def test_both_forms_come_back() -> None:
    """What is read is what was written."""
    assert Delegation.from_cwt(MADE.to_cwt()) == MADE
    assert Delegation.from_jwt(MADE.to_jwt()) == MADE


def _cwt_with(index: int, value: object) -> list[Any]:
    made = MADE.to_cwt()
    made[0][index] = value
    return made


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", {}, 7, tuple(MADE.to_cwt())),
        [tuple(MADE.to_cwt()[0]), *MADE.to_cwt()[1:]],
        [*MADE.to_cwt()[:-1], tuple(MADE.to_cwt()[-1])],
        [{0: 1}, *MADE.to_cwt()[1:]],
        *(_cwt_with(6, status) for status in ("affirming", None, 1, 2.0)),
    ],
    ids=[
        *("none", "text", "map", "number", "tuple", "tuple-of-grant", "tuple-at-the-end"),
        *("map-of-grant", "status-text", "status-none", "status-one", "status-float"),
    ],
)
def test_a_delegation_in_cwt_is_arrays(value: object) -> None:
    """What only looks like an array is none, and a tier is one of four numbers."""
    with pytest.raises((ValueError, TypeError)):
        Delegation.from_cwt(value)


def _jwt(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    made = MADE.to_jwt()
    change(made)
    return made


class _Mapping(dict[str, Any]):
    """A map that is no plain one."""


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], "", _Mapping(MADE.to_jwt())),
        _jwt(lambda made: made.update(root=_Mapping(made["root"]))),
        _jwt(lambda made: made.update(links=tuple(made["links"]))),
        _jwt(lambda made: made["links"].__setitem__(0, _Mapping(made["links"][0]))),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_delegation_in_jwt_is_objects(value: object) -> None:
    """What only looks like an object or an array is none."""
    with pytest.raises(ValueError, match="a delegation lacks"):
        Delegation.from_jwt(value)


@pytest.mark.parametrize("status", ["AFFIRMING", "", "good", 2, None, ["none"]], ids=repr)
def test_the_status_of_a_root_is_a_tier(status: object) -> None:
    """A name that is no tier is not taken for one."""
    value = _jwt(lambda made: made["root"].update(ear_status=status))
    with pytest.raises(ValueError, match="no tier"):
        Delegation.from_jwt(value)


@pytest.mark.parametrize("name", ["jti", "digest", "decision"])
def test_a_root_in_jwt_has_base64url(name: str) -> None:
    """A digest has one spelling."""
    value = _jwt(lambda made: made["root"].update({name: made["root"][name] + "="}))
    with pytest.raises(MalformedError):
        Delegation.from_jwt(value)


def test_the_first_actor_acts_for_nobody() -> None:
    """The innermost ``act`` is the node's own key, with nothing within it."""
    outer = MADE.actors()
    assert set(outer["act"]["act"]) == {"sub"}
