"""The claims model: two encodings, one meaning, one digest."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.testing.tokens import NOW, FakeIssuer, execution_claims
from bootlease.token import (
    BootClaim,
    ExecutionClaims,
    KeyProtection,
    LineageClaim,
    PolicyClaim,
    PublicKey,
    ReferenceClaim,
    Tier,
    TrustVector,
    VerifierID,
    strictjson,
    verify_cwt,
    verify_jwt,
)
from bootlease.token.delegation import Delegation, DelegationLink, DelegationRoot

ISSUED = FakeIssuer()
KEYS = [
    PublicKey.from_cryptography(ec.derive_private_key(7, ec.SECP256R1()).public_key()),
    PublicKey.from_cryptography(ec.derive_private_key(7, ec.SECP384R1()).public_key()),
    PublicKey.from_cryptography(
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    ),
    PublicKey.from_cryptography(rsa.generate_private_key(65537, 2048).public_key()),
]
NUMBERS = st.integers(0, (1 << 53) - 1)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)
DIGESTS = st.binary(min_size=32, max_size=32)
NAMES = st.from_regex(r"\A[A-Za-z0-9._~/:@+-]{1,20}([:/]\*)?\Z")
FINE = st.none() | st.integers(-32, 31)


@st.composite
def any_delegation(draw: st.DrawFn) -> Delegation:
    """Draw a chain with every member free."""
    ids = st.binary(min_size=16, max_size=16)
    root = DelegationRoot(
        lease_id=draw(ids),
        digest=draw(DIGESTS),
        decision=draw(DIGESTS),
        scope=tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))),
        audience=draw(TEXTS),
        expires_at=draw(NUMBERS),
        status=draw(st.sampled_from(Tier)),
        confirmation=draw(st.sampled_from(KEYS)),
    )
    grants = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=40)
    links = st.builds(DelegationLink, ids, DIGESTS, grants)
    return Delegation(root, tuple(draw(st.lists(links, min_size=1, max_size=3))))


@st.composite
def any_claims(draw: st.DrawFn) -> ExecutionClaims:
    """Draw claims with every member free."""
    seq = draw(NUMBERS)
    return ExecutionClaims(
        issuer=draw(TEXTS),
        subject=draw(TEXTS),
        audience=draw(TEXTS),
        issued_at=draw(NUMBERS),
        not_before=draw(NUMBERS),
        expires_at=draw(NUMBERS),
        lease_id=draw(st.binary(min_size=16, max_size=16)),
        scope=tuple(draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))),
        confirmation=draw(st.sampled_from(KEYS)),
        protection=draw(st.sampled_from(KeyProtection)),
        verifier=VerifierID(draw(TEXTS), draw(TEXTS)),
        status=Tier.CONTRAINDICATED,
        vector=TrustVector(*draw(st.tuples(*[FINE] * 8))),
        appraisal_policies=tuple(draw(st.lists(TEXTS, min_size=1, max_size=3))),
        nonce=draw(st.binary(min_size=8, max_size=64)),
        lineage=LineageClaim(draw(DIGESTS), seq, draw(DIGESTS) if seq else None),
        boot=BootClaim(draw(NUMBERS), draw(NUMBERS)),
        policy=PolicyClaim(draw(TEXTS), draw(DIGESTS), draw(NUMBERS)),
        reference=ReferenceClaim(draw(TEXTS), draw(DIGESTS)),
        evidence=draw(DIGESTS),
        decision=draw(DIGESTS),
        level=draw(st.none() | st.integers(0, 3)),
        delegation=draw(st.none() | any_delegation()),
    )


@given(any_claims())
def test_both_encodings_are_lossless_and_share_a_digest(claims: ExecutionClaims) -> None:
    """Whatever the claims, CWT and JWT give them back, and name the lease alike."""
    data = cbor.encode(claims.to_cwt())
    assert claims.encoded() == data
    assert claims.digest == hashlib.sha256(data).digest()
    from_cwt = ExecutionClaims.from_cwt(cbor.decode(data, max_bytes=1 << 16))
    from_jwt = ExecutionClaims.from_jwt(
        strictjson.parse_object(strictjson.serialise(claims.to_jwt()))
    )
    assert from_cwt == claims == from_jwt
    changed = dataclasses.replace(claims, issued_at=claims.issued_at ^ 1)
    assert changed.digest == hashlib.sha256(cbor.encode(changed.to_cwt())).digest()
    assert from_cwt.digest == from_jwt.digest == claims.digest


@given(any_claims())
def test_tokens_of_one_lease_share_a_digest(claims: ExecutionClaims) -> None:
    """The verified CWT and the verified JWT of one lease have the claims' digest."""
    cwt, jwt = ISSUED.cwt(claims), ISSUED.jwt(claims)
    opened = verify_cwt(cwt, ISSUED.keys), verify_jwt(jwt, ISSUED.keys)
    assert [token.digest for token in opened] == [claims.digest] * 2
    assert [token.claims for token in opened] == [claims] * 2


