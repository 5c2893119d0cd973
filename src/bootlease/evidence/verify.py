"""From evidence as presented to evidence that the AK vouches for.

What fails here proves nothing about the node's state; nearly all of it anybody could have sent. It
is refused and counted, but consumes no challenge, ends no lineage and is not recorded, so that
nobody can end another node's lease with garbage in its name (design section 4, step 5). The AK's
signature comes first: until it verifies, nothing is done for what was asked for.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bootlease import cbor
from bootlease.errors import VerificationError
from bootlease.evidence.binding import log_digest, qualifying_data
from bootlease.evidence.challenge import Challenge
from bootlease.evidence.document import Evidence, named_logs
from bootlease.evidence.expiring import ExpiringKey, PermitRequest, policy_ref
from bootlease.evidence.request import (
    MAX_KEY,
    CertifiedKey,
    LeaseRequest,
    PlainKey,
    TokenEncoding,
)
from bootlease.evidence.segment import IMA_LIST, IMASegment
from bootlease.frozen import quick_init
from bootlease.model import NODES_REMEMBERED, Finding
from bootlease.token import KeyProtection, PublicKey
from bootlease.tpm import (
    AttestationKey,
    VerifiedQuote,
    accept_bound_key,
    parse_public,
    verify_certification,
    verify_quote,
)
from bootlease.tpm.policy import accept_expiring_key, signed_policy

CERTIFY_LABEL = b"bootlease/certify/1"
"""qualifyingData of the TPM2_Certify that vouches for a TPM-resident confirmation key. It needs
no freshness of its own: the key's public area is inside the binding, which the quote signs."""


@dataclass(frozen=True, slots=True)
class VerifiedLease:
    """A lease that the AK's holder really asked for.

    Attributes:
        scope: Scope names asked for.
        audience: Relying party asked for.
        encoding: Form of token asked for.
        confirmation: The key its holder will prove possession of.
        protection: Where that key lives, as far as it was proven.
        level: Level at which the agent says that it enforces; None where it says nothing.
        optional: Where policy denies it, it is left out, and the others are granted all the same.
        permit: What the key needs the verifier's permit for; None where it can do without.
        barred: What denies it, whatever policy says; only of one that is optional.
    """

    scope: tuple[str, ...]
    audience: str
    encoding: TokenEncoding
    confirmation: PublicKey
    protection: KeyProtection
    level: int | None
    optional: bool = False
    permit: PermitRequest | None = None
    barred: tuple[Finding, ...] = ()


@quick_init
@dataclass(frozen=True, slots=True)
class VerifiedEvidence:
    """Evidence every part of which the AK signed for this challenge. Made by ``verify_evidence``.

    Attributes:
        digest: SHA-256 of the document.
        nonce: The challenge it answers.
        previous: Head of the lineage to continue, or None.
        leases: The leases asked for.
        quote: The verified quote with the PCR values it covers.
        log_digests: SHA-256 of each log, by kind.
        logs: The logs that came along, each of the digest above; and the IMA list.
        ima: Which part of the IMA list it is. No signature covers it: what PCR 10 says of it is
            the appraisal's to find out.
    """

    digest: bytes
    nonce: bytes
    previous: bytes | None
    leases: tuple[VerifiedLease, ...]
    quote: VerifiedQuote
    log_digests: Mapping[str, bytes]
    logs: Mapping[str, bytes]
    ima: IMASegment | None = None

    def named_logs(self) -> tuple[bytes, ...]:
        """Return the digest of everything long that the evidence names; see ``named_logs``."""
        return named_logs(self.log_digests, self.ima)

    def ima_list(self) -> bytes | None:
        """Return the part of the IMA list; None where it is neither there nor empty."""
        empty = b"" if self.ima is not None and self.ima.empty else None
        return self.logs.get(IMA_LIST, empty)


