"""Tokens given back: as they were signed, from what they say and how they were signed.

What a lease's token says follows from its decision, made again; its signature is kept with the
decision (``token.signatures``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bootlease.audit.replay import Replayed
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import DecisionRecord
from bootlease.model import Effect, Finding
from bootlease.token import KeySet, TokenFormat, verify_cwt, verify_jwt
from bootlease.token.signatures import TokenSignatures

UNCHECKED: Final = Finding(
    "stored.token.unchecked",
    "The signatures of the tokens were not checked, for no token key was given.",
    effect=Effect.NOTES,
)


def token_forms(replayed: Replayed) -> tuple[TokenFormat, ...]:
    """Return the form of each lease's token, in order."""
    leases = () if replayed.result is None else replayed.result.leases
    return tuple(TokenFormat(lease.encoding.value) for lease in leases)


def tokens_of(signatures: TokenSignatures, replayed: Replayed) -> tuple[bytes, ...]:
    """Return the tokens of a decision that was made again, without receipts.

    Raises:
        MalformedError: There are more signatures, or fewer, than leases.
    """
    leases = zip(replayed.claims, token_forms(replayed), strict=True)
    return signatures.tokens(list(leases))


def check_tokens(
    stored: bytes | None, record: DecisionRecord, replayed: Replayed, keys: KeySet | None
) -> Iterator[Finding]:
    """Check how the tokens of a decision were signed.

    Args:
        stored: The signatures, as stored.
        record: The decision, as recorded.
        replayed: What making it again came to.
        keys: The verifier's token keys; ``None`` where nobody gave them.
    """
    if not record.leases:
        if stored is not None:
            yield Finding("stored.token.stray", "A refusal has signatures of tokens.")
        return
    if stored is None:
        yield Finding("stored.token.missing", "The signatures of the tokens are gone.")
        return
    try:
        signatures = TokenSignatures.parse(stored)
        # What was let go by retention says nothing any more, but was signed all the same.
        tokens = tokens_of(signatures, replayed) if replayed.record is not None else ()
    except MalformedError as exc:
        yield Finding("stored.token.malformed", f"{exc}.")
        return
    if len(signatures.signatures) != len(record.leases):
        yield Finding("stored.token.malformed", "There is not one signature for each lease.")
    if keys is None:
        yield UNCHECKED
    elif keys.get(signatures.key_id) is None:
        yield Finding(
            "stored.token.key.unknown",
            "Another key than the verifier's signed the tokens.",
            seen=signatures.key_id,
        )
    else:
        for token, form in zip(tokens, token_forms(replayed), strict=False):
            yield from signature_findings(token, form, keys)


def signature_findings(token: bytes, form: TokenFormat, keys: KeySet) -> Iterator[Finding]:
    """Check the signature of a token that was given back."""
    # The very check that a relying party makes, so that what it accepts is what is found in order.
    try:
        if form is TokenFormat.CWT:
            verify_cwt(token, keys)
        else:
            verify_jwt(token.decode("ascii"), keys)
    except MalformedError as exc:
        yield Finding("stored.token.malformed", f"{exc}.")
    except VerificationError as exc:
        yield from exc.findings
