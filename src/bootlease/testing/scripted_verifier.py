"""A verifier without a network and without a policy, to test agents against.

It really enrols, really verifies evidence and lineage, and really signs tokens; but it grants
whatever is well proven, and it fails when it is told to. Implements the Protocol
``bootlease.node.calls.Verifier``.

Not simulated: appraisal of what was booted, durability, several verifiers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import VerificationError
from bootlease.evidence import (
    Activation,
    Challenge,
    CredentialChallenge,
    DeniedLease,
    EnrolmentReceipt,
    EnrolmentRequest,
    IssuedLease,
    KeyPermit,
    LeaseAnswer,
    TokenEncoding,
    VerifiedEvidence,
    parse_evidence,
    verify_evidence,
)
from bootlease.evidence.enrolment import node_id
from bootlease.evidence.expiring import authority_name, permitted_seconds
from bootlease.evidence.segment import MAX_ENTRIES
from bootlease.evidence.verify import VerifiedLease
from bootlease.ima.framing import count_entries, template_hash_size
from bootlease.ledger import encode_leaf
from bootlease.lineage.continuation import Lineage, Prior, continue_lineage, head_after
from bootlease.model import Effect, Finding, HashAlg
from bootlease.node.bundle import JoinBundle
from bootlease.ports import Clock
from bootlease.testing.sealing import SealedLedger, with_receipt
from bootlease.token import (
    BootClaim,
    ExecutionClaims,
    KeySet,
    LineageClaim,
    PolicyClaim,
    PrivateKeySigner,
    ReferenceClaim,
    Tier,
    TokenFormat,
    TrustVector,
    VerificationKey,
    VerifierID,
    sign_cwt,
    sign_jwt,
)
from bootlease.token.keyrotation import sign_rotation
from bootlease.tpm import (
    AttestationKey,
    accept_attestation_key,
    accept_endorsement_key,
    make_credential,
    parse_public,
)

ISSUER: Final = "http://127.0.0.1:8443"
_DIGEST: Final = bytes(32)
_VECTOR: Final = TrustVector(instance_identity=2, executables=3)
_DENIED: Final = Finding("policy.scope.denied", "The policy does not grant the scope.")


@dataclass(slots=True)
class _Node:
    key: AttestationKey
    prior: Prior | None = None
    logs: set[bytes] = field(default_factory=set)
    entries: int = 0


class ScriptedVerifier:
    """A verifier that keeps everything in memory and does as it is told.

    Attributes:
        bundle: The join bundle of this verifier.
        ledger: Where its decisions are.
        life: Seconds that leases live.
        pcrs: What challenges ask for.
        before: Called with the name of each call before it is served; may raise, or let time pass.
        after: Called with the name of each call after it was served; raising loses its answer.
        refusal: Findings to refuse evidence with; empty to grant.
        denies: Scope names that are not granted: what is optional is left out for them.
        forge: Alters an answer that is about to be given.
        received: Every evidence document that came in.
        looks_at_ima: Ask for the IMA list, and accept every entry that comes.
        wants_whole_list: Ask once for the list from its first entry.
    """

    def __init__(self, clock: Clock, *, life: int = 120) -> None:
        """Make a verifier with a key of its own."""
        self.life = life
        self.pcrs: Mapping[HashAlg, tuple[int, ...]] = {HashAlg.SHA256: (0, 4, 7)}
        self.before: Callable[[str], None] = _nothing
        self.after: Callable[[str], None] = _nothing
        self.refusal: tuple[Finding, ...] = ()
        self.denies: frozenset[str] = frozenset()
        self.forge: Callable[[LeaseAnswer], LeaseAnswer] = _as_it_is
        self.received: list[bytes] = []
        self.looks_at_ima = False
        self.wants_whole_list = False
        self._clock = clock
        self._signer = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
        keys = KeySet((VerificationKey(self._signer.public),))
        self.ledger = SealedLedger.create()
        self._leash = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
        leash_key = self._leash.public
        self._authority = authority_name(leash_key)
        self.bundle = JoinBundle(ISSUER, keys, self.ledger.key, leash_key=leash_key)
        self._pending: dict[bytes, tuple[bytes, bytes, AttestationKey]] = {}
        self._nodes: dict[bytes, _Node] = {}
        self._challenges: dict[bytes, Challenge] = {}
        self._answers: dict[bytes, LeaseAnswer] = {}
        self._rotations: list[str] = []

    # -- what an agent calls

    def enrol(self, request: EnrolmentRequest) -> CredentialChallenge:
        """Challenge a TPM to prove that it has EK and AK."""
        self.before("enrol")
        endorsement = accept_endorsement_key(parse_public(request.ek_public))
        key = accept_attestation_key(parse_public(request.ak_public))
        secret, enrolment = os.urandom(32), os.urandom(32)
        made = make_credential(
            endorsement,
            key.name,
            secret,
            seed=os.urandom(32),
            ephemeral=ec.generate_private_key(endorsement.key.curve)
            if isinstance(endorsement.key, ec.EllipticCurvePublicKey)
            else None,
        )
        self._pending[enrolment] = (secret, node_id(endorsement.spki), key)
        self.after("enrol")
        return CredentialChallenge(enrolment, made.id_object, made.encrypted_secret)

    def activate(self, enrolment: bytes, activation: Activation) -> EnrolmentReceipt:
        """Enrol a node whose TPM opened the credential."""
        self.before("activate")
        secret, node, key = self._pending.pop(enrolment)
        if secret != activation.secret:
            raise _refused("enrolment.secret.mismatch", "The secret is another.")
        self._nodes[node] = _Node(key)
        self.after("activate")
        return EnrolmentReceipt(node)

    def challenge(self, node: bytes) -> Challenge:
        """Set a challenge."""
        self.before("challenge")
        if node not in self._nodes:
            raise _refused("node.unknown", "The node is not enrolled.")
        challenge = self._new_challenge(node)
        self.after("challenge")
        return challenge

    def lease(self, node: bytes, evidence: bytes) -> LeaseAnswer:
        """Verify evidence and grant what it asks for, unless told otherwise."""
        self.before("lease")
        self.received.append(evidence)
        answer = self._answers.get(evidence) or self._decide(node, evidence)
        self._answers[evidence] = answer
        self.after("lease")
        return self.forge(answer)

    def rotations(self) -> tuple[str, ...]:
        """Tell which token keys named which."""
        self.before("rotations")
        return tuple(self._rotations)

    # -- what a test does

    def rotate_key(self, *, announce: bool = True) -> None:
        """Sign with another key from now on."""
        new = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
        now = self._clock.now()
        if announce:
            self._rotations.append(sign_rotation(ISSUER, new.public, now=now, signer=self._signer))
        self._signer = new

    def forget_node(self, node: bytes) -> None:
        """Lose a node, as an operator does who removes it."""
        del self._nodes[node]

    def forget_challenges(self) -> None:
        """Lose every challenge and every answer."""
        self._challenges.clear()
        self._answers.clear()

    def forget_logs(self) -> None:
        """Lose every log that came in."""
        for node in self._nodes.values():
            node.logs.clear()

    # -- inside

    def _new_challenge(self, node: bytes) -> Challenge:
        now = self._clock.now()
        entries = self._nodes[node].entries if self.looks_at_ima else None
        challenge = Challenge(os.urandom(32), node, now, now + self.life, self.pcrs, entries)
        self._challenges[challenge.nonce] = challenge
        return challenge

    def _decide(self, node: bytes, evidence: bytes) -> LeaseAnswer:
        parsed = parse_evidence(evidence)
        known, challenge = self._nodes.get(node), self._challenges.get(parsed.binding.nonce)
        if known is None:
            raise _refused("node.unknown", "The node is not enrolled.")
        if challenge is None or challenge.node != node:
            raise _refused("challenge.unknown", "There is no such challenge.")
        now = self._clock.now()
        verified = verify_evidence(
            *(parsed, challenge, known.key), now=now, authority=self._authority
        )
        if not set(verified.log_digests.values()) - known.logs <= set(parsed.carried_logs()):
            raise _refused("eventlog.unavailable", "The log must be sent in full.")
        if self.wants_whole_list:
            self.wants_whole_list = False
            raise _refused("ima.list.wanted", "The IMA list must be sent from its first entry.")
        del self._challenges[challenge.nonce]
        place, findings = continue_lineage(known.prior, verified, now=now)
        denied = {
            at: asked.barred or (_DENIED,)
            for at, asked in enumerate(verified.leases)
            if asked.barred or self.denies & {*asked.scope}
        }
        if len(denied) == len(verified.leases) or any(
            not verified.leases[at].optional for at in denied
        ):
            findings = (*findings, *itertools.chain.from_iterable(denied.values()))
        if findings or self.refusal:
            known.prior = None
            raise VerificationError(*findings, *self.refusal)
        return self._grant(known, challenge, verified, place, denied)

    def _grant(
        self,
        node: _Node,
        challenge: Challenge,
        verified: VerifiedEvidence,
        place: Lineage,
        denied: Mapping[int, Sequence[Finding]],
    ) -> LeaseAnswer:
        now, expires_at = self._clock.now(), challenge.issued_at + self.life
        leases, digests, leaves = [], [], []
        for at, asked in enumerate(verified.leases):
            if at in denied:
                continue
            claims = self._claims(asked, challenge, verified, place)
            if asked.encoding is TokenEncoding.CWT:
                token = sign_cwt(claims, self._signer)
            else:
                form = TokenFormat(asked.encoding.value)
                token = sign_jwt(claims, self._signer, form).encode()
            digests.append(claims.digest)
            leaves.append(encode_leaf(_DIGEST, claims.digest))
            leases.append(
                IssuedLease(
                    *(claims.lease_id, asked.encoding, token, claims.digest, expires_at),
                    permit=self._permit(asked, expires_at),
                )
            )
        node.logs |= set(verified.log_digests.values())
        if verified.ima is not None:
            data = verified.ima_list() or b""
            hash_size = template_hash_size(data)
            node.entries = verified.ima.first + count_entries(
                data, 0, hash_size, at_most=MAX_ENTRIES
            )
        head = head_after(digests)
        node.prior = Prior(
            place.root,
            head,
            place.sequence,
            verified.quote.clock_info,
            expires_at,
            verified.log_digests,
            1,
            place.began_at,
            place.heads,
        )
        return LeaseAnswer(
            decision=_DIGEST,
            head=head,
            sequence=place.sequence,
            life=self.life,
            expires_in=max(0, expires_at - now),
            leases=tuple(map(with_receipt, leases, self.ledger.append(leaves))),
            challenge=self._new_challenge(challenge.node),
            denied=tuple(
                DeniedLease(at, tuple(replace(each, effect=Effect.NOTES) for each in why))
                for at, why in denied.items()
            ),
        )

    def _permit(self, asked: VerifiedLease, expires_at: int) -> KeyPermit | None:
        if asked.permit is None:
            return None
        seconds = permitted_seconds(expires_at, self._clock.now())
        return KeyPermit(seconds, self._leash.sign(asked.permit.message(seconds)))

    def _claims(
        self,
        asked: VerifiedLease,
        challenge: Challenge,
        verified: VerifiedEvidence,
        place: Lineage,
    ) -> ExecutionClaims:
        now, clock = self._clock.now(), verified.quote.clock_info
        return ExecutionClaims(
            issuer=self.bundle.issuer,
            subject=challenge.node.hex(),
            audience=asked.audience,
            issued_at=now,
            not_before=now,
            expires_at=challenge.issued_at + self.life,
            lease_id=os.urandom(16),
            scope=asked.scope,
            confirmation=asked.confirmation,
            protection=asked.protection,
            level=asked.level,
            verifier=VerifierID("bootlease", "scripted"),
            status=Tier.AFFIRMING,
            vector=_VECTOR,
            appraisal_policies=("scripted",),
            nonce=challenge.nonce,
            lineage=LineageClaim(place.root, place.sequence, place.previous),
            boot=BootClaim(clock.reset_count, clock.restart_count),
            policy=PolicyClaim("scripted", _DIGEST, 1),
            reference=ReferenceClaim("scripted", _DIGEST),
            evidence=verified.digest,
            decision=_DIGEST,
        )


def _nothing(call: str) -> None:
    del call


def _as_it_is(answer: LeaseAnswer) -> LeaseAnswer:
    return answer


def _refused(id_: str, message: str) -> VerificationError:
    return VerificationError(Finding(id_, message))
