"""Verifying a proof file: no network, no database, no clock; only keys that the caller trusts.

The steps, numbered as docs/proof.md numbers them for a second implementation:

1. the ledger's key signed every checkpoint; shards are chained; cosignatures verify;
2. each decision of the lineage is in the ledger;
3. each is made again, from the pieces in the file, to the same bytes;
4. each continues the one before it;
5. the enrolment's keys, names and certificates agree, and the ledger dates it;
6. the ledger is the issuer's; a trusted token key signed these claims; its receipt is the ledger's;
7. nothing rides along that was not asked for by a digest.

Every byte of the file lies under a signature, or under a digest that lies under one, or decides
by itself whether the rest parses: a changed bit refuses the proof or makes it malformed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bootlease.appraisal import CodeIdentity
from bootlease.audit.chain import ChainLink, VerifiedChain, verify_chain
from bootlease.audit.enrolments import check_chain, check_enrolment, necessary_chain
from bootlease.audit.pieces import ProofPieces
from bootlease.audit.replay import Replayer
from bootlease.audit.trees import ProvenTrees, verify_trees
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import (
    GovernanceRecord,
    NoteKey,
    encode_leaf,
    parse_tlog_proof,
    verify_receipt,
    verify_tlog_proof,
    witness_names,
)
from bootlease.ledger.checkpoint import ledger_name
from bootlease.ledger.governance import RECORDS_ENROLMENT
from bootlease.ledger.prooffile import ProofFile
from bootlease.model import Finding, sha256
from bootlease.token import (
    AuthenticToken,
    ExecutionClaims,
    KeySet,
    TokenFormat,
    verify_cwt,
    verify_jwt,
)
from bootlease.token.cose import parse_sign1
from bootlease.token.receipts import RECEIPTS, receipts_of
from bootlease.token.verified import MAX_TOKEN_BYTES

_CWT_START: Final = b"\xd2"


@dataclass(frozen=True, slots=True)
class ProofTrust:
    """What the verifier of a proof trusts, from outside the proof.

    Attributes:
        ledger: The key that signs the ledger.
        tokens: The keys that sign tokens.
        witnesses: Keys of witnesses that are believed. Those of one name are one witness's.
        quorum: How many witnesses must have cosigned the last checkpoint.
        roots: Roots that the EK's certificates must lead to; ``None`` to take those that the
            verifier trusted when it decided.
    """

    ledger: NoteKey
    tokens: KeySet
    witnesses: tuple[NoteKey, ...] = ()
    quorum: int = 0
    roots: TrustedRoots | None = None

    def __post_init__(self) -> None:
        # One key under two names too: a cosignature by it can be given out as either's.
        if len({key.public for key in self.witnesses}) != len(self.witnesses):
            raise ValueError("a witness's key is given twice")
        if not 0 <= self.quorum <= len(witness_names(self.witnesses)):
            raise ValueError("a quorum is at most the number of witnesses")


@dataclass(frozen=True, slots=True)
class ProofReport:
    """What a proof proves. Made by ``verify_proof``.

    Attributes:
        claims: The lease's claims.
        claims_digest: Their digest.
        token: Form of the token in the proof, ``None`` where it has none.
        receipt: The token came with a receipt, which verified.
        origin: The shard that the lease is in.
        size: Leaves of the tree that proves it.
        root: Root of that tree.
        witnesses: Names of the believed witnesses that cosigned the last checkpoint.
        unchecked: Names of other witnesses: their keys came with the proof and count for nothing.
        own_roots: The EK's certificates lead to the caller's own roots.
        endorsed: A manufacturer vouches for the EK.
        enrolled: The ledger has a record of the enrolment.
        decisions: How many decisions the lineage has, each made again.
        begun_at: When the lineage began.
        code: The program that decided last.
        notes: Findings that refuse nothing.
    """

    claims: ExecutionClaims
    claims_digest: bytes
    token: TokenFormat | None
    receipt: bool
    origin: str
    size: int
    root: bytes
    witnesses: tuple[str, ...]
    unchecked: tuple[str, ...]
    own_roots: bool
    endorsed: bool
    enrolled: bool
    decisions: int
    begun_at: int
    code: CodeIdentity
    notes: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        claims = self.claims
        return {
            "lease": claims.lease_id.hex(),
            "node": claims.subject,
            "decision": claims.decision.hex(),
            "claims": self.claims_digest.hex(),
            "issued_at": claims.issued_at,
            "expires_at": claims.expires_at,
            "token": None if self.token is None else self.token.value,
            "receipt": self.receipt,
            "checkpoint": {"origin": self.origin, "size": self.size, "root": self.root.hex()},
            "witnesses": list(self.witnesses),
            "unchecked_witnesses": list(self.unchecked),
            "own_roots": self.own_roots,
            "endorsed": self.endorsed,
            "enrolment_in_ledger": self.enrolled,
            "lineage": {"decisions": self.decisions, "begun_at": self.begun_at},
            "code": {"version": self.code.version, "digest": self.code.digest.hex()},
            "notes": [note.as_dict() for note in self.notes],
        }


def verify_proof(
    proof: ProofFile, trust: ProofTrust, *, code: CodeIdentity | None = None
) -> ProofReport:
    """Prove that a lease was rightly given, by what stood in the ledger when it was.

    Proves: the ledger that ``trust.ledger`` signs holds the decision that granted the lease; the
    decision follows, by the program that runs now, from evidence that the node's AK signed, from
    the policy, references and roots that it names, and from every decision before it back to full
    evidence. Does not prove: that the verifier honestly activated a credential when it enrolled the
    node; that a nonce was random and used once, or that the verifier's clock was right; that the
    ledger shows everybody this tree, unless witnesses are believed; that the lease was not ended
    early; what the node ran besides what was measured.

    Args:
        proof: Unverified.
        trust: From outside the proof.
        code: The program that runs now, to note where another one decided.

    Returns:
        What was proven.

    Raises:
        MalformedError: A piece does not parse.
        VerificationError: With every check that failed.
    """
    # 1.
    trees = verify_trees(proof, trust.ledger)
    findings = list(_demand_quorum(trees, trust))
    # 2. to 4.
    pieces = ProofPieces(proof)
    chain = verify_chain(proof.decisions, sha256(proof.claims), trees, Replayer(pieces, code))
    # 5.
    enrolment = Enrolment.parse(proof.enrolment.record)
    findings += _enrolment_findings(enrolment, proof, pieces, trust)
    findings += _governance_findings(enrolment, proof, trees)
    # 6.
    last = chain.links[-1]
    findings += _issuer_findings(last, trust.ledger)
    claims = _claims_of(last, proof.claims)
    token, receipt = _verify_token(proof, trust, trees)
    # 7.
    findings += pieces.surplus()
    if findings:
        raise VerificationError(*findings)
    return _report(proof, chain, trees, trust, (claims, token, receipt))


def _demand_quorum(trees: ProvenTrees, trust: ProofTrust) -> Iterator[Finding]:
    # Each shard holds the final checkpoint of the one before: the last cosignature covers all.
    believed = _believed(trees, trust)
    if len(believed) < trust.quorum:
        yield Finding(
            "proof.witness.quorum",
            "Too few of the trusted witnesses have cosigned the last checkpoint.",
            expected=str(trust.quorum),
            seen=", ".join(believed) or "none",
        )


def _believed(trees: ProvenTrees, trust: ProofTrust) -> tuple[str, ...]:
    seen = trees.trees[-1].witnesses
    return witness_names(key for key in trust.witnesses if key in seen)


def _issuer_findings(last: ChainLink, key: NoteKey) -> Iterator[Finding]:
    # The ledger's key names its verifier: nobody's ledger vouches for another's decisions.
    issuer = last.record.issuer
    if ledger_name(issuer) != key.name:
        yield Finding(
            "proof.issuer.mismatch",
            "The decision was made by another verifier than the one whose ledger this is.",
            expected=key.name,
            seen=issuer,
        )


def _enrolment_findings(
    enrolment: Enrolment, proof: ProofFile, pieces: ProofPieces, trust: ProofTrust
) -> Iterator[Finding]:
    yield from check_enrolment(enrolment)
    chain = proof.enrolment.chain
    broken = check_chain(enrolment, chain, pieces.certificates)
    yield from broken
    if not broken:
        # What the path does not need, no signature that was checked covers.
        if necessary_chain(enrolment, chain, pieces.certificates) != chain:
            yield Finding(
                "endorsement.surplus", "The EK's chain has certificates that it does not need."
            )
        yield from _own_root_findings(enrolment, trust)


def _own_root_findings(enrolment: Enrolment, trust: ProofTrust) -> Iterator[Finding]:
    if trust.roots is None:
        return
    if enrolment.endorsement is None or enrolment.endorsement.root not in trust.roots:
        yield Finding(
            "proof.root.untrusted",
            "The node's TPM is not vouched for by one of your own roots.",
            seen="none" if enrolment.endorsement is None else enrolment.endorsement.root.hex(),
        )


def _governance_findings(
    enrolment: Enrolment, proof: ProofFile, trees: ProvenTrees
) -> Iterator[Finding]:
    proven = proof.enrolment
    if proven.governance is None or proven.place is None:
        return
    record = GovernanceRecord.parse(proven.governance)
    details = record.details
    if (
        record.kind not in RECORDS_ENROLMENT
        or details.get("enrolment") != enrolment.digest
        or details.get("node") != enrolment.node
    ):
        yield Finding(
            "proof.enrolment.mismatch",
            "The governance record is not that of the node's enrolment.",
            seen=record.kind,
        )
    first = proof.decisions[0].place
    if (proven.place.shard, proven.place.index) >= (first.shard, first.index):
        yield Finding(
            "proof.enrolment.late", "The ledger has the enrolment behind the first decision."
        )
    try:
        trees.verify_leaf(encode_leaf(record.digest), proven.place)
    except VerificationError as exc:
        yield from exc.findings


def _claims_of(last: ChainLink, encoded: bytes) -> ExecutionClaims:
    for claims in last.claims:
        if claims.encoded() == encoded:
            return claims
    raise VerificationError(
        Finding("proof.claims.mismatch", "The claims are not those of a lease that was granted.")
    )


def _verify_token(
    proof: ProofFile, trust: ProofTrust, trees: ProvenTrees
) -> tuple[TokenFormat | None, bool]:
    if proof.token is None:
        if proof.receipt is not None:
            raise MalformedError("a proof without token has no receipt")
        return None, False
    decision = proof.decisions[-1]
    leaf = encode_leaf(sha256(decision.record), sha256(proof.claims))
    origin = trees.trees[decision.place.shard].checkpoint.origin
    if proof.token.startswith(_CWT_START):
        verified = verify_cwt(proof.token, trust.tokens)
        place = _cwt_receipt(proof, leaf, trust, origin)
    else:
        verified = verify_jwt(_ascii(proof.token), trust.tokens)
        place = _jwt_receipt(proof, leaf, trust, origin)
    _demand_claims(verified, proof.claims)
    if place is not None and place != decision.place.index:
        raise VerificationError(
            Finding(
                "proof.receipt.mismatch", "The token's receipt is for another place in the ledger."
            )
        )
    return verified.format, place is not None


def _cwt_receipt(proof: ProofFile, leaf: bytes, trust: ProofTrust, origin: str) -> int | None:
    """Return the index that the receipt in a CWT proves, if it has one."""
    token = proof.token or b""
    if proof.receipt is not None:
        raise MalformedError("the receipt of a CWT rides in the CWT")
    # The unprotected header is under no signature; receipts alone carry their own.
    header = parse_sign1(token, max_bytes=MAX_TOKEN_BYTES).unprotected
    receipts = receipts_of(token)
    if header.keys() - {RECEIPTS} or len(receipts) != len(header):
        raise MalformedError("the token's unprotected header holds more than one receipt")
    if not receipts:
        return None
    return verify_receipt(receipts[0], leaf, trust.ledger, origin=origin).index


def _jwt_receipt(proof: ProofFile, leaf: bytes, trust: ProofTrust, origin: str) -> int | None:
    """Return the index that the receipt beside a JWT proves, if there is one."""
    if proof.receipt is None:
        return None
    if parse_tlog_proof(proof.receipt).extra is None:
        # With and without it the receipt says the same: one content has one file.
        raise MalformedError("the receipt beside a JWT does not hold its ledger entry")
    verified = verify_tlog_proof(proof.receipt, leaf, trust.ledger, origin=origin)
    if len(verified.checkpoint.note.signatures) != 1:
        # Cosignatures belong to the proof's checkpoints, where their keys are listed.
        raise MalformedError("the receipt's checkpoint has other signatures than the ledger's")
    return verified.index


def _ascii(token: bytes) -> str:
    try:
        return token.decode("ascii")
    except UnicodeDecodeError as exc:
        raise MalformedError("the token is neither a CWT nor a JWT") from exc


def _demand_claims(verified: AuthenticToken, encoded: bytes) -> None:
    if verified.claims.encoded() != encoded or (
        verified.format is TokenFormat.CWT and verified.payload != encoded
    ):
        raise VerificationError(
            Finding("proof.token.mismatch", "The token says something else than the lease.")
        )


def _report(
    proof: ProofFile,
    chain: VerifiedChain,
    trees: ProvenTrees,
    trust: ProofTrust,
    lease: tuple[ExecutionClaims, TokenFormat | None, bool],
) -> ProofReport:
    claims, token, receipt = lease
    record = chain.links[-1].record
    tree = trees.trees[proof.decisions[-1].place.shard].checkpoint
    believed = _believed(trees, trust)
    listed = set(witness_names(key for each in trees.trees for key in each.witnesses))
    return ProofReport(
        claims=claims,
        claims_digest=claims.digest,
        token=token,
        receipt=receipt,
        origin=tree.origin,
        size=tree.size,
        root=tree.root,
        witnesses=believed,
        unchecked=tuple(sorted(listed.difference(witness_names(trust.witnesses)))),
        own_roots=trust.roots is not None,
        endorsed=Enrolment.parse(proof.enrolment.record).endorsement is not None,
        enrolled=proof.enrolment.governance is not None,
        decisions=len(chain.links),
        begun_at=chain.links[0].record.time,
        code=CodeIdentity(record.code_version, record.code),
        notes=chain.notes,
    )
