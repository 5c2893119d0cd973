"""The claims of an execution token: one model, the same in CWT and JWT.

Specifications: RFC 8392 and RFC 7519 (registered claims), RFC 8747 and RFC 7800 (``cnf``),
RFC 9711 (EAT), draft-ietf-rats-ear-04 (the attestation result), RFC 9449 §6 (``cnf.jkt``),
draft-ietf-oauth-status-list-20 §6 (``status``), RFC 8693 §4.1 (``act``).

| claim | CWT key | JWT name | form |
|---|---|---|---|
| issuer, subject, audience | 1, 2, 3 | iss, sub, aud | text |
| expires, not before, issued | 4, 5, 6 | exp, nbf, iat | seconds |
| lease id | 7 | jti | 16 bytes |
| confirmation key | 8 | cnf | {1: COSE_Key} / {jwk, jkt} |
| scope | 9 | scope | names, one space between |
| profile | 265 | eat_profile | EAR's |
| submodules | 266 | submods | {"node": EAR appraisal under our profile} |
| status | 1000 | ear_status | AR4SI tier |
| verifier | 1004 | ear_verifier_id | {0 developer, 1 build} |
| status list | 65535 | status | {"status_list": {idx, uri}} |
| lineage | -66001 | bootlease_lineage | [root, seq, ? prev] / {root, seq, prev} |
| boot | -66002 | bootlease_boot | [reset_count, restart_count] |
| policy | -66003 | bootlease_policy | [id, digest, epoch] |
| reference | -66004 | bootlease_reference | [name, digest] |
| evidence digest | -66005 | bootlease_evidence | 32 bytes |
| decision digest | -66006 | bootlease_decision | 32 bytes |
| key protection | -66007 | bootlease_key_protection | 0 process, 1 tpm, 2 tpm-expiring |
| delegation | -66008 | bootlease_delegation | absent in a lease that a node attested for |

In the submodule, key -66009 (JSON: ``bootlease_level`` in ``ear_attester_claims``) is the level at
which the node says it enforces, where it said one. The place in the status list is the end of the
lease id, its URI the issuer's. JSON repeats, for readers of logs, who delegated to whom as ``act``.

Byte strings are base64url text in JSON. Claims that are not in the table are ignored. The
claims' digest is SHA-256 over their deterministic CWT form, whichever encoding travels.

Not handled: ``ear_verifier_claims``; ``ear_attester_claims`` in CBOR, whose label the draft has not
settled; ``ear_raw_evidence``: evidence stays with the verifier.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bootlease.errors import MalformedError
from bootlease.frozen import quick_init
from bootlease.token import base64url, scope
from bootlease.token.claimkeys import (
    BOOT,
    DECISION,
    DELEGATION,
    EAR_POLICY_IDS,
    EAR_STATUS,
    EAR_VECTOR,
    EAR_VERIFIER,
    EAT_PROFILE,
    EVIDENCE,
    KEY_PROTECTION,
    LEVEL,
    LINEAGE,
    POLICY,
    REFERENCE,
    STATUS_LIST,
    SUBMODULES,
)
from bootlease.token.claimparts import (
    PROTECTIONS,
    BootClaim,
    ClaimValues,
    KeyProtection,
    LineageClaim,
    PolicyClaim,
    ReferenceClaim,
    VerifierID,
)
from bootlease.token.claimsencoder import encode_claims
from bootlease.token.delegation import Delegation
from bootlease.token.ear import (
    EAR_PROFILE,
    NODE_PROFILE,
    TIERS_BY_LABEL,
    TrustVector,
    tier_from_value,
)
from bootlease.token.publickey import PublicKey

# Parts that the tokens of a fleet or boot share are made once. ``typed``: True is not 1.
_verifier_id = functools.lru_cache(maxsize=64, typed=True)(VerifierID)
_boot_claim = functools.lru_cache(maxsize=1024, typed=True)(BootClaim)
_policy_claim = functools.lru_cache(maxsize=64, typed=True)(PolicyClaim)
_reference_claim = functools.lru_cache(maxsize=256, typed=True)(ReferenceClaim)


_ABSENT: Any = object()


def _map(value: object) -> dict[Any, Any]:
    # Exact types throughout: text and arrays also answer to [0], and would pass for a map.
    if type(value) is not dict:
        raise ValueError("a map is expected")
    return value


def _array(value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError("an array is expected")
    return value


def _same(name: str, value: object, expected: object) -> None:
    # What is said twice must agree, or two consumers would read two tokens.
    if value != expected:
        raise ValueError(f"{name} is not what it must be")


def _protection(value: object) -> KeyProtection:
    if type(value) is not int:
        raise ValueError("key protection is not an integer")
    return KeyProtection(value)


def _level(value: object) -> int | None:
    if value is _ABSENT:
        return None
    # Absent is one thing, null another: what is there must be a level.
    if type(value) is not int:
        raise ValueError("the enforcement level is not an integer")
    return value


_Named = TypeVar("_Named")


def _named(table: Mapping[str, _Named], value: object) -> _Named:
    if type(value) is not str or value not in table:
        raise ValueError(f"a value is none of {', '.join(table)}")
    return table[value]


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionClaims(ClaimValues):
    """Everything a token says; valid by construction, unverified until a verify function says so.

    Its attributes are those of ``ClaimValues``.
    """

    _encoded: bytes | None = field(init=False, default=None, repr=False, compare=False)
    _digest: bytes | None = field(init=False, default=None, repr=False, compare=False)

    def encoded(self) -> bytes:
        """Return the deterministic CWT claims set: what a CWT signs and the digest hashes."""
        encoded = self._encoded
        if encoded is None:
            encoded = encode_claims(self)
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    @property
    def digest(self) -> bytes:
        """SHA-256 of ``encoded()``: the lease's name in lineage and ledger."""
        digest = self._digest
        if digest is None:
            digest = hashlib.sha256(self.encoded()).digest()
            object.__setattr__(self, "_digest", digest)
        return digest

    def _status_list(self) -> dict[str, dict[str, int | str]]:
        return {"status_list": {"idx": self.status_index, "uri": self.status_uri}}

    def to_cwt(self) -> dict[int, Any]:
        """Return the CWT claims set."""
        lineage, policy = self.lineage, self.policy
        tail = () if lineage.prev is None else (lineage.prev,)
        level = {} if self.level is None else {LEVEL: self.level}
        delegation = {} if self.delegation is None else {DELEGATION: self.delegation.to_cwt()}
        return {
            1: self.issuer,
            2: self.subject,
            3: self.audience,
            4: self.expires_at,
            5: self.not_before,
            6: self.issued_at,
            7: self.lease_id,
            8: {1: self.confirmation.cose()},
            9: " ".join(self.scope),
            EAT_PROFILE: EAR_PROFILE,
            SUBMODULES: {
                "node": {
                    10: self.nonce,
                    EAT_PROFILE: NODE_PROFILE,
                    EAR_STATUS: self.status.value,
                    EAR_VECTOR: self.vector.to_cwt(),
                    EAR_POLICY_IDS: self.appraisal_policies,
                    **level,
                }
            },
            EAR_STATUS: self.status.value,
            EAR_VERIFIER: {0: self.verifier.developer, 1: self.verifier.build},
            STATUS_LIST: self._status_list(),
            LINEAGE: (lineage.root, lineage.seq, *tail),
            BOOT: (self.boot.reset_count, self.boot.restart_count),
            POLICY: (policy.id, policy.digest, policy.epoch),
            REFERENCE: (self.reference.name, self.reference.digest),
            EVIDENCE: self.evidence,
            DECISION: self.decision,
            KEY_PROTECTION: self.protection.value,
            **delegation,
        }

    @classmethod
    def from_cwt(cls, claims: object) -> ExecutionClaims:
        """Read an unverified CWT claims set, as ``cbor.decode`` returned it.

        Raises:
            MalformedError: A claim of ours is missing or is not what it must be.
        """
        if type(claims) is not dict:
            raise MalformedError("the claims set is not a map")
        try:
            node = _map(_map(claims[SUBMODULES])["node"])
            verifier = _map(claims[EAR_VERIFIER])
            _same("profile", (claims[EAT_PROFILE], node[EAT_PROFILE]), (EAR_PROFILE, NODE_PROFILE))
            status = tier_from_value(node[EAR_STATUS])
            _same("ear_status", tier_from_value(claims[EAR_STATUS]), status)
            delegation = claims.get(DELEGATION, _ABSENT)
            made = cls(
                issuer=claims[1],
                subject=claims[2],
                audience=claims[3],
                expires_at=claims[4],
                not_before=claims[5],
                issued_at=claims[6],
                lease_id=claims[7],
                confirmation=PublicKey.from_cose(_map(claims[8])[1]),
                scope=scope.parse(claims[9]),
                nonce=node[10],
                status=status,
                vector=TrustVector.from_cwt(node[EAR_VECTOR]),
                appraisal_policies=tuple(_array(node[EAR_POLICY_IDS])),
                verifier=_verifier_id(verifier[0], verifier[1]),
                lineage=LineageClaim(*_array(claims[LINEAGE])),
                boot=_boot_claim(*_array(claims[BOOT])),
                policy=_policy_claim(*_array(claims[POLICY])),
                reference=_reference_claim(*_array(claims[REFERENCE])),
                evidence=claims[EVIDENCE],
                decision=claims[DECISION],
                protection=_protection(claims[KEY_PROTECTION]),
                level=_level(node.get(LEVEL, _ABSENT)),
                delegation=None if delegation is _ABSENT else Delegation.from_cwt(delegation),
            )
            _same("status", claims[STATUS_LIST], made._status_list())
        except KeyError as exc:
            raise MalformedError(f"the token lacks claim {exc.args[0]!r:.40}") from exc
        except (TypeError, ValueError, AttributeError) as exc:
            raise MalformedError(f"the token's claims: {exc}") from exc
        return made

    def to_jwt(self) -> dict[str, Any]:
        """Return the JWT claims set."""
        text, lineage = base64url.encode, self.lineage
        jwk = self.confirmation.jwk()
        prev = {} if lineage.prev is None else {"prev": text(lineage.prev)}
        level = (
            {} if self.level is None else {"ear_attester_claims": {"bootlease_level": self.level}}
        )
        return {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "exp": self.expires_at,
            "nbf": self.not_before,
            "iat": self.issued_at,
            "jti": text(self.lease_id),
            "cnf": {"jwk": jwk, "jkt": text(self.confirmation.thumbprint())},
            "scope": " ".join(self.scope),
            "eat_profile": EAR_PROFILE,
            "submods": {
                "node": {
                    "eat_nonce": text(self.nonce),
                    "eat_profile": NODE_PROFILE,
                    "ear_status": self.status.label,
                    "ear_trustworthiness_vector": self.vector.to_jwt(),
                    "ear_appraisal_policy_ids": self.appraisal_policies,
                    **level,
                }
            },
            "ear_status": self.status.label,
            "ear_verifier_id": {"developer": self.verifier.developer, "build": self.verifier.build},
            "status": self._status_list(),
            "bootlease_lineage": {"root": text(lineage.root), "seq": lineage.seq, **prev},
            "bootlease_boot": {
                "reset_count": self.boot.reset_count,
                "restart_count": self.boot.restart_count,
            },
            "bootlease_policy": {
                "id": self.policy.id,
                "digest": text(self.policy.digest),
                "epoch": self.policy.epoch,
            },
            "bootlease_reference": {
                "name": self.reference.name,
                "digest": text(self.reference.digest),
            },
            "bootlease_evidence": text(self.evidence),
            "bootlease_decision": text(self.decision),
            "bootlease_key_protection": self.protection.label,
            **self._delegation_jwt(),
        }

    def _delegation_jwt(self) -> dict[str, Any]:
        chain = self.delegation
        if chain is None:
            return {}
        return {"bootlease_delegation": chain.to_jwt(), "act": chain.actors()}

    @classmethod
    def from_jwt(cls, claims: Mapping[str, Any]) -> ExecutionClaims:
        """Read an unverified JWT claims set, as ``strictjson.parse_object`` returned it.

        Raises:
            MalformedError: A claim of ours is missing or is not what it must be.
        """
        data = base64url.decode
        try:
            node = _map(_map(claims["submods"])["node"])
            verifier, lineage = _map(claims["ear_verifier_id"]), _map(claims["bootlease_lineage"])
            boot, policy = _map(claims["bootlease_boot"]), _map(claims["bootlease_policy"])
            reference, cnf = _map(claims["bootlease_reference"]), _map(claims["cnf"])
            confirmation = PublicKey.from_jwk(cnf["jwk"])
            profiles = claims["eat_profile"], node["eat_profile"]
            _same("profile", profiles, (EAR_PROFILE, NODE_PROFILE))
            _same("ear_status", claims["ear_status"], node["ear_status"])
            _same("cnf.jkt", data(cnf["jkt"]), confirmation.thumbprint())
            prev = data(lineage["prev"]) if "prev" in lineage else None
            said = _map(node.get("ear_attester_claims", {}))
            delegation = claims.get("bootlease_delegation", _ABSENT)
            made = cls(
                issuer=claims["iss"],
                subject=claims["sub"],
                audience=claims["aud"],
                expires_at=claims["exp"],
                not_before=claims["nbf"],
                issued_at=claims["iat"],
                lease_id=data(claims["jti"]),
                confirmation=confirmation,
                scope=scope.parse(claims["scope"]),
                nonce=data(node["eat_nonce"]),
                status=_named(TIERS_BY_LABEL, node["ear_status"]),
                vector=TrustVector.from_jwt(node["ear_trustworthiness_vector"]),
                appraisal_policies=tuple(_array(node["ear_appraisal_policy_ids"])),
                verifier=_verifier_id(verifier["developer"], verifier["build"]),
                lineage=LineageClaim(data(lineage["root"]), lineage["seq"], prev),
                boot=_boot_claim(boot["reset_count"], boot["restart_count"]),
                policy=_policy_claim(policy["id"], data(policy["digest"]), policy["epoch"]),
                reference=_reference_claim(reference["name"], data(reference["digest"])),
                evidence=data(claims["bootlease_evidence"]),
                decision=data(claims["bootlease_decision"]),
                protection=_named(PROTECTIONS, claims["bootlease_key_protection"]),
                level=_level(said.get("bootlease_level", _ABSENT)),
                delegation=None if delegation is _ABSENT else Delegation.from_jwt(delegation),
            )
            _same("status", claims["status"], made._status_list())
        except KeyError as exc:
            raise MalformedError(f"the token lacks claim {exc.args[0]!r:.40}") from exc
        except (TypeError, ValueError, AttributeError) as exc:
            raise MalformedError(f"the token's claims: {exc}") from exc
        return made
