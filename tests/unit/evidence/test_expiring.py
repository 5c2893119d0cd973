"""Expiring keys and permits on the wire, and what the verifier holds of them."""

from __future__ import annotations

import dataclasses
import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import (
    Binding,
    Challenge,
    Evidence,
    ExpiringKey,
    IssuedLease,
    KeyPermit,
    LeaseRequest,
    TokenEncoding,
    VerifiedEvidence,
    confirmation_digest,
    log_digest,
    scope_digest,
    verify_evidence,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.evidence.expiring import authority_name, parse_permit, permitted_seconds, policy_ref
from bootlease.evidence.request import parse_lease_request
from bootlease.evidence.verify import named_authority
from bootlease.model import HashAlg
from bootlease.node.confirm import ExpiringTPMKey, Purpose
from bootlease.node.wish import LeaseWish
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import KeyProtection, PublicKey
from bootlease.tpm import accept_attestation_key, parse_public

NOW = 1_800_000_000
NODE = hashlib.sha256(b"node").digest()
WISH = LeaseWish(("tool:search",), "https://tools.example", level=3)
LEASH = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
OTHER_LEASH = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
AUTHORITY = authority_name(LEASH)
DEVICE = SimulatedNode(LocalCA.create())
LOG = b"log"


def expiring(**changes: object) -> ExpiringTPMKey:
    """Make a key for ``WISH`` on ``NODE``, unless told otherwise, in a session."""
    purpose = dataclasses.replace(Purpose(LEASH, NODE, WISH.purpose()), **changes)  # type: ignore[arg-type]  # any field
    key = ExpiringTPMKey(DEVICE, purpose)
    key.session = DEVICE.begin_permits()
    return key


def verify(lease: LeaseRequest, authority: bytes | None = AUTHORITY) -> VerifiedEvidence:
    """Take honest evidence for a lease through verification."""
    challenge = Challenge(os.urandom(32), NODE, NOW - 5, NOW + 60, {HashAlg.SHA256: (0,)})
    leases, logs = (lease,), {"tcg": LOG}
    binding = Binding(
        *(challenge.nonce, None, scope_digest(leases), confirmation_digest(leases)),
        {"tcg": log_digest(LOG)},
    )
    encoded = binding.encode()
    state = DEVICE.quote(qualifying_data(encoded), challenge.pcrs)
    evidence = Evidence(binding, encoded, leases, state.attest, state.signature, state.pcrs, logs)
    assert named_authority(evidence) in {None, *(_authority(each) for each in leases)}
    ak = accept_attestation_key(parse_public(DEVICE.ak_public()))
    return verify_evidence(evidence, challenge, ak, now=NOW, authority=authority)


def _authority(lease: LeaseRequest) -> bytes | None:
    key = lease.confirmation
    return key.authority if isinstance(key, ExpiringKey) else None


def refusals(lease: LeaseRequest, authority: bytes | None = AUTHORITY) -> set[str]:
    """Return the ids of every finding."""
    with pytest.raises(VerificationError) as refused:
        verify(lease, authority)
    return {finding.id for finding in refused.value.findings}


# -- what is verified


def test_an_expiring_key_is_verified_with_what_it_needs_a_permit_for() -> None:
    """The lease says how its key is kept, in which session, and for what the permit must be."""
    key = expiring()
    (lease,) = verify(WISH.request(key)).leases
    assert lease.protection is KeyProtection.TPM_EXPIRING
    assert lease.level == 3
    assert lease.confirmation == key.public
    assert lease.permit is not None
    assert lease.permit.session == key.session
    ref = policy_ref(NODE, WISH.purpose(), key.request.salt)
    assert lease.permit.message(9) == key.session + b"\xff\xff\xff\xf7" + ref


@pytest.mark.parametrize("authority", [None, authority_name(OTHER_LEASH)], ids=["none", "other"])
def test_a_key_that_waits_for_somebody_else_s_permits_is_refused(authority: bytes | None) -> None:
    """A verifier takes keys that wait for its own leash key, and none where it has none."""
    found = refusals(WISH.request(expiring()), authority)
    assert found == {"expiring-key.authority.mismatch"}


@pytest.mark.parametrize("authority", [None, authority_name(OTHER_LEASH)], ids=["none", "other"])
def test_an_optional_lease_with_such_a_key_is_barred(authority: bytes | None) -> None:
    """It gets no permit, and names what is wrong with its key; the evidence goes on."""
    wish = dataclasses.replace(WISH, optional=True)
    key = expiring(wish=wish.purpose())
    (lease,) = verify(wish.request(key), authority).leases
    assert lease.permit is None
    (finding,) = lease.barred
    assert finding.id == "expiring-key.authority.mismatch"
    assert finding.expected == (None if authority is None else authority.hex())
    assert finding.seen == AUTHORITY.hex()


def test_a_barred_key_is_certified_all_the_same() -> None:
    """What no TPM vouches for is no mishap: it refuses the evidence, optional or not."""
    wish = dataclasses.replace(WISH, optional=True)
    key = expiring(wish=wish.purpose())
    stranger = SimulatedNode(LocalCA.create()).bound_key().certification
    said = dataclasses.replace(key.request, attest=stranger.attest, signature=stranger.signature)
    lease = dataclasses.replace(wish.request(key), confirmation=said)
    assert "certify.signature.invalid" in refusals(lease, authority_name(OTHER_LEASH))


def test_a_key_whose_policy_names_another_authority_is_refused() -> None:
    """Naming the verifier's leash key is not enough: the policy itself must ask for it."""
    key = expiring(leash_key=OTHER_LEASH)
    said = dataclasses.replace(key.request, authority=AUTHORITY)
    lease = dataclasses.replace(WISH.request(key), confirmation=said)
    assert refusals(lease) == {"expiring-key.policy.mismatch"}


@pytest.mark.parametrize(
    "changes", [{"node": bytes(32)}, {"wish": LeaseWish(("tool:all",), "x").purpose()}]
)
def test_a_key_for_another_node_or_wish_is_refused(changes: dict[str, bytes]) -> None:
    """No key is used under a permit that was given for something else."""
    assert refusals(WISH.request(expiring(**changes))) == {"expiring-key.policy.mismatch"}


def test_a_key_with_another_salt_is_refused() -> None:
    """The salt that goes along is the policy's."""
    key = expiring()
    said = dataclasses.replace(key.request, salt=bytes(16))
    lease = dataclasses.replace(WISH.request(key), confirmation=said)
    assert refusals(lease) == {"expiring-key.policy.mismatch"}


def test_a_plain_tpm_key_said_to_expire_is_refused() -> None:
    """A key with a password and without a policy is named for both."""
    certified, key = DEVICE.bound_key().certification, expiring().request
    said = dataclasses.replace(
        key, public=certified.public, attest=certified.attest, signature=certified.signature
    )
    lease = LeaseRequest(WISH.scope, WISH.audience, said, level=3)
    assert refusals(lease) == {
        "expiring-key.attributes.user-with-auth",
        "expiring-key.policy.mismatch",
    }


def test_a_key_that_another_tpm_certified_is_refused() -> None:
    """The AK of this node must vouch for it."""
    key = expiring()
    stranger = SimulatedNode(LocalCA.create()).bound_key().certification
    said = dataclasses.replace(key.request, attest=stranger.attest, signature=stranger.signature)
    lease = dataclasses.replace(WISH.request(key), confirmation=said)
    assert "certify.signature.invalid" in refusals(lease)


def test_two_keys_for_one_wish_wait_for_permits_of_their_own() -> None:
    """The salt sets them apart: what is given to one opens no other."""
    one, two = expiring(), expiring()
    assert one.request.salt != two.request.salt
    first, second = (verify(WISH.request(key)).leases[0].permit for key in (one, two))
    assert first is not None
    assert second is not None
    assert first.policy_ref != second.policy_ref


# -- the wire


def test_an_expiring_key_comes_back_as_it_was_sent() -> None:
    """Encoding and parsing are each other's inverse, and the binding covers every member."""
    lease = WISH.request(expiring())
    assert parse_lease_request(cbor.decode(cbor.encode(lease.wire()), max_bytes=9999)) == lease
    for name in ("salt", "session", "authority"):
        other = dataclasses.replace(lease.confirmation, **{name: b"x"})  # type: ignore[arg-type]  # a field
        changed = dataclasses.replace(lease, confirmation=other)
        assert confirmation_digest([changed]) != confirmation_digest([lease])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("salt", bytes(size)) for size in (0, 15, 17)),
        *(("session", bytes(size)) for size in (0, 15, 17, 32)),
        *(("authority", bytes(size)) for size in (0, 33, 35)),
        *((name, None) for name in ("public", "attest", "signature", "session", "authority")),
        ("more", b""),
    ],
)
def test_an_expiring_key_of_another_form_is_malformed(name: str, value: bytes | None) -> None:
    """A session nonce of another length could be signed for something else than it seems."""
    wire = WISH.request(expiring()).wire()
    members = {**wire["cnf"], name: value}
    wire["cnf"] = {key: each for key, each in members.items() if each is not None}
    with pytest.raises(MalformedError):
        parse_lease_request(wire)


