"""Tokens as attackers write them: each check is broken by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jws
from joserfc.jwk import KeySet as JoseKeySet
from joserfc.jwk import import_key

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import (
    AUDIENCE,
    ISSUER,
    LIFE,
    NOW,
    FakeIssuer,
    execution_claims,
    fixed_signer,
)
from bootlease.token import (
    AuthenticToken,
    KeySet,
    PrivateKeySigner,
    Signer,
    TokenFormat,
    VerificationKey,
    VerifiedToken,
    base64url,
    parse_token,
    sign_cwt,
    sign_jwt,
    verify_cwt,
    verify_jwt,
    verify_token,
)
from bootlease.token.cose import parse_sign1, to_be_signed
from bootlease.token.verified import CWT_TYP, MAX_TOKEN_BYTES

ISSUED = FakeIssuer()
KEY = ISSUED.keys.keys[0]
STRANGER = fixed_signer(99)
FORMATS = pytest.mark.parametrize("token_format", list(TokenFormat))


def check(token: bytes | str, **changes: Any) -> VerifiedToken:
    """Verify as the tests' relying party does, with some argument changed."""
    options: dict[str, Any] = {"now": NOW, "issuer": ISSUER, "audience": AUDIENCE, **changes}
    keys = options.pop("keys", ISSUED.keys)
    return verify_token(token, keys, **options)


def refusals(token: bytes | str, **changes: Any) -> list[str]:
    """Return the ids of all findings; fails where the token is accepted."""
    with pytest.raises(VerificationError) as caught:
        check(token, **changes)
    return [finding.id for finding in caught.value.findings]


def cwt(
    payload: object = None,
    *,
    header: dict[Any, Any] | None = None,
    unprotected: dict[Any, Any] | None = None,
    signer: Signer = ISSUED.signer,
) -> bytes:
    """Return a CWT signed over whatever it is given."""
    usual = {1: -7, 4: base64url.decode(signer.key_id), 16: CWT_TYP}
    merged = {key: value for key, value in {**usual, **(header or {})}.items() if value is not ...}
    protected = cbor.encode(merged)
    data = (
        payload
        if isinstance(payload, bytes)
        else cbor.encode(payload or execution_claims().to_cwt())
    )
    signature = signer.sign(to_be_signed(protected, data))
    return b"\xd2" + cbor.encode([protected, unprotected or {}, data, signature])


