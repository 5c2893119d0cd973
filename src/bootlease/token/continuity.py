"""The continuity statement: what still counts, signed, and good for seconds.

No standard has this whole; the status list in it is draft-ietf-oauth-status-list-20's. A compact
JWS of type ``bootlease-continuity+jwt``, signed by a token key, with these members and no others:

    iss, iat, exp    who, when, and until when it may be believed
    seq              grows with every statement; milliseconds of the verifier's clock, or more
    min_epoch        leases of earlier policy epochs have ended
    keys             ids of the token keys whose tokens count
    status_list      {bits: 1, lst}: 1 = the lease at this index has ended

A relying party refuses when the newest statement it has is stale: silence is no proof that nothing
was revoked. ``expires_at`` is compared with the relying party's own clock, and the leeway that
is given for differing clocks lets a statement live no longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token.keys import MAX_KEYS, KeySet, Signer
from bootlease.token.signedjson import SignedKind, sign_object, verify_object
from bootlease.token.statuslist import MAX_LIST_TOKEN, STATUS_RING, StatusList

CONTINUITY_TYP: Final = "bootlease-continuity+jwt"
CONTINUITY: Final = "application/bootlease-continuity+jwt"
"""Media type."""
CONTINUITY_EVENT: Final = "continuity"
"""Name of the server-sent event that carries a statement."""
MAX_STATEMENT: Final = MAX_LIST_TOKEN
"""Bytes of the longest statement: a full list and up to ``MAX_KEYS`` key ids."""
MAX_VALID: Final = 300
"""Seconds that a statement may be believed at most; a policy cannot ask for more."""

_MAX_NUMBER: Final = (1 << 53) - 1
"""The largest integer that every JSON parser reads alike (RFC 7493 §2.2)."""
_KEY_ID: Final = 43
"""Characters of a SHA-256 thumbprint in base64url."""
_MEMBERS: Final = frozenset({"iss", "iat", "exp", "seq", "min_epoch", "keys", "status_list"})

_KIND: Final = SignedKind(
    CONTINUITY_TYP,
    MAX_STATEMENT,
    Finding(
        "continuity.typ.mismatch",
        "The signed object is not a continuity statement.",
        expected=CONTINUITY_TYP,
    ),
    Finding(
        "continuity.key.unknown",
        "The continuity statement is signed by a key that is not trusted here.",
    ),
    Finding(
        "continuity.algorithm.mismatch",
        "The continuity statement names an algorithm that does not belong to its key.",
    ),
    Finding(
        "continuity.signature.invalid", "The continuity statement's signature does not verify."
    ),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a verifier says of its leases, to be signed.

    Attributes:
        issuer: The verifier's URL.
        issued_at: Seconds since the epoch.
        expires_at: When it stops counting.
        sequence: Greater than any statement's before.
        min_epoch: The lowest policy epoch whose leases count.
        key_ids: The token keys whose tokens count.
        status: Which leases have ended.
    """

    issuer: str
    issued_at: int
    expires_at: int
    sequence: int
    min_epoch: int
    key_ids: frozenset[str]
    status: StatusList


@dataclass(frozen=True, slots=True)
class Continuity(Statement):
    """A statement that was verified.

    Attributes:
        key_id: Whose signature it bears.
    """

    key_id: str


def sign_statement(statement: Statement, signer: Signer) -> str:
    """Sign a statement.

    Raises:
        ValueError: It does not count its own key among those that count, or is believed for too
            long: nobody would accept it.
    """
    if signer.key_id not in statement.key_ids:
        raise ValueError("a continuity statement is signed by a key that counts")
    if not 0 < statement.expires_at - statement.issued_at <= MAX_VALID:
        raise ValueError(f"a continuity statement is valid for 1 to {MAX_VALID} seconds")
    return sign_object(
        _KIND,
        {
            "iss": statement.issuer,
            "iat": statement.issued_at,
            "exp": statement.expires_at,
            "seq": statement.sequence,
            "min_epoch": statement.min_epoch,
            "keys": sorted(statement.key_ids),
            "status_list": statement.status.to_json(),
        },
        signer,
    )


