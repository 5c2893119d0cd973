"""One simulated node before one policy, for tests and measurements of appraisal.

A ``Scene`` holds what a verifier would have stored, makes evidence as an agent would, and takes
it through the two phases, verification and appraisal. It keeps no server and no files; whatever
a test changes in it is what that test is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

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
from bootlease.evidence.verify import named_authority
from bootlease.ima import DigestType, IMADigest
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import HashAlg
from bootlease.node.renewal.attest import with_list
from bootlease.policy import PolicyEpoch, parse_policy
from bootlease.reference import IMAReferenceSet, ReferenceSet
from bootlease.reference.imaset import Origin
from bootlease.testing import policies
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import PublicKey
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public

NOW: Final = 1_800_000_000

AUDIENCE: Final = policies.AUDIENCE
REFERENCE: Final = policies.REFERENCE

POLICY: Final = policies.make_policy()
"""Grants ``SCOPES`` to any endorsed node that booted what ``REFERENCE`` holds."""


def plain_key(secret: int = 4711) -> PlainKey:
    """Return a confirmation key's public half; its secret is public."""
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    return PlainKey(cbor.encode(PublicKey.from_cryptography(public).cose()))


def default_lease(
    scope: tuple[str, ...] = ("tool:search",), audience: str = AUDIENCE
) -> LeaseRequest:
    """Return a wish that ``POLICY`` grants unless told otherwise."""
    return LeaseRequest(scope, audience, plain_key())


IMA_REFERENCE: Final = "files"

IMA_POLICY: Final = POLICY.replace("8, 9, 14]", "8, 9, 10, 14]").replace(
    'appraise = "off"',
    f"""appraise = "required"
accept = ["{IMA_REFERENCE}"]
unlisted = "refuse"
violations = "refuse"
signatures = "ignored\"""",
)
"""``POLICY`` for nodes whose kernel measures what it loads."""


def files_reference(
    files: Mapping[str, bytes],
    *,
    version: str = "1",
    **changes: Any,  # noqa: ANN401 - any member
) -> IMAReferenceSet:
    """Return the set that ``IMA_POLICY`` accepts, of files by their path.

    Args:
        files: What each holds.
        version: Which release it is.
        changes: Other members of the set.
    """
    listed = {
        path.encode(): (IMADigest(DigestType.IMA, "sha256", HashAlg.SHA256.digest(content)),)
        for path, content in files.items()
    }
    return IMAReferenceSet(IMA_REFERENCE, version, Origin.BUILT, listed, **changes)


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
        ima_references: The registered IMA sets.
        prior: The node's live lineage.
        high_water: The furthest that its TPM was seen to stand.
        now: The time.
        cache: Verdicts so far, if any are kept.
        authority: Name of the verifier's leash key; by default the one that evidence names.
    """

    node: SimulatedNode
    roots: TrustedRoots
    enrolment: Enrolment
    key: AttestationKey
    policy: PolicyEpoch
    references: Sequence[ReferenceSet]
    ima_references: Sequence[IMAReferenceSet] = ()
    prior: Prior | None = None
    high_water: HighWaterMark = field(default_factory=HighWaterMark)
    now: int = NOW
    cache: AppraisalCache | None = None
    authority: bytes | None = None
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
        learned = golden_reference(boot, match_events=match_events)
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
            ima=self._accepted_entries() if self.policy.policy.ima.required else None,
        )

    def _accepted_entries(self) -> int:
        progress = None if self.prior is None else self.prior.ima
        return 0 if progress is None else progress.state.entries

    def attest(
        self,
        challenge: Challenge,
        leases: Sequence[LeaseRequest] = (),
        *,
        previous: bytes | None = None,
        log: bytes | None = None,
        full: bool = True,
        first: int | None = None,
    ) -> Evidence:
        """Return the node's evidence for a challenge, as a document that was parsed.

        Args:
            challenge: The challenge.
            leases: The leases asked for; one that is granted if none is given.
            previous: Head of the lineage to continue.
            log: Another log than the node's.
            full: Send the log, not only its digest.
            first: First entry of the IMA list to send, other than the one asked for.
        """
        document = self.document(
            challenge, leases, previous=previous, log=log, full=full, first=first
        )
        return parse_evidence(document)

    def document(
        self,
        challenge: Challenge,
        leases: Sequence[LeaseRequest] = (),
        *,
        previous: bytes | None = None,
        log: bytes | None = None,
        full: bool = True,
        first: int | None = None,
    ) -> bytes:
        """Return what the node sends for a challenge, which nobody has parsed; see ``attest``."""
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
        if challenge.ima is not None and self.node.ima is not None:
            asked = 0 if previous is None else challenge.ima
            evidence = with_list(evidence, self.node.ima, asked if first is None else first)
        return evidence.encode()

    def verify(self, evidence: Evidence, challenge: Challenge) -> VerifiedEvidence:
        """Take evidence through the first phase."""
        authority = self.authority or named_authority(evidence)
        return verify_evidence(evidence, challenge, self.key, now=self.now, authority=authority)

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
            ima_references=self.ima_references,
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