def b64(data: bytes) -> str:
    """Return base64url with Python's own encoder."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(
    payload: object = None,
    *,
    header: dict[str, Any] | None = None,
    raw_header: bytes | None = None,
    signer: Signer = ISSUED.signer,
) -> str:
    """Return a JWT signed over whatever it is given."""
    usual = {"alg": "ES256", "kid": signer.key_id, "typ": "eat+jwt"}
    merged = {key: value for key, value in {**usual, **(header or {})}.items() if value is not ...}
    first = json.dumps(merged).encode() if raw_header is None else raw_header
    data = (
        payload
        if isinstance(payload, bytes)
        else json.dumps(payload or execution_claims().to_jwt()).encode()
    )
    text = f"{b64(first)}.{b64(data)}"
    return f"{text}.{b64(signer.sign(text.encode()))}"


@FORMATS
def test_genuine_token_counts(token_format: TokenFormat) -> None:
    """A token of the issuer, for this audience, in its time, is accepted with its claims."""
    claims = execution_claims()
    verified = check(ISSUED.token(claims, token_format))
    assert isinstance(verified, VerifiedToken)
    assert (verified.claims, verified.format) == (claims, token_format)
    assert verified.digest == claims.digest
    assert verified.key_id == ISSUED.signer.key_id


@FORMATS
@pytest.mark.parametrize("changes", [{}, {"level": 2}], ids=repr)
def test_a_token_says_the_same_without_its_members(
    token_format: TokenFormat, changes: dict[str, Any]
) -> None:
    """What is kept of a token is enough to read its claims, and to tell it from others."""
    claims = execution_claims(**changes)
    token = ISSUED.token(claims, token_format)
    verified, whole = check(token), check(token)
    verified.forget_members()
    assert not verified.members
    assert verified == whole
    assert verified.claims == claims
    assert verified.digest == claims.digest


def test_claims_of_a_newer_issuer_are_read_from_the_payload_too() -> None:
    """A token whose members are forgotten is read as one that was never read."""
    verified = check(cwt({**execution_claims().to_cwt(), 999: "new"}))
    verified.forget_members()
    assert verified.claims == execution_claims()


def test_a_payload_that_is_not_deterministic_stays_malformed() -> None:
    """Forgetting the members does not let a form pass that reading them refuses."""
    payload = execution_claims().encoded()
    assert payload.endswith(b"\x00")
    verified = check(cwt(payload[:-1] + b"\x18\x00"))
    verified.forget_members()
    with pytest.raises(MalformedError):
        _ = verified.claims


def test_token_is_told_apart_by_form() -> None:
    """CWT as bytes, as base64url text and inside tag 61; JWT as text and as bytes."""
    binary = sign_cwt(execution_claims(), ISSUED.signer)
    text = sign_jwt(execution_claims(), ISSUED.signer)
    forms: list[bytes | str] = [
        binary,
        base64url.encode(binary),
        base64url.encode(binary).encode(),
        b"\xd8\x3d" + binary,
    ]
    assert [check(form).format for form in forms] == [TokenFormat.CWT] * 4
    forms = [text, text.encode()]
    assert [check(form).format for form in forms] == [TokenFormat.JWT] * 2
    assert parse_token(text)[1] == parse_token(binary)[1] == execution_claims()


def test_joserfc_verifies_our_jwt_and_we_verify_its() -> None:
    """An independent JOSE implementation agrees in both directions."""
    ours = sign_jwt(execution_claims(), ISSUED.signer, TokenFormat.UNSAFE_BEARER)
    keys = JoseKeySet.import_key_set(ISSUED.keys.to_jwks())  # type: ignore[arg-type]  # a TypedDict
    theirs = jws.deserialize_compact(ours, keys, algorithms=["ES256"])
    assert json.loads(theirs.payload or b"") == json.loads(json.dumps(execution_claims().to_jwt()))
    pem = ec.derive_private_key(4712, ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    private = import_key(pem, "EC")
    header = {"alg": "ES256", "kid": ISSUED.signer.key_id, "typ": "eat+jwt"}
    signed = jws.serialize_compact(header, theirs.payload or b"", private, algorithms=["ES256"])
    assert check(signed).claims == execution_claims()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
@FORMATS
def test_every_token_algorithm_signs_and_verifies(
    token_format: TokenFormat, curve: ec.EllipticCurve
) -> None:
    """Tokens of P-384 keys take the general path of the parser and are accepted too."""
    signer = PrivateKeySigner(ec.derive_private_key(5, curve))
    keys = KeySet((VerificationKey(signer.public),))
    sign = sign_cwt if token_format is TokenFormat.CWT else sign_jwt
    assert check(sign(execution_claims(), signer), keys=keys).claims == execution_claims()


# Signature, key and algorithm


def test_cwt_signature_over_other_payload_is_refused() -> None:
    """A payload exchanged after signing."""
    message = parse_sign1(cwt(), max_bytes=MAX_TOKEN_BYTES)
    other = execution_claims(1).encoded()
    token = b"\xd2" + cbor.encode([message.protected, {}, other, message.signature])
    assert refusals(token) == ["token.signature.invalid"]


def test_jwt_signature_over_other_payload_is_refused() -> None:
    """A payload exchanged after signing."""
    header, _, signature = jwt().split(".")
    other = b64(json.dumps(execution_claims(1).to_jwt()).encode())
    assert refusals(f"{header}.{other}.{signature}") == ["token.signature.invalid"]


@FORMATS
def test_key_that_is_not_in_the_set_is_refused(token_format: TokenFormat) -> None:
    """Signed by a stranger under the stranger's own name."""
    token = cwt(signer=STRANGER) if token_format is TokenFormat.CWT else jwt(signer=STRANGER)
    assert refusals(token) == ["token.key.unknown"]


