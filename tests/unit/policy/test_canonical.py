"""The canonical form of a policy: what its digest is taken over, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.policy import parse_policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.testing.policies import make_policy

EK = "ab" * 32


def toml(**changes: str) -> str:
    """Return a policy whose lists are in no order."""
    unordered = {
        "quote__banks": '["sha384", "sha256"]',
        "quote__pcrs": "[7, 0]",
        "quote__unsafe_clock": '"note"',
        "references__accept": '["zeta", "alpha"]',
        "lease__audiences": '["https://b.example", "https://a.example"]',
        "lease__unsafe_bearer_audiences": '["https://b.example", "https://a.example"]',
        "enrolment__admit": '"allowlist"',
        "enrolment__allow_ek": f'["{EK}"]',
    }
    return make_policy(**{**unordered, **changes})


POLICY = parse_policy(toml())
MEMBERS: dict[str, Any] = cbor.decode(POLICY.encode(), max_bytes=10_000)


def test_a_policy_survives_its_canonical_form() -> None:
    """What is read back has the digest, and is the policy in all that decides."""
    again = parse_canonical_policy(POLICY.encode())
    assert again.digest == POLICY.digest == hashlib.sha256(POLICY.encode()).digest()
    assert again.quote.selection == POLICY.quote.selection
    assert (again.quote.unsafe_clock, again.accept) == (POLICY.quote.unsafe_clock, POLICY.accept)
    assert (again.lease, again.enrolment) == (POLICY.lease, POLICY.enrolment)
    assert (again.id, again.authorization) == (POLICY.id, POLICY.authorization)


def test_files_of_one_digest_judge_alike() -> None:
    """The order in which a file lists banks and references shows nowhere."""
    other = parse_policy(
        toml(quote__banks='["sha256", "sha384"]', references__accept='["alpha", "zeta"]')
    )
    assert other.digest == POLICY.digest
    assert list(other.quote.selection) == list(POLICY.quote.selection)
    assert other.accept == POLICY.accept == ("alpha", "zeta")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("type", "bootlease/policy/2"),
        ("banks", [12, 11]),
        ("banks", [1]),
        ("pcrs", [7, 7]),
        ("pcrs", ["0"]),
        ("unsafe_clock", "note"),
        ("accept", ["zeta", "alpha"]),
        ("unsafe_bearer_audiences", ["https://c.example"]),
        ("continuity", 0),
        ("delegation_depth", 9),
        ("cedar", ""),
        ("cedar", "permit (principal, action, resource)"),
        ("audiences", ["https://a.example", "https://a.example"]),
        ("life", 0),
        ("admit", "everybody"),
        ("allow_ek", [b"short"]),
        ("more", 1),
    ],
)
def test_another_form_is_malformed(member: str, value: object) -> None:
    """Unsorted, repeated, unknown or impossible members are no canonical policy."""
    with pytest.raises(MalformedError):
        parse_canonical_policy(cbor.encode({**MEMBERS, member: value}))


@given(st.binary(max_size=100) | st.binary(max_size=40).map(cbor.encode))
def test_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Any bytes parse, or raise the one error."""
    with pytest.raises(MalformedError):
        parse_canonical_policy(data)
