"""The parts of the claims model, each valid by construction.

The table of their keys and names is in ``claims``.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field
from typing import Final

from bootlease import cbor
from bootlease.model import NODES_REMEMBERED
from bootlease.token import scope
from bootlease.token.delegation import Delegation
from bootlease.token.ear import Tier, TrustVector
from bootlease.token.kinds import MAX_LEVEL
from bootlease.token.publickey import PublicKey

MAX_POLICY_IDS: Final = 16
MAX_TEXT: Final = 512
MAX_NUMBER: Final = (1 << 53) - 1
"""The greatest integer that every JSON parser keeps exact (RFC 7493 §2.2)."""

STATUS_INDEX_BYTES: Final = 4
STATUS_PATH: Final = "/v1/status"
"""Of the status list, behind the issuer's URL."""

_DIGEST_SIZE: Final = 32


def status_index(lease_id: bytes) -> int:
    """Return a lease's place in its issuer's status list: the last 4 bytes of its id."""
    return int.from_bytes(lease_id[-STATUS_INDEX_BYTES:], "big")


class KeyProtection(enum.IntEnum):
    """Where the confirmation key's private half lives."""

    PROCESS = 0
    TPM = 1
    TPM_EXPIRING = 2
    """In the TPM, which lets nobody use it without the verifier's permit."""

    @property
    def label(self) -> str:
        """The name in JSON."""
        return self.name.lower().replace("_", "-")


PROTECTIONS: Final = {protection.label: protection for protection in KeyProtection}


@dataclass(frozen=True, slots=True)
class VerifierID:
    """Who appraised (EAR §3.3)."""

    developer: str
    build: str
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_text("developer", self.developer)
        require_text("build", self.build)
        _keep(self, cbor.encode({0: self.developer, 1: self.build}))


@dataclass(frozen=True, slots=True)
class LineageClaim:
    """The lease's place in the chain of leases of one boot.

    Attributes:
        root: Names the chain: the evidence digest of its first decision; 32 bytes.
        seq: 0 for the first decision, one more for each renewal.
        prev: Head that the decision before left: the claims digest of its token, or the digest of
            the array of them where it granted several; ``None`` exactly when ``seq`` is 0.
    """

    root: bytes
    seq: int
    prev: bytes | None = None

    def __post_init__(self) -> None:
        require_number("lineage seq", self.seq)
        if (self.prev is None) != (self.seq == 0):
            raise ValueError("a lineage has a previous lease exactly when it is a renewal")
        prev = self.root if self.prev is None else self.prev
        _require_digests("lineage root and prev", self.root, prev)


@dataclass(frozen=True, slots=True)
class BootClaim:
    """The TPM's counters at the quote: a token of another boot shows others."""

    reset_count: int
    restart_count: int
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_number("reset_count", self.reset_count)
        require_number("restart_count", self.restart_count)
        counters = self.reset_count, self.restart_count
        _keep(self, cbor.array([*map(cbor.encode_integer, counters)]))


@dataclass(frozen=True, slots=True)
class PolicyClaim:
    """The policy that granted: its name, content digest and activation epoch."""

    id: str
    digest: bytes
    epoch: int
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_text("policy id", self.id)
        require_digest("policy digest", self.digest)
        require_number("policy epoch", self.epoch)
        digest, epoch = cbor.encode_bytes(self.digest), cbor.encode_integer(self.epoch)
        _keep(self, cbor.array((cbor.encode(self.id), digest, epoch)))


@dataclass(frozen=True, slots=True)
class ReferenceClaim:
    """The reference set that the boot matched: its name and content digest."""

    name: str
    digest: bytes
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_text("reference name", self.name)
        require_digest("reference digest", self.digest)
        _keep(self, cbor.array((cbor.encode(self.name), cbor.encode_bytes(self.digest))))


def _keep(part: VerifierID | BootClaim | PolicyClaim | ReferenceClaim, encoded: bytes) -> None:
    # All tokens of a fleet share these few objects: each is encoded once, not for every token.
    object.__setattr__(part, "encoded", encoded)