@FORMATS
def test_stranger_under_a_trusted_name_is_refused(token_format: TokenFormat) -> None:
    """Signed by a stranger who names a trusted key."""
    if token_format is TokenFormat.CWT:
        token: bytes | str = cwt(signer=STRANGER, header={4: base64url.decode(KEY.key_id)})
    else:
        token = jwt(signer=STRANGER, header={"kid": KEY.key_id})
    assert refusals(token) == ["token.signature.invalid"]


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "", "A" * 2000])
def test_injected_kid_is_only_unknown(kid: str) -> None:
    """A key id is looked up in a table, and means nothing else."""
    assert refusals(jwt(header={"kid": kid[:1400]})) == ["token.key.unknown"]


@pytest.mark.parametrize("kid", [..., 7, None, ["a"]])
def test_missing_kid_is_malformed(kid: object) -> None:
    """There is no key to try instead."""
    with pytest.raises(MalformedError):
        check(jwt(header={"kid": kid}))


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "ES384", "RS256", "EdDSA", "ES256K", ""])
def test_jwt_algorithm_that_is_not_the_keys_is_refused(alg: str) -> None:
    """The key says how it verifies; the header has no say."""
    assert refusals(jwt(header={"alg": alg})) == ["token.algorithm.mismatch"]


def test_unsigned_jwt_is_refused() -> None:
    """``alg: none`` with an empty signature, the oldest trick."""
    header = {"alg": "none", "typ": "eat+jwt", "kid": KEY.key_id}
    payload = json.dumps(execution_claims().to_jwt()).encode()
    token = f"{b64(json.dumps(header).encode())}.{b64(payload)}."
    assert refusals(token) == ["token.algorithm.mismatch"]


def test_hmac_with_the_public_key_is_refused() -> None:
    """HS256 with the published key, in each form a library might have taken for a secret."""
    public = KEY.public.load()
    header = {"alg": "HS256", "typ": "eat+jwt", "kid": KEY.key_id}
    payload = json.dumps(execution_claims().to_jwt()).encode()
    text = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(KEY.public.jwk()).encode(),
    ):
        mac = hmac.digest(secret, text.encode(), hashlib.sha256)
        assert refusals(f"{text}.{b64(mac)}") == ["token.algorithm.mismatch"]


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_key_that_the_token_brings_is_not_used(name: str) -> None:
    """A stranger's key in the header stays a stranger's."""
    value = {"jwk": STRANGER.public.jwk(), "x5c": ["AAAA"]}.get(name, "https://evil.example/keys")
    assert refusals(jwt(signer=STRANGER, header={name: value})) == ["token.key.unknown"]
    both = {name: value, "kid": KEY.key_id}
    assert refusals(jwt(signer=STRANGER, header=both)) == ["token.signature.invalid"]


@pytest.mark.parametrize("alg", [5, -35, -8, -257, 0, 1])
def test_cwt_algorithm_that_is_not_the_keys_is_refused(alg: int) -> None:
    """The key says how it verifies; the header has no say."""
    assert refusals(cwt(header={1: alg})) == ["token.algorithm.mismatch"]


def test_fully_specified_cwt_algorithm_is_accepted() -> None:
    """ESP256 (-9) is another name of what the key does."""
    assert check(cwt(header={1: -9}))


@pytest.mark.parametrize(
    "header",
    [{1: ...}, {1: "ES256"}, {4: ...}, {4: "kid"}, {16: ...}, {16: 263}, {2: [16]}, {2: []}],
    ids=repr,
)
def test_cwt_header_that_lacks_something_or_has_crit_is_malformed(
    header: dict[Any, Any],
) -> None:
    """alg, kid and typ are demanded in the protected header, ``crit`` is not understood."""
    with pytest.raises(MalformedError):
        check(cwt(header=header))


