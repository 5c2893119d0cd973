"""What ``verify_evidence`` holds: each part of the evidence is what the AK signed for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import (
    Binding,
    CertifiedKey,
    Challenge,
    Evidence,
    IMASegment,
    LeaseRequest,
    PlainKey,
    confirmation_digest,
    log_digest,
    scope_digest,
    verify_evidence,
)
from bootlease.evidence import verify as verify_module
from bootlease.evidence.binding import qualifying_data
from bootlease.model import HashAlg
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import KeyProtection, PublicKey
from bootlease.tpm import (
    AttestationKey,
    accept_attestation_key,
    parse_public,
    verify_certification,
)

NOW = 1_800_000_000
LOG = b"a log; its meaning is not this module's affair"


def plain_key() -> PlainKey:
    """Return a fresh confirmation key's public half."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return PlainKey(cbor.encode(PublicKey.from_cryptography(public).cose()))


@pytest.fixture(scope="module")
def node() -> SimulatedNode:
    """A software TPM."""
    return SimulatedNode(LocalCA.create())


@pytest.fixture
def key(node: SimulatedNode) -> AttestationKey:
    """The node's AK, accepted."""
    return accept_attestation_key(parse_public(node.ak_public()))


@pytest.fixture
def challenge() -> Challenge:
    """A live challenge."""
    return Challenge(os.urandom(32), bytes(32), NOW - 5, NOW + 60, {HashAlg.SHA256: (0, 4, 7)})


def attest(
    node: SimulatedNode, challenge: Challenge, lease: LeaseRequest | None = None
) -> Evidence:
    """Return honest evidence for ``challenge``."""
    leases = (lease or LeaseRequest(("tool:search",), "https://tools.example", plain_key()),)
    binding = Binding(
        challenge.nonce,
        None,
        scope_digest(leases),
        confirmation_digest(leases),
        {"tcg": log_digest(LOG)},
    )
    encoded = binding.encode()
    state = node.quote(qualifying_data(encoded), challenge.pcrs)
    return Evidence(
        binding, encoded, leases, state.attest, state.signature, state.pcrs, {"tcg": LOG}
    )


def refusals(
    evidence: Evidence, challenge: Challenge, key: AttestationKey, now: int = NOW
) -> set[str]:
    """Return the ids of every finding."""
    with pytest.raises(VerificationError) as refused:
        verify_evidence(evidence, challenge, key, now=now)
    return {finding.id for finding in refused.value.findings}


