"""The shape of a token's claims: only what has it is taken without its claims being made.

What is let pass here is believed with the types that it has; each deviation is tried by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from bootlease import cbor
from bootlease.testing.tokens import execution_claims
from bootlease.token import strictjson
from bootlease.token.shape import has_cwt_shape, has_jwt_shape

CLAIMS: Final = execution_claims()
Members = dict[Any, Any]


def cwt() -> Members:
    """Return the members of a good CWT, as they are read."""
    read: Members = cbor.decode(cbor.encode(CLAIMS.to_cwt()), max_bytes=65536)
    return read


def jwt() -> Members:
    """Return the members of a good JWT, as they are read."""
    return strictjson.parse_object(strictjson.serialise(CLAIMS.to_jwt()))


FORMS: Final[dict[str, tuple[Callable[[], Members], Callable[[Members], bool], Any]]] = {
    "cwt": (cwt, has_cwt_shape, 266),
    "jwt": (jwt, has_jwt_shape, "submods"),
}
FORM = pytest.mark.parametrize("form", list(FORMS))


class Odd(dict[Any, Any]):
    """A map that is no plain one."""


@FORM
def test_what_is_signed_here_has_its_shape(form: str) -> None:
    """That is what makes it quick."""
    make, has, _ = FORMS[form]
    assert has(make())


@FORM
def test_another_type_of_any_member_is_another_shape(form: str) -> None:
    """Whatever it is that another type would be taken for."""
    make, has, _ = FORMS[form]
    for name in make():
        for other in (None, True, 1.0, (1,)):
            assert not has({**make(), name: other})


@FORM
def test_another_member_or_order_is_another_shape(form: str) -> None:
    """One more, one less, or the same ones in another order."""
    make, has, _ = FORMS[form]
    names = list(make())
    assert not has({**make(), "more": "text"})
    for name in names:
        members = make()
        value = members.pop(name)
        assert not has(members)
        renamed = {f"{each}?" if each == name else each: made for each, made in make().items()}
        assert not has(renamed)
        if name != names[-1]:
            members[name] = value
            assert not has(members)


@FORM
def test_another_node_is_another_shape(form: str) -> None:
    """Its members, their order and their types count as those of the whole."""
    make, has, at = FORMS[form]
    node = make()[at]["node"]
    odds: list[Any] = [None, [], Odd(node), {}, {**node, "more": 1}]
    for odd in odds:
        assert not has({**make(), at: {"node": odd}})
    assert not has({**make(), at: {}})
    for name in node:
        for other in (None, True, 1.0):
            assert not has({**make(), at: {"node": {**node, name: other}}})
        less = {each: made for each, made in node.items() if each != name}
        assert not has({**make(), at: {"node": less}})
        renamed = {f"{each}?" if each == name else each: made for each, made in node.items()}
        assert not has({**make(), at: {"node": renamed}})
    assert not has({**make(), at: {"node": dict(reversed(node.items()))}})
