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

TEXT = """
schema = 1
id = "default"
mode = "enforce"
[quote]
banks = ["sha384", "sha256"]
pcrs = [7, 0]
unsafe_clock = "note"
[references]
accept = ["zeta", "alpha"]
[boot]
secure_boot = "not-required"
deployed_mode = "not-required"
exit_boot_services = "not-required"
option_roms = "note"
unsafe_setup_mode = "note"
unsafe_test_keys = "note"
unsafe_debug_mode = "note"
unsafe_dma = "note"
unsafe_shim_validation = "note"
phases = []
[ima]
appraise = "off"
[lease]
life = 120
scopes = ["tool:search", "repo:acme/*"]
audiences = ["https://b.example", "https://a.example"]
max_leases = 16
[enrolment]
admit = "allowlist"
ek_algorithm = "ecc-p256"
allow_ek = ["%s"]
vendors = ["any"]
refuse_firmware = []
crl = "when-given"
unsafe_unendorsed_ek = []
unsafe_software_tpm = ["id:00001014/swtpm/*"]
unsafe_sha1_signatures = false
"""
POLICY = parse_policy(TEXT % ("ab" * 32))
MEMBERS: dict[str, Any] = cbor.decode(POLICY.encode(), max_bytes=10_000)


def test_a_policy_survives_its_canonical_form() -> None:
    """What is read back has the digest, and is the policy in all that decides."""
    again = parse_canonical_policy(POLICY.encode())
    assert again.digest == POLICY.digest == hashlib.sha256(POLICY.encode()).digest()
    assert again.quote.selection == POLICY.quote.selection
    assert (again.quote.unsafe_clock, again.accept) == (POLICY.quote.unsafe_clock, POLICY.accept)
    assert (again.lease.audiences, again.enrolment) == (POLICY.lease.audiences, POLICY.enrolment)
    assert (again.id, again.lease.life) == (POLICY.id, POLICY.lease.life)


def test_files_of_one_digest_judge_alike() -> None:
    """The order in which a file lists banks and references shows nowhere."""
    turned = TEXT.replace('["sha384", "sha256"]', '["sha256", "sha384"]')
    turned = turned.replace('["zeta", "alpha"]', '["alpha", "zeta"]')
    other = parse_policy(turned % ("ab" * 32))
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
        ("scopes", ["tool:search", "repo:acme/*"]),
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