ISSUED = IssuedLease(b"l" * 16, TokenEncoding.JWT, b"token", b"c" * 32, 130)


@pytest.mark.parametrize("receipt", [None, b"receipt"])
def test_a_permit_rides_beside_the_token(receipt: bytes | None) -> None:
    """Written out by hand, it is what the general encoder writes."""
    issued = dataclasses.replace(ISSUED, receipt=receipt, permit=KeyPermit(59, b"s" * 64))
    assert issued.encode() == cbor.encode(issued.wire())
    assert dataclasses.replace(issued, permit=None).encode() == cbor.encode(
        {name: value for name, value in issued.wire().items() if name != "permit"}
    )


@pytest.mark.parametrize(
    "values",
    [
        (),
        (59,),
        (59, b"s" * 64, 1),
        (0, b"s" * 64),
        (-1, b"s" * 64),
        (1 << 31, b"s" * 64),
        (True, b"s" * 64),
        (59, b"s" * 63),
        (59, "s" * 64),
    ],
)
def test_what_is_no_permit_is_malformed(values: tuple[object, ...]) -> None:
    """Above all none that would never end."""
    with pytest.raises(MalformedError):
        parse_permit(values)


@given(st.integers(1, 1 << 40), st.integers(0, 900), st.floats(0, 0.999), st.floats(0, 60))
def test_the_tpm_s_end_is_never_after_the_lease_s(
    now: int, left: int, part: float, ago: float
) -> None:
    """Whenever within its second the verifier decides, and however old the session is by then."""
    seconds = permitted_seconds(now + left, now)
    started = now + part - ago
    assert started + seconds <= now + left
    assert seconds >= left - 1


def test_only_a_key_on_p256_is_a_leash_key() -> None:
    """Every TPM verifies with that curve, and no other is asked for."""
    other = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP384R1()).public_key())
    with pytest.raises(ValueError, match="P-256"):
        authority_name(other)
