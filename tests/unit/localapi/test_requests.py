"""Requests of workloads: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.localapi import (
    ConfirmationChoice,
    LeaseAsk,
    ProofAsk,
    is_handle,
    parse_lease_ask,
    parse_proof_ask,
)
from bootlease.testing.tokens import HOLDER, fixed_signer
from bootlease.token import PublicKey, TokenFormat

HANDLE = "A" * 43
FULL: dict[str, Any] = {
    "scope": ["tool:search", "repo:acme/*"],
    "audience": "https://tools.example",
    "handle": HANDLE,
    "encoding": "jwt",
    "confirmation": "tpm",
    "level": 2,
}


def parse(**changes: Any) -> LeaseAsk:
    """Parse a good request, changed; ``None`` leaves a member out."""
    members = {**FULL, **changes}
    left = {name: value for name, value in members.items() if value is not None}
    return parse_lease_ask(json.dumps(left).encode())


def test_a_request_is_read() -> None:
    """Every member means what the wire says."""
    assert parse() == LeaseAsk(
        ("tool:search", "repo:acme/*"),
        "https://tools.example",
        HANDLE,
        TokenFormat.JWT,
        ConfirmationChoice.TPM,
        None,
        2,
    )


def test_what_is_left_out_has_its_default() -> None:
    """A CWT, a key in the agent, no level."""
    asked = parse(encoding=None, confirmation=None, level=None)
    assert (asked.encoding, asked.confirmation) == (TokenFormat.CWT, ConfirmationChoice.PROCESS)
    assert asked.level is None
    assert asked.key is None


def test_an_own_key_is_read() -> None:
    """A JWK stands in for the place where the agent would keep a key."""
    asked = parse(confirmation=None, key=HOLDER.public.jwk())
    assert asked.key == HOLDER.public
    assert asked.confirmation is ConfirmationChoice.OWN


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"scope": []}, "a scope has"),
        ({"scope": ["a", "a"]}, "repeats"),
        ({"scope": ["a b"]}, "not a scope name"),
        ({"scope": "a"}, "scope is not a list"),
        ({"scope": [1]}, "scope is not a list"),
        ({"scope": ["a"] * 33}, "scope is not a list"),
        ({"audience": ""}, "audience"),
        ({"audience": "x" * 513}, "audience"),
        ({"audience": "a\nb"}, "audience"),
        ({"audience": 1}, "audience"),
        ({"handle": "A" * 42}, "handle has another form: .* 32 random bytes"),
        ({"handle": "A" * 42 + "B"}, "handle has another form"),
        ({"handle": 1}, "handle has another form"),
        ({"encoding": "xml"}, "encoding"),
        ({"encoding": 1}, "encoding"),
        ({"confirmation": "own"}, "confirmation"),
        ({"confirmation": 1}, "confirmation"),
        ({"confirmation": "tpm", "key": HOLDER.public.jwk()}, "exclude each other"),
        ({"confirmation": None, "key": {**HOLDER.public.jwk(), "d": "AA"}}, "private"),
        ({"confirmation": None, "key": {**HOLDER.public.jwk(), "y": "A" * 43}}, "not valid"),
        ({"confirmation": None, "key": "x"}, "JWK"),
        ({"level": 4}, "level"),
        ({"level": -1}, "level"),
        ({"level": True}, "level"),
        ({"surprise": 1}, "unknown member 'surprise'"),
    ],
)
def test_what_has_not_its_form_is_refused(changes: dict[str, Any], why: str) -> None:
    """Each member is checked, and none that is not known is passed over."""
    with pytest.raises(MalformedError, match=why):
        parse(**changes)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scope", "^scope is missing$"),
        ("audience", "^audience is missing$"),
        ("handle", "^handle is missing: .* names the lease by 32 random bytes as base64url"),
    ],
)
def test_what_must_be_there_is_said_to_be_missing(name: str, why: str) -> None:
    """Who leaves a member out is told so, and what a handle is."""
    with pytest.raises(MalformedError, match=why):
        parse(**{name: None})


def test_an_own_key_of_another_curve_is_refused() -> None:
    """The agent's wishes carry P-256 keys."""
    other = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP384R1()).public_key())
    with pytest.raises(MalformedError, match="is a P-256 key"):
        parse(confirmation=None, key=other.jwk())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"scope":["a"],"scope":["b"]}', b"{} {}", b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    """A repeated member has two meanings, so it has none."""
    with pytest.raises(MalformedError):
        parse_lease_ask(data)


@pytest.mark.parametrize("key", [None, fixed_signer(99).public])
@given(
    scope=st.lists(
        st.from_regex(r"[a-z]{1,5}:[a-z]{1,5}", fullmatch=True), min_size=1, max_size=4, unique=True
    ),
    audience=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40),
    encoding=st.sampled_from(TokenFormat),
    level=st.none() | st.integers(0, 3),
)
def test_what_is_written_is_read_again(
    key: PublicKey | None,
    scope: list[str],
    audience: str,
    encoding: TokenFormat,
    level: int | None,
) -> None:
    """Client and agent agree on every request."""
    choice = ConfirmationChoice.TPM_EXPIRING if key is None else ConfirmationChoice.OWN
    asked = LeaseAsk(tuple(scope), audience, HANDLE, encoding, choice, key, level)
    assert parse_lease_ask(asked.encode()) == asked


def test_a_request_for_a_proof_is_read() -> None:
    """Method, URL and nonce."""
    for asked in (ProofAsk("GET", "https://x/y?z"), ProofAsk("POST", "https://x", "a.b-c")):
        assert parse_proof_ask(asked.encode()) == asked


@pytest.mark.parametrize(
    "members",
    [
        {"method": "GET"},
        {"url": "https://x"},
        {"method": "get", "url": "https://x"},
        {"method": "A" * 17, "url": "https://x"},
        {"method": "GET", "url": ""},
        {"method": "GET", "url": "https://x/" + "y" * 4096},
        {"method": "GET", "url": "https://x/\u00e9"},
        {"method": "GET", "url": "https://x/\n"},
        {"method": "GET", "url": "https://x", "nonce": ""},
        {"method": "GET", "url": "https://x", "nonce": "a b"},
        {"method": "GET", "url": "https://x", "nonce": 'a"'},
        {"method": "GET", "url": "https://x", "nonce": "a" * 257},
        {"method": "GET", "url": "https://x", "ath": "x"},
    ],
)
def test_a_request_for_a_proof_of_another_form_is_refused(members: dict[str, str]) -> None:
    """What is signed has the form of a proof, whatever is asked for."""
    with pytest.raises(MalformedError):
        parse_proof_ask(json.dumps(members).encode())


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Never any other error."""
    for parser in (parse_lease_ask, parse_proof_ask):
        try:
            parser(data)
        except MalformedError:
            continue


@pytest.mark.parametrize("value", [None, 1, "", "A" * 44, "A" * 42 + "=", "é" * 43])
def test_what_is_no_handle(value: object) -> None:
    """A handle is 32 bytes in their one base64url form."""
    assert not is_handle(value)
    assert is_handle(HANDLE)