def test_changed_copy_has_its_own_digest() -> None:
    """The remembered encoding does not travel into a changed copy."""
    claims = execution_claims()
    first = claims.digest
    assert dataclasses.replace(claims, expires_at=NOW + 1).digest != first


def test_keys_are_those_of_the_table() -> None:
    """EAR, EAT and CWT keys and our private ones, as the module documents them."""
    members = execution_claims().to_cwt()
    assert list(members) == [
        *(1, 2, 3, 4, 5, 6, 7, 8, 9, 265, 266, 1000, 1004, 65535),
        *range(-66001, -66008, -1),
    ]
    assert members[265] == "tag:ietf.org,2026:rats/ear#04"
    assert members[266]["node"][265] == "tag:bootlease.dev,2026:node#1"
    assert list(execution_claims().to_jwt()["submods"]["node"]) == [
        *("eat_nonce", "eat_profile", "ear_status"),
        *("ear_trustworthiness_vector", "ear_appraisal_policy_ids"),
    ]


BAD_VALUES: dict[str, dict[str, Any]] = {
    "empty issuer": {"issuer": ""},
    "control character": {"subject": "a\nb"},
    "lone surrogate": {"audience": "\ud800"},
    "long text": {"issuer": "a" * 513},
    "negative time": {"expires_at": -1},
    "time beyond 2^53": {"expires_at": 1 << 53},
    "boolean time": {"issued_at": True},
    "float time": {"not_before": 1.0},
    "short lease id": {"lease_id": bytes(15)},
    "no scope": {"scope": ()},
    "scope with a space": {"scope": ("a b",)},
    "scope with a quote": {"scope": ('a"',)},
    "scope with a wildcard inside a word": {"scope": ("a*",)},
    "scope that is no text": {"scope": (["a"],)},
    "scope twice": {"scope": ("a", "a")},
    "33 scopes": {"scope": tuple(f"s{i}" for i in range(33))},
    "status better than the vector": {"vector": TrustVector(executables=33)},
    "no appraisal policy": {"appraisal_policies": ()},
    "17 appraisal policies": {"appraisal_policies": ("a",) * 17},
    "short nonce": {"nonce": bytes(7)},
    "long nonce": {"nonce": bytes(65)},
    "short evidence digest": {"evidence": bytes(31)},
    "short decision digest": {"decision": bytes(33)},
    "level beyond the last": {"level": 4},
    "negative level": {"level": -1},
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_value_outside_the_model_cannot_be_built(name: str) -> None:
    """Claims are valid by construction."""
    with pytest.raises(ValueError):  # noqa: PT011 - each names its claim
        execution_claims(**BAD_VALUES[name])


@pytest.mark.parametrize(
    ("root", "seq", "prev"),
    [
        (bytes(32), 0, bytes(32)),
        (bytes(32), 1, None),
        (bytes(31), 0, None),
        (bytes(32), 1, bytes(31)),
        (bytes(32), 1, b""),
        (bytes(32), -1, bytes(32)),
    ],
)
def test_lineage_has_a_previous_lease_exactly_when_renewed(
    root: bytes, seq: int, prev: bytes | None
) -> None:
    """First leases have none, renewals have one, and all are digests."""
    with pytest.raises(ValueError):  # noqa: PT011 - each names its claim
        LineageClaim(root, seq, prev)


def spoil(members: dict[Any, Any], path: tuple[Any, ...], value: object) -> dict[Any, Any]:
    """Return ``members`` with the member at ``path`` set, or removed for ``...``."""
    copy: dict[Any, Any] = dict(members)
    key, *rest = path
    if rest:
        copy[key] = spoil(copy[key], tuple(rest), value)
    elif value is ...:
        del copy[key]
    else:
        copy[key] = value
    return copy


CWT_SPOILT: list[tuple[tuple[Any, ...], object]] = [
    *(((key,), ...) for key in execution_claims().to_cwt()),
    *((("node_", key), ...) for key in execution_claims().to_cwt()[266]["node"]),
    ((4,), 1.5),
    ((4,), "1900000000"),
    ((3,), ["https://tools.example"]),
    ((7,), bytes(15)),
    ((8,), [0, {1: 2}]),
    ((8, 1, -1), True),
    ((8, 1, -4), bytes(32)),
    ((9,), ["tools:read"]),
    ((9,), "tools:read  repo:acme:*"),
    ((265,), "tag:ietf.org,2026:rats/ear#03"),
    (("node_", 265), "tag:ietf.org,2026:rats/ear#04"),
    (("node_", 1000), 3),
    (("node_", 1000), 32),
    (("node_", 1001), [2, 2]),
    (("node_", 1001), {8: 2}),
    (("node_", 1001), {0: True}),
    (("node_", 1001), {0: 200}),
    (("node_", 1001), {"hardware": 2}),
    (("node_", 1003), "fleet"),
    ((1000,), 32),
    ((1000,), True),
    ((1004,), ["developer", "build"]),
    ((1004,), "ab"),
    ((-66001,), {0: bytes(32), 1: 0}),
    ((-66001,), [bytes(32), 7]),
    ((-66002,), {0: 1, 1: 2}),
    ((-66002,), [1, True]),
    ((-66002,), [1, 2, 3]),
    ((-66003,), ["fleet", bytes(32), -1]),
    ((-66004,), ["debian-12", "text"]),
    ((-66005,), bytes(31)),
    ((-66007,), 3),
    ((-66007,), True),
    ((-66007,), "tpm"),
    ((-66008,), None),
    ((-66008,), []),
    ((-66008,), [[bytes(16), bytes(32), "a", "b", 1, {}]]),
    (("node_", -66009), None),
    (("node_", -66009), True),
    (("node_", -66009), 4),
    ((65535, "status_list", "idx"), 1),
    ((65535, "status_list", "uri"), "https://other.example/v1/status"),
    ((65535, "status_list", "bits"), 1),
]


@pytest.mark.parametrize(("path", "value"), CWT_SPOILT, ids=repr)
def test_spoilt_cwt_claim_is_malformed(path: tuple[Any, ...], value: object) -> None:
    """Each mandatory claim, missing or of another type or value, is refused by itself."""
    full = (266, "node", *path[1:]) if path[0] == "node_" else path
    members = spoil(execution_claims().to_cwt(), full, value)
    with pytest.raises(MalformedError):
        ExecutionClaims.from_cwt(cbor.decode_foreign(cbor2.dumps(members), max_bytes=1 << 16))


JWT_SPOILT: list[tuple[tuple[Any, ...], object]] = [
    *(((key,), ...) for key in execution_claims().to_jwt()),
    *((("node_", key), ...) for key in execution_claims().to_jwt()["submods"]["node"]),
    (("exp",), "1900000000"),
    (("exp",), True),
    (("aud",), ["https://tools.example"]),
    (("jti",), "AAAAAAAAAAAAAAAAAAAAAB"),
    (("jti",), 7),
    (("cnf", "jwk"), ...),
    (("cnf", "jkt"), ...),
    (("cnf", "jkt"), "A" * 43),
    (("cnf", "jwk", "d"), "A" * 43),
    (("scope",), ["tools:read"]),
    (("eat_profile",), "tag:github.com,2023:veraison/ear"),
    (("node_", "ear_status"), "superb"),
    (("node_", "ear_status"), "warning"),
    (("node_", "ear_status"), ["affirming"]),
    (("node_", "ear_trustworthiness_vector"), {"hardware": "2"}),
    (("node_", "ear_trustworthiness_vector"), {"colour": 2}),
    (("node_", "ear_trustworthiness_vector"), {"hardware": True}),
    (("node_", "ear_appraisal_policy_ids"), "fleet"),
    (("ear_verifier_id",), ["developer", "build"]),
    (("bootlease_lineage", "prev"), None),
    (("bootlease_lineage", "prev"), ...),
    (("bootlease_lineage",), []),
    (("bootlease_boot", "reset_count"), -1),
    (("bootlease_policy", "epoch"), "3"),
    (("bootlease_policy", "epoch"), 1 << 53),
    (("bootlease_evidence",), "A" * 42),
    (("bootlease_key_protection",), 1),
    (("bootlease_delegation",), None),
    (("bootlease_delegation",), {"root": {}, "links": []}),
    (("node_", "ear_attester_claims"), {"bootlease_level": None}),
    (("node_", "ear_attester_claims"), {"bootlease_level": True}),
    (("node_", "ear_attester_claims"), {"bootlease_level": 4}),
    (("node_", "ear_attester_claims"), []),
    (("status", "status_list", "idx"), 1),
    (("status", "status_list", "uri"), "https://other.example/v1/status"),
]


@pytest.mark.parametrize(("path", "value"), JWT_SPOILT, ids=repr)
def test_spoilt_jwt_claim_is_malformed(path: tuple[Any, ...], value: object) -> None:
    """Each mandatory claim, missing or of another type or value, is refused by itself."""
    full = ("submods", "node", *path[1:]) if path[0] == "node_" else path
    members = spoil(execution_claims().to_jwt(), full, value)
    with pytest.raises(MalformedError):
        ExecutionClaims.from_jwt(strictjson.parse_object(strictjson.serialise(members)))


def test_unknown_claims_are_ignored() -> None:
    """EAR: a consumer must ignore claims that it does not know."""
    claims = execution_claims()
    decoded = cbor.decode(claims.encoded(), max_bytes=1 << 16)
    assert ExecutionClaims.from_cwt({**decoded, 999: 1, "new": 2}) == claims
    members = strictjson.parse_object(strictjson.serialise({**claims.to_jwt(), "new": {"a": 1}}))
    assert ExecutionClaims.from_jwt(members) == claims


def test_claims_set_that_is_no_map_is_malformed() -> None:
    """A claims set is a map."""
    with pytest.raises(MalformedError):
        ExecutionClaims.from_cwt([1])


@pytest.mark.parametrize(
    ("vector", "tier"),
    [
        (TrustVector(), Tier.NONE),
        (TrustVector(hardware=1), Tier.NONE),
        (TrustVector(hardware=-1), Tier.NONE),
        (TrustVector(hardware=2), Tier.AFFIRMING),
        (TrustVector(hardware=-32), Tier.AFFIRMING),
        (TrustVector(hardware=31, executables=32), Tier.WARNING),
        (TrustVector(hardware=-33), Tier.WARNING),
        (TrustVector(hardware=-96), Tier.WARNING),
        (TrustVector(hardware=2, executables=96), Tier.CONTRAINDICATED),
        (TrustVector(hardware=-97), Tier.CONTRAINDICATED),
        (TrustVector(hardware=-128, executables=127), Tier.CONTRAINDICATED),
    ],
)
def test_tier_is_that_of_the_worst_claim(vector: TrustVector, tier: Tier) -> None:
    """AR4SI §2.3.2, at every boundary."""
    assert vector.tier() is tier