@pytest.mark.parametrize("label", [1, 2, 4, 16])
def test_cwt_header_outside_the_signature_is_malformed(label: int) -> None:
    """alg, crit, kid and typ must not stand where anybody can write them."""
    with pytest.raises(MalformedError):
        check(cwt(unprotected={label: -7}))


def test_unprotected_header_passes_through() -> None:
    """A receipt added after signing changes neither verdict nor digest."""
    plain, with_receipt = cwt(), cwt(unprotected={394: [b"receipt"]})
    assert check(with_receipt).digest == check(plain).digest
    message = parse_sign1(with_receipt, max_bytes=MAX_TOKEN_BYTES)
    assert message.unprotected == {394: [b"receipt"]}
    assert sign_cwt(execution_claims(), ISSUED.signer, unprotected={394: [b"r"]})


@pytest.mark.parametrize("name", ["crit", "b64"])
def test_jwt_with_critical_header_is_malformed(name: str) -> None:
    """Extensions that are not understood are not skipped."""
    with pytest.raises(MalformedError):
        check(jwt(header={name: ["exp"]}))


@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "eat+cwt", "EAT+JWT", "secevent+jwt"])
def test_jwt_of_another_type_is_refused(typ: str) -> None:
    """Every signed object has a type of its own: a proof is no token."""
    assert refusals(jwt(header={"typ": typ})) == ["token.typ.mismatch"]


@pytest.mark.parametrize("typ", ["application/eat+cwt", "application/rim+cose", "eat+jwt"])
def test_cwt_of_another_type_is_refused(typ: str) -> None:
    """Every signed object has a type of its own."""
    assert refusals(cwt(header={16: typ})) == ["token.typ.mismatch"]


# Claims


@FORMATS
def test_other_audience_is_refused(token_format: TokenFormat) -> None:
    """A token for somebody else, also for a name that only begins alike."""
    token = ISSUED.token(execution_claims(audience=AUDIENCE + "/a"), token_format)
    assert refusals(token) == ["token.audience.mismatch"]


@FORMATS
def test_other_issuer_is_refused(token_format: TokenFormat) -> None:
    """A token of another verifier that shares the key."""
    token = ISSUED.token(execution_claims(issuer="https://other.example"), token_format)
    assert refusals(token) == ["token.issuer.mismatch"]


@FORMATS
def test_token_ends_at_its_expiry(token_format: TokenFormat) -> None:
    """Up to exp and the leeway it counts, then never again."""
    token = ISSUED.token(execution_claims(), token_format)
    assert check(token, now=NOW + LIFE + 4.9)
    assert refusals(token, now=NOW + LIFE + 5) == ["token.expired"]
    assert refusals(token, now=NOW + LIFE, leeway=0) == ["token.expired"]
    assert refusals(token, now=NOW + 10 * LIFE) == ["token.expired"]


@FORMATS
def test_token_does_not_count_before_its_time(token_format: TokenFormat) -> None:
    """Before nbf, beyond the leeway."""
    token = ISSUED.token(execution_claims(not_before=NOW + 6), token_format)
    assert refusals(token) == ["token.not-yet-valid"]
    assert check(token, now=NOW + 1)


@FORMATS
def test_token_from_the_future_is_refused(token_format: TokenFormat) -> None:
    """An issue time beyond the leeway means that a clock is wrong."""
    token = ISSUED.token(execution_claims(issued_at=NOW + 6), token_format)
    assert refusals(token) == ["token.issued.future"]
    assert check(token, now=NOW + 1)


@FORMATS
def test_every_reason_is_reported(token_format: TokenFormat) -> None:
    """Findings of one step are collected."""
    token = ISSUED.token(execution_claims(), token_format)
    found = refusals(token, now=NOW + 10 * LIFE, issuer="a", audience="b")
    assert found == ["token.issuer.mismatch", "token.audience.mismatch", "token.expired"]