def require_text(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is bounded printable text."""
    # isprintable also refuses lone surrogates, which JSON can smuggle and UTF-8 cannot hold.
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError(f"claim {name} is not text of 1 to {MAX_TEXT} printable characters")


@functools.lru_cache(maxsize=NODES_REMEMBERED, typed=True)
def _check_texts(
    issuer: str, subject: str, audience: str, names: tuple[str, ...], policies: tuple[str, ...]
) -> None:
    # A lease keeps them over its renewals: what was found right once is not looked at again.
    require_text("iss", issuer)
    require_text("sub", subject)
    require_text("aud", audience)
    scope.check(names)
    if not 0 < len(policies) <= MAX_POLICY_IDS:
        raise ValueError(f"there are not 1 to {MAX_POLICY_IDS} appraisal policy ids")
    for policy in policies:
        require_text("ear_appraisal_policy_ids", policy)


@functools.lru_cache(maxsize=1024, typed=True)
def _check_times(issued_at: int, not_before: int, expires_at: int) -> None:
    # Tokens of one second share them.
    require_number("iat", issued_at)
    require_number("nbf", not_before)
    require_number("exp", expires_at)


def _require_digests(name: str, first: object, second: object) -> None:
    """Do what ``require_digest`` does for two, in one call: each token has four."""
    if not (type(first) is type(second) is bytes and len(first) == len(second) == _DIGEST_SIZE):
        raise ValueError(f"claims {name} are not digests of {_DIGEST_SIZE} bytes")


def require_digest(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a SHA-256 digest."""
    if type(value) is not bytes or len(value) != _DIGEST_SIZE:
        raise ValueError(f"claim {name} is not a digest of {_DIGEST_SIZE} bytes")


def require_number(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is an integer that JSON keeps exact."""
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"claim {name} is not a non-negative integer below 2^53")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimValues:
    """The values of a token's claims.

    Attributes:
        issuer: The verifier's URL.
        subject: The node's id.
        audience: The relying party the token is for.
        issued_at: Seconds since the epoch at which the verifier signed.
        not_before: Seconds since the epoch before which it does not count.
        expires_at: Seconds since the epoch at which it ends.
        lease_id: 16 bytes.
        scope: What the holder may do, by name.
        confirmation: The key that must prove possession.
        protection: Where that key lives.
        verifier: Who appraised.
        status: The appraisal's tier; never better than the vector's.
        vector: What the appraisal found, claim by claim.
        appraisal_policies: Policies applied, in order.
        nonce: The challenge's nonce; 8 to 64 bytes.
        lineage: Place in the chain of leases.
        boot: The boot that was proven.
        policy: The policy that granted.
        reference: The reference set that matched.
        evidence: SHA-256 of the evidence document.
        decision: SHA-256 of the decision record.
        level: Level 0 to 3 at which the node says it enforces; ``None`` where it said none. Its
            own word.
        delegation: Where the lease comes from; ``None`` where the node attested for it.
    """

    issuer: str
    subject: str
    audience: str
    issued_at: int
    not_before: int
    expires_at: int
    lease_id: bytes
    scope: tuple[str, ...]
    confirmation: PublicKey
    protection: KeyProtection
    verifier: VerifierID
    status: Tier
    vector: TrustVector
    appraisal_policies: tuple[str, ...]
    nonce: bytes
    lineage: LineageClaim
    boot: BootClaim
    policy: PolicyClaim
    reference: ReferenceClaim
    evidence: bytes
    decision: bytes
    level: int | None = None
    delegation: Delegation | None = None

    @property
    def status_index(self) -> int:
        """The lease's place in its issuer's status list."""
        return status_index(self.lease_id)

    @property
    def status_uri(self) -> str:
        """Where that status list is."""
        return self.issuer + STATUS_PATH

    def __post_init__(self) -> None:
        policies = self.appraisal_policies
        try:
            _check_texts(self.issuer, self.subject, self.audience, self.scope, policies)
            _check_times(self.issued_at, self.not_before, self.expires_at)
        except TypeError as exc:
            raise ValueError("a claim of text or time is none") from exc
        if type(self.lease_id) is not bytes or len(self.lease_id) != 16:  # noqa: PLR2004 - 128 bits
            raise ValueError("the lease id is not 16 bytes")
        if self.status < self.vector.tier():
            raise ValueError("ear_status is better than the trustworthiness vector")
        if type(self.nonce) is not bytes or not 8 <= len(self.nonce) <= 64:  # noqa: PLR2004 - RFC 9711 §4.1
            raise ValueError("eat_nonce is not 8 to 64 bytes")
        _require_digests("evidence and decision", self.evidence, self.decision)
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"the enforcement level is not 0 to {MAX_LEVEL}")