def verify_statement(
    text: str,
    keys: KeySet,
    *,
    now: float,
    issuer: str,
    leeway: int,
    after: Continuity | None = None,
) -> Continuity:
    """Prove that ``issuer`` made this statement, and that it may be believed at ``now``.

    Does not prove that no newer one exists: the caller asks for another before it expires. That
    it is still fresh has to be looked at again whenever it is used.

    Args:
        text: Unverified text.
        keys: The keys of ``issuer`` and of nobody else.
        now: Seconds since the epoch.
        issuer: The verifier's URL, exact.
        leeway: Seconds by which clocks may differ.
        after: The newest statement that the caller has: while that counts, an older one is refused.
            Once it has expired everything before it has too, and a verifier that was restored, or
            whose clock was set back, is heard again.

    Raises:
        MalformedError: Not a statement.
        VerificationError: It does not count, with every reason.
    """
    key_id, members = verify_object(_KIND, text, keys)
    said = _read(members, key_id)
    findings = [*_untrue(said, issuer), *untimely(said, now, leeway)]
    newest_counts = after is not None and after.expires_at > now - leeway
    if after is not None and newest_counts and said.sequence < after.sequence:
        findings.append(
            Finding(
                "continuity.sequence.back",
                "A newer continuity statement was seen before this one.",
                expected=f"at least {after.sequence}",
                seen=str(said.sequence),
            )
        )
    if findings:
        raise VerificationError(*findings)
    return said


def _untrue(said: Continuity, issuer: str) -> list[Finding]:
    findings = []
    if said.issuer != issuer:
        findings.append(
            Finding(
                "continuity.issuer.mismatch",
                "The continuity statement is another verifier's.",
                expected=issuer,
                seen=said.issuer[:256],
            )
        )
    # Whoever stole a key that was withdrawn cannot speak for the keys that were not.
    if said.key_id not in said.key_ids:
        findings.append(
            Finding(
                "continuity.key.withdrawn",
                "The continuity statement is signed by a key that it does not count itself.",
                seen=said.key_id,
            )
        )
    return findings


def untimely(said: Continuity, now: float, leeway: int) -> list[Finding]:
    """Return what is wrong with a statement's time: it is over, or has not come yet."""
    findings = []
    if said.expires_at <= now - leeway:
        findings.append(stale(said, now))
    if said.issued_at > now + leeway:
        findings.append(
            Finding(
                "continuity.issued.future",
                "The continuity statement was made in the future; a clock is wrong.",
                expected=f"now not before {said.issued_at}",
                seen=str(int(now)),
            )
        )
    return findings


def stale(said: Continuity, now: float) -> Finding:
    """Return the finding for a statement that may not be believed any longer."""
    return Finding(
        "continuity.stale",
        "The newest continuity statement is too old: what was revoked since is not known.",
        expected=f"now before {said.expires_at}",
        seen=str(int(now)),
    )


def _read(members: dict[str, Any], key_id: str) -> Continuity:
    if members.keys() != _MEMBERS:
        raise MalformedError("continuity statement: other members than it must have")
    issuer, key_ids = members["iss"], members["keys"]
    numbers = [members[name] for name in ("iat", "exp", "seq", "min_epoch")]
    if type(issuer) is not str:
        raise MalformedError("continuity statement: iss is no text")
    if any(type(each) is not int or not 0 <= each <= _MAX_NUMBER for each in numbers):
        raise MalformedError("continuity statement: iat, exp, seq or min_epoch is no number")
    if not 0 < numbers[1] - numbers[0] <= MAX_VALID:
        raise MalformedError(f"continuity statement: not valid for 1 to {MAX_VALID} seconds")
    if type(key_ids) is not list or not 0 < len(key_ids) <= MAX_KEYS:
        raise MalformedError("continuity statement: keys is no list of them")
    if any(type(each) is not str or len(each) != _KEY_ID for each in key_ids):
        raise MalformedError("continuity statement: a key id is no thumbprint")
    status = StatusList.from_json(members["status_list"])
    # A shorter ring would leave leases of which nothing is said.
    if status.size != STATUS_RING:
        raise MalformedError(f"continuity statement: not {STATUS_RING} indexes")
    issued_at, expires_at, sequence, min_epoch = numbers
    return Continuity(
        issuer=issuer,
        issued_at=issued_at,
        expires_at=expires_at,
        sequence=sequence,
        min_epoch=min_epoch,
        key_ids=frozenset(key_ids),
        status=status,
        key_id=key_id,
    )