@pytest.mark.parametrize(
    "profile", ["tag:ietf.org,2026:rats/ear#03", "tag:github.com,2023:veraison/ear", None]
)
def test_other_profile_is_refused(profile: str | None) -> None:
    """Claims of another profile may mean something else."""
    assert refusals(cwt({**execution_claims().to_cwt(), 265: profile})) == ["token.profile.unknown"]
    members = {**execution_claims().to_jwt(), "eat_profile": profile}
    assert refusals(jwt(members)) == ["token.profile.unknown"]


@pytest.mark.parametrize(
    "claim", [1, 2, 3, 4, 5, 6, 7, 8, 9, 266, 1000, 1004, *range(-66007, -66000)]
)
def test_signed_cwt_without_a_claim_is_malformed(claim: int) -> None:
    """The issuer's signature does not make up for a missing claim."""
    members = execution_claims().to_cwt()
    del members[claim]
    with pytest.raises(MalformedError):
        check(cwt(members))


@pytest.mark.parametrize("claim", sorted(set(execution_claims().to_jwt()) - {"eat_profile"}))
def test_signed_jwt_without_a_claim_is_malformed(claim: str) -> None:
    """The issuer's signature does not make up for a missing claim."""
    members = execution_claims().to_jwt()
    del members[claim]
    with pytest.raises(MalformedError):
        check(jwt(members))


@pytest.mark.parametrize("value", [1 << 63, "1900000120", True, -1])
def test_expiry_that_is_no_time_is_malformed(value: object) -> None:
    """Numbers that another parser would wrap, round or coerce never count as a time."""
    with pytest.raises(MalformedError):
        _ = check(cwt({**execution_claims().to_cwt(), 4: value}), now=-10).claims
    with pytest.raises(MalformedError):
        _ = check(jwt({**execution_claims().to_jwt(), "exp": value}), now=-10).claims


def test_unknown_claims_are_ignored_and_hashed() -> None:
    """Claims of a newer issuer change nothing but the digest of what was signed."""
    members = {**execution_claims().to_cwt(), 999: "new", -70000: [1]}
    verified = check(cwt(members))
    assert verified.claims == execution_claims()
    assert verified.digest == hashlib.sha256(cbor.encode(members)).digest()
    assert check(jwt({**execution_claims().to_jwt(), "new": 1})).claims == execution_claims()
    shuffled = dict(reversed(execution_claims().to_jwt().items()))
    assert check(jwt(shuffled)).claims == execution_claims()


def test_signed_payload_in_another_form_is_malformed() -> None:
    """Trailing bytes, long heads and repeated keys are refused though the issuer signed them."""
    good = execution_claims().encoded()
    long_head = b"\xb8\x14" + good[1:]
    repeated = b"\xb5" + good[1:] + cbor.encode(-66007) + b"\x01"
    for payload in (good + b"\x00", long_head, repeated, b"\x81" + good, b"\xf6"):
        with pytest.raises(MalformedError):
            _ = check(cwt(payload)).claims


@pytest.mark.parametrize(
    "payload",
    [
        b'{"exp":1,' + json.dumps(execution_claims().to_jwt()).encode()[1:],
        json.dumps(execution_claims().to_jwt()).encode().replace(b"1900000120", b"1900000120.0"),
        json.dumps(execution_claims().to_jwt()).encode().replace(b"1900000120", b"NaN"),
        json.dumps(execution_claims().to_jwt()).encode().replace(b"1900000120", b"9" * 30),
        json.dumps(execution_claims().to_jwt()).encode() + b"{}",
        b"[]",
        b"",
    ],
    ids=lambda payload: repr(payload[:12] + payload[-12:]),
)
def test_signed_jwt_with_ambiguous_json_is_malformed(payload: bytes) -> None:
    """Repeated names, fractions, NaN and huge numbers are refused though the issuer signed them."""
    with pytest.raises(MalformedError):
        check(jwt(payload or b" "))


def test_jwt_header_with_repeated_names_is_malformed() -> None:
    """Two algorithms, two readers."""
    header = f'{{"alg":"none","alg":"ES256","typ":"eat+jwt","kid":"{KEY.key_id}"}}'.encode()
    with pytest.raises(MalformedError):
        check(jwt(raw_header=header))


# Form


