"""What says how far a lease goes and when it ends, in the form that a parser sees it.

A signature keeps the fuzzer out of what it covers. So what is signed is made of the fuzzer's bytes,
by a key that the parser trusts: a verifier whose key is not stolen sends no such thing, but a
parser must not rest on that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

from bootlease import cbor
from bootlease.errors import VerificationError
from bootlease.ledger import DelegationRecord
from bootlease.testing.chains import KEYS, chain
from bootlease.testing.keys import event_signer
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer
from bootlease.token import ExecutionClaims, base64url, strictjson
from bootlease.token.caep import (
    Cause,
    Event,
    Initiator,
    IssuerSubject,
    SessionRevoked,
    SessionSubject,
    StreamSubject,
    Subject,
    TokenClaimsChange,
    Verification,
)
from bootlease.token.continuity import CONTINUITY_TYP, verify_statement
from bootlease.token.cose import sign1
from bootlease.token.delegation import verify_chain
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.grants import GRANT_TYP, parse_grant
from bootlease.token.jws import encode_header, sign_compact
from bootlease.token.keyrotation import (
    KEY_ROTATION_TYP,
    parse_rotations,
    sign_rotation,
    verify_rotation,
)
from bootlease.token.secevent import SecurityEvent, parse_set
from bootlease.token.statuslist import (
    STATUS_CWT_TYP,
    STATUS_JWT_TYP,
    StatusList,
    StatusListToken,
    sign_status_cwt,
    sign_status_jwt,
    verify_status_list,
)
from bootlease.verifier.delegation.exchanges import ExchangeError
from bootlease.verifier.routes import tokens as token_route

MAX_INPUT: Final = 64 * 1024
STATUS: Final = f"{ISSUER}/v1/status"

Parser = Callable[[bytes], Any]

_ISSUER: Final = FakeIssuer()
_UNSIGNED: Final = base64url.encode(bytes(64))


def _payload(text: str) -> bytes:
    return base64url.decode(text.split(".")[1])


def _signed(typ: str, verify: Callable[[str], object]) -> Parser:
    """Sign the bytes as an object of a kind, and verify it."""
    signer = _ISSUER.signer
    header = encode_header({"alg": signer.algorithm.value, "kid": signer.key_id, "typ": typ})

    def check(data: bytes) -> None:
        with contextlib.suppress(VerificationError):
            verify(sign_compact(header, data, signer))

    return check


def _statement(text: str) -> None:
    verify_statement(text, _ISSUER.keys, now=NOW, issuer=ISSUER, leeway=5)


def _status(data: bytes | str) -> None:
    verify_status_list(data, _ISSUER.keys, now=NOW, uri=STATUS, leeway=5)


def _status_cwt(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        _status(sign1(data, _ISSUER.signer, typ=STATUS_CWT_TYP))


def _rotation(text: str) -> None:
    verify_rotation(text, _ISSUER.keys, issuer=ISSUER)


def _list(data: bytes) -> None:
    status = StatusList.decompress(data)
    if StatusList.decompress(status.compress()) != status:
        raise AssertionError(f"another list than {data.hex()}")


def _grant(data: bytes) -> None:
    header = encode_header({"alg": "ES256", "typ": GRANT_TYP, "jwk": KEYS[0].public.jwk()})
    text = f"{header}.{base64url.encode(data)}.{_UNSIGNED}"
    if parse_grant(text).text != text:
        raise AssertionError(f"another grant than {text}")


def _event(data: bytes) -> None:
    """What is read must be what is written of it."""
    header = encode_header({"alg": "RS256", "typ": "secevent+jwt"})
    content = parse_set(f"{header}.{base64url.encode(data)}.{_UNSIGNED}")
    again = parse_set(f"{header}.{base64url.encode(content.encode())}.{_UNSIGNED}")
    if again != content:
        raise AssertionError(f"another event than {data!r}")


def _judged(claims: ExecutionClaims) -> None:
    """Both forms of claims say the same, and a chain is whole or refused."""
    cwt = cbor.decode(claims.encoded(), max_bytes=MAX_INPUT)
    jwt = strictjson.parse_object(strictjson.serialise(claims.to_jwt()))
    if ExecutionClaims.from_cwt(cwt) != claims or ExecutionClaims.from_jwt(jwt) != claims:
        raise AssertionError(f"other claims than {claims}")
    if claims.delegation is not None:
        with contextlib.suppress(VerificationError):
            verify_chain(claims)


def _claims_cwt(data: bytes) -> None:
    members = cbor.decode(data, max_bytes=MAX_INPUT)
    if type(members) is dict:
        _judged(ExecutionClaims.from_cwt(members))


def _claims_jwt(data: bytes) -> None:
    _judged(ExecutionClaims.from_jwt(strictjson.parse_object(data)))


def _exchange(data: bytes) -> None:
    with contextlib.suppress(ExchangeError):
        token_route._read(data, None)


def _record(data: bytes) -> None:
    if DelegationRecord.parse(data).encoded != data:
        raise AssertionError(f"another record than {data.hex()}")


PARSERS: Final = [
    ("statement", _signed(CONTINUITY_TYP, _statement)),
    ("status", _signed(STATUS_JWT_TYP, _status)),
    ("status cwt", _status_cwt),
    ("status list", _list),
    ("rotation", _signed(KEY_ROTATION_TYP, _rotation)),
    ("rotations", parse_rotations),
    ("grant", _grant),
    ("claims cwt", _claims_cwt),
    ("claims jwt", _claims_jwt),
    ("exchange", _exchange),
    ("delegation", _record),
    ("event", _event),
    ("event keys", EventKeySet.from_jwks),
]
"""By what each reads."""


def seeds() -> Iterator[tuple[str, bytes]]:
    """Return inputs that parse, with their parsers."""
    yield "statement", _payload(_ISSUER.statement(revoked=(3, 70_000), min_epoch=2))
    status = StatusListToken(STATUS, NOW, NOW + 60, 20, StatusList.of((3, 70_000)))
    yield "status", _payload(sign_status_jwt(status, _ISSUER.signer))
    yield "status cwt", _cwt_payload(sign_status_cwt(status, _ISSUER.signer))
    yield "status list", status.status.compress()
    rotation = sign_rotation(ISSUER, KEYS[1].public, now=NOW, signer=_ISSUER.signer)
    yield "rotation", _payload(rotation)
    yield "rotations", strictjson.serialise({"rotations": [rotation]})
    for length in range(3):
        claims = chain(length)
        yield "claims cwt", claims.encoded()
        yield "claims jwt", strictjson.serialise(claims.to_jwt())
        for link in claims.delegation.links if claims.delegation is not None else ():
            yield "grant", _payload(link.grant)
    yield "exchange", _form()
    yield "delegation", _delegation().encoded
    for event in _events():
        yield "event", event.encode()
    keys = EventKeySet((EventKey(event_signer().public),))
    yield "event keys", strictjson.serialise(keys.to_jwks())


def _cwt_payload(message: bytes) -> bytes:
    payload: bytes = cbor.decode(message[1:], max_bytes=len(message))[2]
    return payload


def _delegation() -> DelegationRecord:
    digest = bytes(range(32))
    return DelegationRecord(
        issuer=ISSUER,
        node=digest,
        time=NOW,
        decision=digest,
        parent=digest[:16],
        parent_claims=digest,
        lease_id=digest[16:],
        scope=("tool:search",),
        audience=AUDIENCE,
        thumbprint=digest,
        expires_at=NOW + 60,
        grants=(digest, digest),
        policy_digest=digest,
        policy_epoch=1,
    )


def _form() -> bytes:
    parameters = {
        "grant_type": token_route.GRANT_TYPE,
        "subject_token": "a",
        "subject_token_type": token_route.ACCESS_TOKEN,
        token_route.GRANT: "b",
        "scope": "tool:search",
        "audience": AUDIENCE,
    }
    return urlencode(parameters).encode()


def _events() -> Iterator[SecurityEvent]:
    node, cause = bytes(range(32)), Cause(NOW, Initiator.ADMIN, "stolen")
    said: list[tuple[Subject, Event]] = [
        (SessionSubject(node, lease=node[:16]), SessionRevoked(cause)),
        (SessionSubject(None, lineage=node), SessionRevoked(cause)),
        (IssuerSubject(), TokenClaimsChange(cause, {"epoch": 2, "policy": {"id": "a"}})),
        (StreamSubject("0" * 32), Verification("state")),
    ]
    for subject, event in said:
        yield SecurityEvent(ISSUER, AUDIENCE, "a" * 32, NOW, subject, event, "txn")