def test_honest_evidence_is_verified(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """Everything that was presented comes back as a verified value."""
    evidence = attest(node, challenge)
    verified = verify_evidence(evidence, challenge, key, now=NOW)
    assert verified.logs == {"tcg": LOG}
    assert set(verified.quote.pcrs[HashAlg.SHA256]) == {0, 4, 7}
    assert verified.leases[0].protection is KeyProtection.PROCESS


def test_a_key_in_the_tpm_is_told_from_one_in_a_process(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """A certified key is verified, and the lease says where it lives."""
    bound = node.bound_key()
    lease = LeaseRequest(("tool:a",), "x", bound.certification)
    verified = verify_evidence(attest(node, challenge, lease), challenge, key, now=NOW)
    assert verified.leases[0].protection is KeyProtection.TPM


def test_a_key_certified_by_another_tpm_is_refused(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """Another AK's word about a key is worth nothing here."""
    stranger = SimulatedNode(LocalCA.create()).bound_key()
    lease = LeaseRequest(("tool:a",), "x", stranger.certification)
    assert refusals(attest(node, challenge, lease), challenge, key) == {"certify.signature.invalid"}


def test_what_one_ak_certified_is_remembered_for_that_ak_alone(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is certified once and renewed often; another AK finds nothing remembered."""
    lease = LeaseRequest(("tool:a",), "x", node.bound_key().certification)
    verified: list[bytes] = []

    def counted(attest: bytes, *others: Any) -> Any:
        verified.append(attest)
        return verify_certification(attest, *others)

    monkeypatch.setattr(verify_module, "verify_certification", counted)
    for _ in range(3):
        verify_evidence(attest(node, challenge, lease), challenge, key, now=NOW)
    assert len(verified) == 1
    other = SimulatedNode(LocalCA.create())
    others = accept_attestation_key(parse_public(other.ak_public()))
    for _ in range(2):
        found = refusals(attest(other, challenge, lease), challenge, others)
        assert found == {"certify.signature.invalid"}
    assert len(verified) == 3


def test_a_certification_of_another_key_is_refused(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """The certified name must be that of the key presented."""
    one, two = node.bound_key().certification, node.bound_key().certification
    mixed = CertifiedKey(one.public, two.attest, two.signature)
    found = refusals(attest(node, challenge, LeaseRequest(("tool:a",), "x", mixed)), challenge, key)
    assert found == {"certify.name.mismatch"}


def altered_scope(evidence: Evidence) -> Evidence:
    """Ask for more than was bound."""
    lease = dataclasses.replace(evidence.leases[0], scope=("tool:everything",))
    return dataclasses.replace(evidence, leases=(lease,))


def altered_audience(evidence: Evidence) -> Evidence:
    """Ask for another relying party."""
    lease = dataclasses.replace(evidence.leases[0], audience="https://elsewhere.example")
    return dataclasses.replace(evidence, leases=(lease,))


def altered_key(evidence: Evidence) -> Evidence:
    """Have the token made out to another key (A25, G4)."""
    lease = dataclasses.replace(evidence.leases[0], confirmation=plain_key())
    return dataclasses.replace(evidence, leases=(lease,))


def altered_log(evidence: Evidence) -> Evidence:
    """Present another log than the one bound."""
    return dataclasses.replace(evidence, logs={"tcg": LOG + b"!"})


def unbound_log(evidence: Evidence) -> Evidence:
    """Present a log that the binding does not name, with a binding the quote does not cover."""
    binding = dataclasses.replace(evidence.binding, logs={})
    return dataclasses.replace(evidence, binding=binding)


def altered_binding(evidence: Evidence) -> Evidence:
    """Rewrite the binding to fit an altered request."""
    altered = altered_scope(evidence)
    binding = dataclasses.replace(evidence.binding, scope=scope_digest(altered.leases))
    return dataclasses.replace(altered, binding=binding, encoded_binding=binding.encode())


def altered_pcr(evidence: Evidence) -> Evidence:
    """Present another value for a quoted PCR."""
    values = dict(evidence.pcrs[HashAlg.SHA256]) | {4: bytes(31) + b"\1"}
    return dataclasses.replace(evidence, pcrs={HashAlg.SHA256: values})


@pytest.mark.parametrize(
    ("alter", "finding"),
    [
        (altered_scope, "request.scope.mismatch"),
        (altered_audience, "request.scope.mismatch"),
        (altered_key, "request.confirmation-key.mismatch"),
        (altered_log, "eventlog.digest.mismatch"),
        (unbound_log, "eventlog.digest.mismatch"),
        (altered_binding, "quote.nonce.mismatch"),
        (altered_pcr, "quote.pcr-digest.mismatch"),
    ],
)
def test_each_altered_part_has_its_own_finding(
    node: SimulatedNode,
    challenge: Challenge,
    key: AttestationKey,
    alter: Callable[[Evidence], Evidence],
    finding: str,
) -> None:
    """Whatever is exchanged on the way is refused, by name, and nothing else is blamed."""
    assert refusals(alter(attest(node, challenge)), challenge, key) == {finding}


def test_an_ima_list_is_the_one_that_the_evidence_names(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """Entries of another digest are refused, and nothing is said of the node."""
    asked = dataclasses.replace(challenge, ima=0)
    evidence = attest(node, asked)
    listed = dataclasses.replace(
        evidence, ima=IMASegment.of(0, b"entries"), logs={**evidence.logs, "ima": b"entries"}
    )
    verified = verify_evidence(listed, asked, key, now=NOW)
    assert (verified.ima, verified.ima_list()) == (listed.ima, b"entries")
    altered = dataclasses.replace(listed, logs={**evidence.logs, "ima": b"others"})
    assert refusals(altered, asked, key) == {"ima.digest.mismatch"}


def test_an_ima_list_that_nobody_asked_for_is_refused(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """Nothing is kept that no policy looks at."""
    evidence = dataclasses.replace(attest(node, challenge), ima=IMASegment.of(0, b""))
    assert refusals(evidence, challenge, key) == {"ima.list.unasked"}


def test_the_same_quote_vouches_for_any_part_of_a_list(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """The list is read after the quote, so it can come again without another one."""
    asked = dataclasses.replace(challenge, ima=0)
    evidence = attest(node, asked)
    parts = [dataclasses.replace(evidence, ima=IMASegment.of(first, b"")) for first in (0, 7)]
    first, second = (verify_evidence(each, asked, key, now=NOW) for each in parts)
    assert first.quote == second.quote
    assert parts[0].without_logs().encode() != parts[1].without_logs().encode()


def test_evidence_for_another_challenge_is_refused(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """A genuine quote for one nonce does not answer another (A11)."""
    other = dataclasses.replace(challenge, nonce=os.urandom(32))
    assert refusals(attest(node, challenge), other, key) == {"challenge.nonce.mismatch"}


@pytest.mark.parametrize("now", [NOW + 60, NOW - 6])
def test_a_challenge_counts_only_while_it_lives(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey, now: int
) -> None:
    """Neither after its end nor before its issue."""
    assert refusals(attest(node, challenge), challenge, key, now) == {"challenge.expired"}


def test_the_last_second_of_a_challenge_counts(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """``exp`` is the first second that is too late."""
    verify_evidence(attest(node, challenge), challenge, key, now=challenge.expires_at - 1)


def test_another_nodes_quote_is_refused(challenge: Challenge, key: AttestationKey) -> None:
    """A genuine quote of another TPM does not verify under this node's AK (A13, A25)."""
    stranger = SimulatedNode(LocalCA.create())
    assert refusals(attest(stranger, challenge), challenge, key) == {"quote.signature.invalid"}


def test_nothing_is_compared_that_the_ak_did_not_sign(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """Hashing what is asked for takes as long as there is of it, and strangers send that."""
    sent = altered_audience(altered_binding(attest(node, challenge)))
    assert refusals(sent, challenge, key) == {"quote.nonce.mismatch"}


@pytest.mark.parametrize("alter", [altered_binding, altered_scope], ids=["quote", "binding"])
def test_keys_are_looked_at_only_where_the_ak_signed_for_them(
    node: SimulatedNode,
    challenge: Challenge,
    key: AttestationKey,
    monkeypatch: pytest.MonkeyPatch,
    alter: Callable[[Evidence], Evidence],
) -> None:
    """Whoever knows a challenge has one signature verified, not one for each lease."""
    verified: list[object] = []
    monkeypatch.setattr(verify_module, "_verify_lease", lambda *each: verified.append(each))
    assert len(refusals(alter(attest(node, challenge)), challenge, key)) == 1
    assert not verified


def test_all_findings_are_told_at_once(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """An operator sees everything that is wrong, not only the first."""
    evidence = altered_key(altered_log(altered_scope(attest(node, challenge))))
    assert refusals(evidence, challenge, key, NOW + 999) == {
        "challenge.expired",
        "request.scope.mismatch",
        "request.confirmation-key.mismatch",
        "eventlog.digest.mismatch",
    }


def test_a_confirmation_key_off_its_curve_is_malformed(
    node: SimulatedNode, challenge: Challenge, key: AttestationKey
) -> None:
    """A point that is no point names no key; it never reaches a token."""
    wrong = PlainKey(cbor.encode({1: 2, -1: 1, -2: bytes(31) + b"\1", -3: bytes(31) + b"\1"}))
    evidence = attest(node, challenge, LeaseRequest(("tool:a",), "x", wrong))
    with pytest.raises(MalformedError, match="P-256"):
        verify_evidence(evidence, challenge, key, now=NOW)