def verify_evidence(
    evidence: Evidence,
    challenge: Challenge,
    key: AttestationKey,
    *,
    now: int,
    authority: bytes | None = None,
) -> VerifiedEvidence:
    """Verify that the AK signed this evidence, whole, for this challenge.

    Proves: a TPM holding ``key`` answered ``challenge`` with these PCR values, this request,
    these confirmation keys and logs of these digests. Does not prove: that the state is good
    (``appraise`` decides), nor that the challenge is unspent (the store decides, in the
    transaction that spends it).

    Args:
        evidence: As parsed, unverified.
        challenge: As stored by the verifier for the evidence's nonce.
        key: The AK enrolled for the challenge's node.
        now: Seconds since the epoch.
        authority: Name of the verifier's leash key; without it no expiring key is accepted.

    Returns:
        The verified evidence.

    Raises:
        VerificationError: With every check that failed; of what was asked for none is made before
            the AK signed for the challenge, and of the keys none before it signed for them.
        MalformedError: A structure inside does not parse.
    """
    findings = _challenge_findings(evidence, challenge, now)
    try:
        quote = verify_quote(
            evidence.quote,
            evidence.signature,
            key,
            qualifying_data(evidence.encoded_binding),
            evidence.pcrs,
        )
    except VerificationError as exc:
        # Whoever knows a challenge can send as much: one signature, and not one for each lease.
        raise VerificationError(*findings, *exc.findings) from exc
    findings += _binding_findings(evidence)
    if findings:
        raise VerificationError(*findings)
    return VerifiedEvidence(
        digest=evidence.digest,
        nonce=challenge.nonce,
        previous=evidence.binding.previous,
        leases=_verify_leases(evidence, key, challenge.node, authority),
        quote=quote,
        log_digests=evidence.binding.logs,
        logs=evidence.logs,
        ima=evidence.ima,
    )


def _challenge_findings(evidence: Evidence, challenge: Challenge, now: int) -> list[Finding]:
    # Design section 4 step 2: bound to one node, short-lived (attacks A11, A13).
    findings: list[Finding] = []
    if not hmac.compare_digest(evidence.binding.nonce, challenge.nonce):
        findings.append(
            Finding("challenge.nonce.mismatch", "The evidence answers another challenge.")
        )
    if not challenge.issued_at <= now < challenge.expires_at:
        findings.append(
            Finding(
                "challenge.expired",
                "The challenge has expired; ask for a new one and quote again.",
                expected=f"before {challenge.expires_at}",
                seen=str(now),
            )
        )
    if evidence.ima is not None and challenge.ima is None:
        # What nobody asked for would be kept for nothing.
        findings.append(
            Finding("ima.list.unasked", "The challenge asks for no IMA list, but one came along.")
        )
    return findings


def _binding_findings(evidence: Evidence) -> list[Finding]:
    # Each part that the quote binds only by digest must be the part that was presented:
    # nobody changes scope, key or log in transit (attacks A25, G4).
    binding = evidence.binding
    findings: list[Finding] = []
    scope, confirmation = evidence.request_digests()
    if not hmac.compare_digest(scope, binding.scope):
        findings.append(
            Finding(
                "request.scope.mismatch",
                "The scope or audience asked for is not the one that the quote is bound to.",
            )
        )
    if not hmac.compare_digest(confirmation, binding.confirmation):
        findings.append(
            Finding(
                "request.confirmation-key.mismatch",
                "The confirmation key presented is not the one that the quote is bound to.",
            )
        )
    for kind, data in evidence.logs.items():
        if kind == IMA_LIST:
            findings += _list_findings(evidence.ima, data)
            continue
        expected = binding.logs.get(kind)
        seen = log_digest(data)
        if expected is None or not hmac.compare_digest(seen, expected):
            findings.append(
                Finding(
                    "eventlog.digest.mismatch",
                    f"The {kind} log presented is not the one that the quote is bound to.",
                    expected=None if expected is None else expected.hex(),
                    seen=seen.hex(),
                )
            )
    return findings


def _list_findings(ima: IMASegment | None, data: bytes) -> tuple[Finding, ...]:
    seen = log_digest(data)
    if ima is not None and hmac.compare_digest(seen, ima.digest):
        return ()
    return (
        Finding(
            "ima.digest.mismatch",
            "The IMA list presented is not the one that the evidence names.",
            expected=None if ima is None else ima.digest.hex(),
            seen=seen.hex(),
        ),
    )


