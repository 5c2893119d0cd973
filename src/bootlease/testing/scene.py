"""One simulated node before one policy, for tests and measurements of appraisal.

A ``Scene`` holds what a verifier would have stored, makes evidence as an agent would, and takes
it through the two phases, verification and appraisal. It keeps no server and no files; whatever
a test changes in it is what that test is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.appraisal import (
    AppraisalCache,
    AttestationResult,
    BootLog,
    accept_enrolment,
    appraise,
    boot_log_of,
    prior_after,
)
from bootlease.endorsement import Enrolment, TrustedRoots, parse_certificates
from bootlease.eventlog import parse_event_log, replay
from bootlease.evidence import (
    Binding,
    Challenge,
    EnrolmentRequest,
    Evidence,
    LeaseRequest,
    PlainKey,
    VerifiedEvidence,
    confirmation_digest,
    log_digest,
    parse_evidence,
    scope_digest,
    verify_evidence,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import HashAlg
from bootlease.policy import PolicyEpoch, parse_policy
from bootlease.reference import DEFAULT_PCRS, ReferenceSet, learn
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import PublicKey
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public

NOW: Final = 1_800_000_000
AUDIENCE: Final = "https://tools.example"
REFERENCE: Final = "golden"

POLICY: Final = f"""
schema = 1
id = "default"
[quote]
banks = ["sha256"]
pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]
unsafe_clock = "refuse"
[references]
accept = ["{REFERENCE}"]
[lease]
life = 120
scopes = ["tool:search", "repo:acme/*"]
audiences = ["{AUDIENCE}"]
max_leases = 16
[enrolment]
admit = "any-endorsed"
ek_algorithm = "ecc-p256"
allow_ek = []
unsafe_unendorsed_ek = []
"""


def plain_key(secret: int = 4711) -> PlainKey:
    """Return a confirmation key's public half; its secret is public."""
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    return PlainKey(cbor.encode(PublicKey.from_cryptography(public).cose()))


def default_lease(
    scope: tuple[str, ...] = ("tool:search",), audience: str = AUDIENCE
) -> LeaseRequest:
    """Return a wish that ``POLICY`` grants unless told otherwise."""
    return LeaseRequest(scope, audience, plain_key())


@dataclass
class Scene:
    """A node, and all that a verifier knows.

    Attributes:
        node: The simulated node.
        roots: Trusted manufacturers.
        enrolment: The node's record.
        key: Its AK.
        policy: The policy in force.
        references: The registered sets.
        prior: The node's live lineage.
        high_water: The furthest that its TPM was seen to stand.
        now: The time.
        cache: Verdicts so far, if any are kept.
    """

    node: SimulatedNode
    roots: TrustedRoots
    enrolment: Enrolment
    key: AttestationKey
    policy: PolicyEpoch
    references: Sequence[ReferenceSet]
    prior: Prior | None = None
    high_water: HighWaterMark = field(default_factory=HighWaterMark)
    now: int = NOW
    cache: AppraisalCache | None = None
    _challenges: int = field(default=0)

    @classmethod
    def create(
        cls,
        ca: LocalCA,
        boot: SimulatedBoot | None = None,
        *,
        policy: str = POLICY,
        match_events: Sequence[int] = (),
    ) -> Scene:
        """Boot and enrol a node, and learn a reference set from that boot."""
        boot = boot or simulate_boot(grub_description())
        node = SimulatedNode(ca, boot=boot)
        rules = parse_policy(policy)
        roots = TrustedRoots.of(parse_certificates(ca.roots_pem))
        request = EnrolmentRequest(node.ek_public(), node.ak_public(), tuple(node.ek_chain()))
        now = int(ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400
        accepted = accept_enrolment(request, roots, rules, now=now)
        learned = learn(
            replay(parse_event_log(boot.event_log)),
            None,
            name=REFERENCE,
            version="1",
            bank=HashAlg.SHA256,
            pcrs=DEFAULT_PCRS,
            match_events=match_events,
        )
        return cls(
            node=node,
            roots=roots,
            enrolment=accepted.enrolment(now=now),
            key=accept_attestation_key(parse_public(node.ak_public())),
            policy=PolicyEpoch(rules, 1),
            references=(learned,),
            now=now,
        )

    def use_policy(self, text: str) -> None:
        """Put another policy in force."""
        self.policy = PolicyEpoch(parse_policy(text), self.policy.epoch + 1)

    def challenge(self) -> Challenge:
        """Return a fresh challenge by the policy in force."""
        self._challenges += 1
        life = self.policy.policy.lease.life
        return Challenge(
            nonce=hashlib.sha256(b"nonce %d" % self._challenges).digest(),
            node=self.enrolment.node,
            issued_at=self.now,
            expires_at=self.now + life,
            pcrs=self.policy.policy.quote.selection,
        )

    def attest(
        self,
        challenge: Challenge,
        leases: Sequence[LeaseRequest] = (),
        *,
        previous: bytes | None = None,
        log: bytes | None = None,
        full: bool = True,
    ) -> Evidence:
        """Return the node's evidence for a challenge, as a document that was parsed.

        Args:
            challenge: The challenge.
            leases: The leases asked for; one that is granted if none is given.
            previous: Head of the lineage to continue.
            log: Another log than the node's.
            full: Send the log, not only its digest.
        """
        leases = tuple(leases) or (default_lease(),)
        log = self.node.event_log if log is None else log
        binding = Binding(
            challenge.nonce,
            previous,
            scope_digest(leases),
            confirmation_digest(leases),
            {"tcg": log_digest(log)},
        )
        encoded = binding.encode()
        state = self.node.quote(qualifying_data(encoded), challenge.pcrs)
        logs = {"tcg": log} if full else {}
        evidence = Evidence(
            binding, encoded, leases, state.attest, state.signature, state.pcrs, logs
        )
        return parse_evidence(evidence.encode())

    def verify(self, evidence: Evidence, challenge: Challenge) -> VerifiedEvidence:
        """Take evidence through the first phase."""
        return verify_evidence(evidence, challenge, self.key, now=self.now)

    def appraise(
        self, evidence: VerifiedEvidence, challenge: Challenge, log: BootLog | None = None
    ) -> AttestationResult:
        """Take verified evidence through the second phase.

        Args:
            evidence: Verified evidence.
            challenge: Its challenge.
            log: The log, where the evidence carries only its digest.
        """
        return appraise(
            evidence,
            boot_log_of(evidence, self.policy.policy.quote.banks) or log,
            challenge=challenge,
            prior=self.prior,
            high_water=self.high_water,
            enrolment=self.enrolment,
            roots=self.roots,
            references=self.references,
            policy=self.policy,
            now=self.now,
            cache=self.cache,
        )

    def decide(
        self,
        leases: Sequence[LeaseRequest] = (),
        *,
        previous: bytes | None = None,
        log: bytes | None = None,
    ) -> AttestationResult:
        """Challenge, attest, verify and appraise, with the log in full."""
        challenge = self.challenge()
        evidence = self.attest(challenge, leases, previous=previous, log=log)
        return self.appraise(self.verify(evidence, challenge), challenge)

    def begin(self) -> AttestationResult:
        """Begin a lineage and keep it."""
        result = self.decide()
        digests = {"tcg": log_digest(self.node.event_log)}
        self.prior = prior_after(result, hashlib.sha256(b"head").digest(), digests)
        return result

    def enrolled_as(self, **changes: object) -> None:
        """Change the node's record."""
        self.enrolment = replace(self.enrolment, **changes)  # type: ignore[arg-type]  # any field
