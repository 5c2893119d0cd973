"""Is this lease in the verifier's ledger? A token whose decision nobody can prove later is none.

Specifications: RFC 9942 (the receipt in a CWT), C2SP tlog-proof (the one beside a JWT).
"""

from __future__ import annotations

from typing import Final

from bootlease.errors import VerificationError
from bootlease.evidence import IssuedLease, TokenEncoding
from bootlease.ledger import NoteKey, encode_leaf, verify_receipt, verify_tlog_proof
from bootlease.model import Finding
from bootlease.token import VerifiedToken
from bootlease.token.receipts import receipts_of

_MISSING: Final = Finding(
    "receipt.missing", "The verifier's answer does not prove that the ledger holds the lease."
)


def verify_lease_receipt(
    lease: IssuedLease, token: VerifiedToken, decision: bytes, key: NoteKey
) -> None:
    """Verify that the ledger holds the lease.

    Proves: the holder of ``key`` signed a tree with a leaf for this decision and these claims.
    Does not prove that it shows everybody the same tree: monitors and witnesses see to that.

    Args:
        lease: As answered.
        token: Its token, verified.
        decision: Digest of the decision, as answered.
        key: The ledger's key, from the join bundle.

    Raises:
        VerificationError: There is no receipt, or it proves something else.
        MalformedError: What is there is no receipt.
    """
    if token.claims.decision != decision:
        raise VerificationError(
            Finding(
                "answer.decision.mismatch",
                "The verifier's answer does not fit what was sent: another decision.",
            )
        )
    leaf = encode_leaf(decision, token.digest)
    if lease.encoding is TokenEncoding.CWT:
        receipts = receipts_of(lease.token)
        if len(receipts) != 1:
            raise VerificationError(_MISSING)
        verify_receipt(receipts[0], leaf, key)
    elif lease.receipt is None:
        raise VerificationError(_MISSING)
    else:
        verify_tlog_proof(lease.receipt, leaf, key)