def named_authority(evidence: Evidence) -> bytes | None:
    """Return the leash key that the expiring keys of evidence name, unverified; None without.

    For who looks at a decision again: the evidence is what the record says, and so is the key that
    it was accepted under. Whether that was the verifier's own, its join bundle says.
    """
    named = {
        lease.confirmation.authority
        for lease in evidence.leases
        if isinstance(lease.confirmation, ExpiringKey)
    }
    return named.pop() if len(named) == 1 else None


def _verify_leases(
    evidence: Evidence, key: AttestationKey, node: bytes, authority: bytes | None
) -> tuple[VerifiedLease, ...]:
    leases: list[VerifiedLease] = []
    findings: list[Finding] = []
    for lease in evidence.leases:
        try:
            leases.append(_verify_lease(lease, key, node, authority))
        except VerificationError as exc:
            findings += exc.findings
    if findings:
        raise VerificationError(*findings)
    return tuple(leases)


def _verify_lease(
    lease: LeaseRequest, key: AttestationKey, node: bytes, authority: bytes | None
) -> VerifiedLease:
    certified = lease.confirmation
    if isinstance(certified, PlainKey):
        return _plain_lease(lease, certified.cose_key)
    if isinstance(certified, ExpiringKey):
        return _expiring_lease(lease, certified, key, node, authority)
    return _certified_lease(lease, certified, _ByName(key))


class _ByName:
    """An AK that is the same as another of its name, which is a hash of all that it is."""

    __slots__ = ("key",)

    def __init__(self, key: AttestationKey) -> None:
        self.key = key

    def __hash__(self) -> int:
        return hash(self.key.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByName) and self.key.name == other.key.name


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _certified_lease(lease: LeaseRequest, certified: CertifiedKey, by: _ByName) -> VerifiedLease:
    # A key is certified once, without freshness of its own, and kept over renewals: what the AK
    # said of it is verified once too.
    bound = accept_bound_key(parse_public(certified.public))
    verify_certification(certified.attest, certified.signature, by.key, CERTIFY_LABEL, bound.public)
    return _verified(lease, PublicKey.from_cryptography(bound.key), KeyProtection.TPM)


def _expiring_lease(
    lease: LeaseRequest,
    asked: ExpiringKey,
    key: AttestationKey,
    node: bytes,
    authority: bytes | None,
) -> VerifiedLease:
    stray = _stray_key(asked, authority)
    # A node whose bundle names a leash key of before goes on with all that needs none.
    if stray is not None and not lease.optional:
        raise VerificationError(stray)
    # The node's id and the wish are in the policy: no permit for another lease, here or on another
    # node, lets this key be used.
    ref = policy_ref(node, lease.encoded()[0], asked.salt)
    bound = accept_expiring_key(parse_public(asked.public), signed_policy(asked.authority, ref))
    verify_certification(asked.attest, asked.signature, key, CERTIFY_LABEL, bound.public)
    verified = _verified(lease, PublicKey.from_cryptography(bound.key), KeyProtection.TPM_EXPIRING)
    if stray is not None:
        return replace(verified, barred=(stray,))
    return replace(verified, permit=PermitRequest(asked.session, ref))


def _stray_key(asked: ExpiringKey, authority: bytes | None) -> Finding | None:
    # Whoever signs permits decides when the key is over: that is this verifier, and nobody else.
    if authority is not None and hmac.compare_digest(asked.authority, authority):
        return None
    return Finding(
        "expiring-key.authority.mismatch",
        "The key's policy asks for permits by another key than this verifier's leash key.",
        expected=None if authority is None else authority.hex(),
        seen=asked.authority.hex(),
    )


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _plain_lease(lease: LeaseRequest, cose_key: bytes) -> VerifiedLease:
    # A lease keeps its key over its renewals; a point off its curve is refused once (load).
    key = PublicKey.from_cose(cbor.decode(cose_key, max_bytes=MAX_KEY))
    key.load()
    return _verified(lease, key, KeyProtection.PROCESS)


def _verified(lease: LeaseRequest, key: PublicKey, protection: KeyProtection) -> VerifiedLease:
    return VerifiedLease(
        scope=lease.scope,
        audience=lease.audience,
        encoding=lease.encoding,
        confirmation=key,
        protection=protection,
        level=lease.level,
        optional=lease.optional,
    )
