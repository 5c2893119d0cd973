"""The deterministic CWT claims set, written directly.

Equal, byte for byte, to ``cbor.encode(claims.to_cwt())``: a property test holds the two together.
Written out because it runs for every token signed *and* checked (a CWT is compared with what its
claims encode to, which proves its form): measured 4 us against 21 us through the general encoder.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from bootlease import cbor
from bootlease.token.ear import EAR_PROFILE, NODE_PROFILE
from bootlease.token.publickey import KeyKind

if TYPE_CHECKING:
    from bootlease.token.claimparts import ClaimValues, LineageClaim
    from bootlease.token.ear import TrustVector
    from bootlease.token.publickey import PublicKey

_number: Final = cbor.encode_integer

# Keys are named in the table of ``claims``; each constant ends where a value follows.
_ISSUER: Final = b"\xb4\x01"
_PROFILE: Final = cbor.encode(265) + cbor.encode(EAR_PROFILE)
_NODE: Final = cbor.encode(266) + b"\xa1" + cbor.encode("node") + b"\xa5\x0a"
_NODE_PROFILE: Final = cbor.encode(265) + cbor.encode(NODE_PROFILE)
_STATUS: Final = cbor.encode(1000)
_VECTOR: Final = cbor.encode(1001)
_POLICY_IDS: Final = cbor.encode(1003)
_VERIFIER: Final = cbor.encode(1004) + b"\xa2\x00"
_LINEAGE: Final = cbor.encode(-66001)
_BOOT: Final = cbor.encode(-66002) + b"\x82"
_POLICY: Final = cbor.encode(-66003) + b"\x83"
_REFERENCE: Final = cbor.encode(-66004) + b"\x82"
_EVIDENCE: Final = cbor.encode(-66005) + b"\x58\x20"
_DECISION: Final = cbor.encode(-66006) + b"\x58\x20"
_PROTECTION: Final = cbor.encode(-66007)
_DIGEST: Final = b"\x58\x20"


def encode_claims(claims: ClaimValues) -> bytes:
    """Return ``cbor.encode(claims.to_cwt())``."""
    status = _number(claims.status)
    verifier, boot = claims.verifier, claims.boot
    policy, reference = claims.policy, claims.reference
    parts = (
        *(_ISSUER, _text(claims.issuer), b"\x02", _text(claims.subject)),
        *(b"\x03", _text(claims.audience), b"\x04", _number(claims.expires_at)),
        *(b"\x05", _number(claims.not_before), b"\x06", _number(claims.issued_at)),
        *(b"\x07\x50", claims.lease_id, b"\x08\xa1\x01", _key(claims.confirmation)),
        *(b"\x09", _text(" ".join(claims.scope)), _PROFILE),
        *(_NODE, cbor.encode_bytes(claims.nonce), _NODE_PROFILE, _STATUS, status),
        *(_VECTOR, _vector(claims.vector), _POLICY_IDS, _texts(claims.appraisal_policies)),
        *(_STATUS, status, _VERIFIER, _text(verifier.developer), b"\x01", _text(verifier.build)),
        *(_LINEAGE, _lineage(claims.lineage)),
        *(_BOOT, _number(boot.reset_count), _number(boot.restart_count)),
        *(_POLICY, _text(policy.id), _DIGEST, policy.digest, _number(policy.epoch)),
        *(_REFERENCE, _text(reference.name), _DIGEST, reference.digest),
        *(_EVIDENCE, claims.evidence, _DECISION, claims.decision),
        *(_PROTECTION, _number(claims.protection)),
    )
    return b"".join(parts)


@functools.lru_cache(maxsize=4096)
def _text(text: str) -> bytes:
    return cbor.encode(text)


@functools.lru_cache(maxsize=256)
def _texts(texts: tuple[str, ...]) -> bytes:
    return cbor.encode(texts)


@functools.lru_cache(maxsize=256)
def _vector(vector: TrustVector) -> bytes:
    return cbor.encode(vector.to_cwt())


def _key(key: PublicKey) -> bytes:
    if key.kind is KeyKind.P256:
        x, y = key.parameters
        return b"\xa4\x01\x02\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y
    return cbor.encode(key.cose())


def _lineage(lineage: LineageClaim) -> bytes:
    seq = _number(lineage.seq)
    if lineage.prev is None:
        return b"\x82\x58\x20" + lineage.root + seq
    return b"\x83\x58\x20" + lineage.root + seq + _DIGEST + lineage.prev