def _jwt_parts() -> list[str]:
    return sign_jwt(execution_claims(), ISSUED.signer).split(".")


OTHER_FORMS: dict[str, Any] = {
    "empty": b"",
    "empty text": "",
    "text": "token",
    "two parts": ".".join(_jwt_parts()[:2]),
    "four parts": ".".join([*_jwt_parts(), "AAAA"]),
    "JWE": ".".join([*_jwt_parts(), "AAAA", "AAAA"]),
    "padding": ".".join(_jwt_parts()) + "==",
    "white space": " " + ".".join(_jwt_parts()),
    "new line": ".".join(_jwt_parts()) + "\n",
    "other alphabet": ".".join(_jwt_parts())[:-4] + "++//",
    "not ASCII": ".".join(_jwt_parts()) + "é",
    "not ASCII header": "é" + ".".join(_jwt_parts()),
    "bytes of no form": b"\xff\xfe",
    "untagged COSE": cwt()[1:],
    "COSE_Mac0": b"\xd1" + cwt()[1:],
    "COSE_Sign": b"\xd8\x62" + cwt()[1:],
    "tag 61 alone": b"\xd8\x3d" + cwt()[1:],
    "tag 61 twice": b"\xd8\x3d\xd8\x3d" + cwt(),
    "tag 18 twice": b"\xd2" + cwt(),
    "long tag": b"\xd8\x12" + cwt()[1:],
    "trailing bytes": cwt() + b"\x00",
    "detached payload": b"\xd2" + cbor.encode([b"\xa0", {}, None, bytes(64)]),
    "three members": b"\xd2" + cbor.encode([b"\xa0", {}, b"\xa0"]),
    "map": b"\xd2\xa0",
    "protected is no map": b"\xd2" + cbor.encode([b"\x80", {}, b"\xa0", bytes(64)]),
    "long protected": b"\xd2" + cbor.encode([bytes(600), {}, b"\xa0", bytes(64)]),
    "too long": b"\xd2" + bytes(3 * MAX_TOKEN_BYTES),
    "CWT too long": cwt({**execution_claims().to_cwt(), 999: bytes(MAX_TOKEN_BYTES)}),
    "JWT too long": jwt({**execution_claims().to_jwt(), "new": "a" * MAX_TOKEN_BYTES}),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_other_form_is_malformed(name: str) -> None:
    """What is not one of the documented forms is not looked at further."""
    with pytest.raises(MalformedError):
        check(OTHER_FORMS[name])
    with pytest.raises(MalformedError):
        parse_token(OTHER_FORMS[name])


def test_signature_check_alone_says_so() -> None:
    """An expired token is authentic, but its type is not that of a token that counts."""
    old = execution_claims(expires_at=1)
    for token in (
        verify_cwt(sign_cwt(old, ISSUED.signer), ISSUED.keys),
        verify_jwt(sign_jwt(old, ISSUED.signer), ISSUED.keys),
    ):
        assert type(token) is AuthenticToken
        assert token.claims == old


def test_signing_keys_overlap_while_they_rotate() -> None:
    """A set of two keys accepts tokens of both."""
    keys = KeySet((KEY, VerificationKey(STRANGER.public)))
    for signer in (ISSUED.signer, STRANGER):
        assert check(sign_cwt(execution_claims(), signer), keys=keys).key_id == signer.key_id


def test_a_token_beyond_all_bounds_is_not_decoded() -> None:
    """The length is looked at before anything else is done with it."""
    with pytest.raises(MalformedError, match="a token has at most"):
        parse_token("A" * (2 * MAX_TOKEN_BYTES + 1))


@FORMATS
def test_what_still_counts_is_no_reason(token_format: TokenFormat) -> None:
    """Beside another reason, a time within the leeway is not named as one."""
    token = ISSUED.token(execution_claims(), token_format)
    other = ["token.audience.mismatch"]
    assert refusals(token, audience="https://other.example", now=NOW + LIFE) == other
    assert refusals(token, audience="https://other.example", now=NOW - 5) == other
