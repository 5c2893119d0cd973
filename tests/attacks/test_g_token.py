"""Section G: tokens that are stolen, forged or too old, and a service that is talked into one."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from fastapi.testclient import TestClient

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import CredentialChallenge, LeaseRequest, TokenEncoding
from bootlease.ports import Committed, DecisionCommit, StoreUnavailableError
from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker
from bootlease.store import SQLStore
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.keys import fresh_keys
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE as GRANTED_AUDIENCE
from bootlease.testing.scene import POLICY, Scene, default_lease, plain_key
from bootlease.testing.set_clock import SetClock
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    LIFE,
    NOW,
    FakeIssuer,
    execution_claims,
    fixed_signer,
)
from bootlease.token import (
    KeySet,
    TokenFormat,
    base64url,
    make_proof,
    verify_token,
)
from bootlease.verifier.app import build_app
from bootlease.verifier.service import build_service
from tests.attacks.forging import ForgingNode
from tests.attacks.verdict import MALFORMED, Verdict, attack

NewAttacker = Callable[..., AttestingClient]

ISSUED: Final = FakeIssuer()
THIEF: Final = fixed_signer(99)
URL: Final = "https://tools.example/run"
BOTH_FORMS: Final = pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)

_jti = itertools.count()


class Clock:
    """A relying party's clock, set by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return what was set."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at the time of issue."""
    return Clock()


@pytest.fixture
def checker(clock: Clock) -> TokenChecker:
    """A relying party."""
    return TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=StaticContinuity(ISSUED.continuity()),
        clock=clock,
    )


def text_token(form: TokenFormat = TokenFormat.JWT, **changes: Any) -> str:
    """Return a token as HTTP carries it."""
    token = ISSUED.token(execution_claims(**changes), form)
    return token if isinstance(token, str) else base64url.encode(token)


def request(token: str, signer: Any = HOLDER, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a request with a proof of possession."""
    proof = {"htm": "POST", "htu": URL, "iat": NOW, "jti": str(next(_jti)), "access_token": token}
    made = make_proof(signer, **{**proof, **changes})
    return {"authorization": f"DPoP {token}", "dpop": made, "method": "POST", "url": URL}


# -- G1: theft


@attack("G1", "pop.key.mismatch", "request.proof.missing", "request.token.missing")
@BOTH_FORMS
def test_a_stolen_token_is_worth_nothing_without_its_key(
    checker: TokenChecker, verdict: Verdict, form: TokenFormat
) -> None:
    """Neither with another key, nor without a proof, nor as a bearer token."""
    token = text_token(form)
    with verdict.refuses("pop.key.mismatch"):
        checker.check_request(**request(token, THIEF))
    with verdict.refuses("request.proof.missing"):
        checker.check_request(**{**request(token), "dpop": None})
    with verdict.refuses("request.token.missing"):
        checker.check_request(**{**request(token), "authorization": f"Bearer {token}"})
    assert checker.check_request(**request(token))


@attack("G1", "pop.replayed", "pop.url.mismatch", "pop.method.mismatch", "pop.token.mismatch")
def test_a_stolen_proof_serves_one_request_once(checker: TokenChecker, verdict: Verdict) -> None:
    """It names method, URL and token, and is remembered."""
    token, other = text_token(), text_token(number=1)
    seen = request(token)
    assert checker.check_request(**seen)
    with verdict.refuses("pop.replayed"):
        checker.check_request(**seen)
    seen = request(token)
    with verdict.refuses("pop.url.mismatch"):
        checker.check_request(**{**seen, "url": "https://tools.example/other"})
    with verdict.refuses("pop.method.mismatch"):
        checker.check_request(**{**seen, "method": "DELETE"})
    with verdict.refuses("pop.token.mismatch"):
        checker.check_request(**{**seen, "authorization": f"DPoP {other}"})


@attack("G1", "token.audience.mismatch", "token.issuer.mismatch", "token.scope.insufficient")
@BOTH_FORMS
def test_a_token_counts_where_it_was_meant_to(
    checker: TokenChecker, verdict: Verdict, form: TokenFormat
) -> None:
    """For its audience, from its issuer, for its scope: names compared whole."""
    for changes, finding in (
        ({"audience": "https://tools.example.evil"}, "token.audience.mismatch"),
        ({"audience": AUDIENCE + "/"}, "token.audience.mismatch"),
        ({"issuer": "https://verifier.example.evil"}, "token.issuer.mismatch"),
    ):
        with verdict.refuses(finding):
            checker.check(text_token(form, **changes))
    with verdict.refuses("token.scope.insufficient"):
        checker.check(text_token(form), scope="tools:write")


@attack("G1", MALFORMED)
@pytest.mark.parametrize("claim", ["aud", "cnf", "exp", "iat", "nbf", "iss", "sub", "jti"])
def test_a_token_without_a_claim_that_binds_it_is_none(
    checker: TokenChecker, verdict: Verdict, claim: str
) -> None:
    """Rightly signed, and still no execution token."""
    claims = execution_claims().to_jwt()
    del claims[claim]
    with verdict.refuses():
        checker.check(signed_json(json.dumps(claims).encode()))


# -- G2, G9, G10: time


@attack("G2", "lease.life.over", "challenge.expired")
def test_a_lease_lives_from_the_challenge_and_no_longer(scene: Scene, verdict: Verdict) -> None:
    """Evidence kept until the end of its challenge leaves nothing to live for."""
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    result = scene.appraise(scene.verify(evidence, challenge), challenge)
    assert result.expires_at == challenge.issued_at + 120
    verified = scene.verify(evidence, challenge)
    scene.now = challenge.issued_at + 120
    verdict.refused(scene.appraise(verified, challenge), "lease.life.over")
    with verdict.refuses("challenge.expired"):
        scene.verify(evidence, challenge)


@attack("G2", "token.expired")
@BOTH_FORMS
def test_a_token_ends_with_its_lease(
    checker: TokenChecker, clock: Clock, verdict: Verdict, form: TokenFormat
) -> None:
    """Also where the relying party has seen it before and remembers it as genuine."""
    token = text_token(form)
    assert checker.check(token)
    clock.now = NOW + LIFE + 6
    with verdict.refuses():
        checker.check(token)


@attack("G9", "lineage.unknown-head", "eventlog.pcr8.replay-mismatch", "token.expired")
def test_a_refusal_ends_what_was_granted_within_a_lifes_time(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """No renewal follows it, and the last token names the second at which it ends."""
    client = new_attacker()
    answer = client.renew()
    client.device.pcr_extend(8, {bank: b"x" * bank.size for bank in answer.challenge.pcrs})
    verdict.refused(client.present(client.attest(full=True)), "eventlog.pcr8.replay-mismatch")
    client.challenge = None
    verdict.refused(client.present(client.attest()), "lineage.unknown-head")
    keys = KeySet.from_jwks(client.http.get("/.well-known/jwks.json").content)
    lease = answer.leases[0]
    assert lease.expires_at - answer.challenge.issued_at <= answer.life
    with verdict.refuses("token.expired"):
        verify_token(
            lease.token,
            keys,
            now=answer.challenge.issued_at + answer.life + 6,
            issuer=str(client.http.base_url).rstrip("/"),
            audience=GRANTED_AUDIENCE,
        )


@attack("G10", "token.not-yet-valid", "token.issued.future", "token.expired")
@BOTH_FORMS
def test_clocks_may_differ_by_the_leeway_only(
    checker: TokenChecker, clock: Clock, verdict: Verdict, form: TokenFormat
) -> None:
    """Five seconds either way; a clock far off is a refusal that says so."""
    token = text_token(form)
    clock.now = NOW - 6
    with verdict.refuses("token.not-yet-valid", "token.issued.future"):
        checker.check(token)
    for now in (NOW - 5, NOW + LIFE + 4):
        clock.now = now
        assert checker.check(token)
    clock.now = NOW + LIFE + 5
    with verdict.refuses("token.expired"):
        checker.check(token)


@attack("G10", "pop.issued.future", "pop.too-old")
def test_a_proof_is_of_now(checker: TokenChecker, verdict: Verdict) -> None:
    """Neither kept nor made in advance."""
    token = text_token()
    with verdict.refuses("pop.issued.future"):
        checker.check_request(**request(token, iat=NOW + 10))
    with verdict.refuses("pop.too-old"):
        checker.check_request(**request(token, iat=NOW - 70))


# -- G3, G6: what a token's form may choose


def parts_of(token: str) -> tuple[dict[str, Any], str]:
    """Return header and payload text of a JWT."""
    header, payload, _ = token.split(".")
    return json.loads(base64url.decode(header)), payload


def signed_json(payload: bytes, **header: Any) -> str:
    """Return a JWT of the fake issuer over any bytes, under a header with changes."""
    genuine, _ = parts_of(text_token())
    made = {**genuine, **header}
    present = {name: value for name, value in made.items() if value is not None}
    text = f"{base64url.encode(json.dumps(present).encode())}.{base64url.encode(payload)}"
    return f"{text}.{base64url.encode(ISSUED.signer.sign(text.encode()))}"


GENUINE: Final = json.dumps(execution_claims().to_jwt()).encode()


def unsigned() -> str:
    """Return the classic: no algorithm, no signature."""
    header, payload = parts_of(text_token())
    header["alg"] = "none"
    return f"{base64url.encode(json.dumps(header).encode())}.{payload}."


def keyed_by_the_public_key() -> str:
    """Return the other classic: an HMAC whose key is the issuer's public key, as PEM."""
    header, payload = parts_of(text_token())
    header["alg"] = "HS256"
    text = f"{base64url.encode(json.dumps(header).encode())}.{payload}"
    public = ISSUED.signer.public.load()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    mac = hmac.HMAC(pem, hashes.SHA256())
    mac.update(text.encode())
    return f"{text}.{base64url.encode(mac.finalize())}"


def by_a_key_of_its_own(**header: Any) -> str:
    """Return a token of a stranger that says where to find his key."""
    stranger = FakeIssuer(4711)
    token = stranger.jwt(execution_claims())
    genuine, payload = parts_of(token)
    text = f"{base64url.encode(json.dumps({**genuine, **header}).encode())}.{payload}"
    return f"{text}.{base64url.encode(stranger.signer.sign(text.encode()))}"


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(unsigned, marks=attack("G3", "token.algorithm.mismatch")),
        pytest.param(keyed_by_the_public_key, marks=attack("G3", "token.algorithm.mismatch")),
        pytest.param(
            lambda: signed_json(GENUINE, alg="ES384"),
            marks=attack("G3", "token.algorithm.mismatch"),
        ),
        pytest.param(
            lambda: signed_json(GENUINE, alg="es256"),
            marks=attack("G3", "token.algorithm.mismatch"),
        ),
        pytest.param(by_a_key_of_its_own, marks=attack("G3", "token.key.unknown")),
        pytest.param(
            lambda: by_a_key_of_its_own(jku="https://evil.example/keys"),
            marks=attack("G3", "token.key.unknown"),
        ),
        pytest.param(
            lambda: by_a_key_of_its_own(kid=ISSUED.signer.key_id),
            marks=attack("G3", "token.signature.invalid"),
        ),
        pytest.param(
            lambda: by_a_key_of_its_own(
                kid=ISSUED.signer.key_id, jwk=FakeIssuer(4711).signer.public.jwk()
            ),
            marks=attack("G3", "token.signature.invalid"),
        ),
        pytest.param(
            lambda: signed_json(GENUINE, kid="../../etc/passwd"),
            marks=attack("G3", "token.key.unknown"),
        ),
        pytest.param(
            lambda: signed_json(GENUINE, kid="' OR 1=1 --"),
            marks=attack("G3", "token.key.unknown"),
        ),
        pytest.param(lambda: signed_json(GENUINE, kid=None), marks=attack("G3", MALFORMED)),
        pytest.param(lambda: signed_json(GENUINE, kid=["x"]), marks=attack("G3", MALFORMED)),
        pytest.param(lambda: signed_json(GENUINE, crit=["exp"]), marks=attack("G3", MALFORMED)),
        pytest.param(lambda: signed_json(GENUINE, b64=False), marks=attack("G3", MALFORMED)),
        pytest.param(
            lambda: signed_json(GENUINE, typ="dpop+jwt"),
            marks=attack("G3", "token.typ.mismatch"),
        ),
    ],
    ids=[
        "none", "hs256", "es384", "lower-case", "unknown-kid", "jku", "stolen-kid", "jwk",
        "path", "sql", "no-kid", "kid-array", "crit", "b64", "typ",
    ],
)  # fmt: skip
def test_no_header_chooses_key_or_algorithm(
    checker: TokenChecker, verdict: Verdict, forge: Callable[[], str]
) -> None:
    """Both belong to the key set that the relying party was given."""
    with verdict.refuses():
        checker.check(forge())


@attack("G3", MALFORMED)
@pytest.mark.parametrize("place", ["alg", "kid"])
def test_nothing_outside_the_signature_of_a_cwt_chooses(
    checker: TokenChecker, verdict: Verdict, place: str
) -> None:
    """COSE has a header that nobody signs: algorithm and key may not stand in it."""
    token = ISSUED.cwt(execution_claims())
    protected, unprotected, payload, signature = cbor.decode(token[1:], max_bytes=4096)
    unprotected = {**unprotected, {"alg": 1, "kid": 4}[place]: -7 if place == "alg" else b"kid"}
    forged = b"\xd2" + cbor.encode([protected, unprotected, payload, signature])
    with verdict.refuses():
        checker.check(forged)


def repeated(member: str, value: str) -> bytes:
    """Return the claims with one member twice."""
    return GENUINE[:-1] + f', "{member}": {value}}}'.encode()


@attack("G6", MALFORMED)
@pytest.mark.parametrize(
    "payload",
    [
        repeated("aud", '"https://tools.example"'),
        repeated("exp", str(NOW + 10**6)),
        GENUINE.replace(str(NOW + LIFE).encode(), b"1e12"),
        GENUINE.replace(str(NOW + LIFE).encode(), f"{NOW + LIFE}.0".encode()),
        GENUINE.replace(str(NOW + LIFE).encode(), str(1 << 64).encode()),
        GENUINE.replace(str(NOW + LIFE).encode(), b"9" * 400),
        GENUINE.replace(str(NOW + LIFE).encode(), b"true"),
        GENUINE.replace(str(NOW + LIFE).encode(), b"NaN"),
        GENUINE.replace(str(NOW + LIFE).encode(), b"-1"),
        GENUINE + b"{}",
        b"[" * 4000,
        b"\xff\xfe" + GENUINE,
    ],
    ids=[
        "aud-twice", "exp-twice", "exponent", "fraction", "2^64", "400-digits", "boolean", "nan",
        "negative", "two-values", "deep", "bytes-before",
    ],
)  # fmt: skip
def test_claims_have_one_reading(checker: TokenChecker, verdict: Verdict, payload: bytes) -> None:
    """What two parsers would read differently is no token, though rightly signed."""
    with verdict.refuses():
        checker.check(signed_json(payload))


@attack("G6", MALFORMED)
@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text + "=",
        lambda text: text.replace("-", "+").replace("_", "/") + ("" if "-" in text else "+"),
        lambda text: text[:40] + "\n" + text[40:],
        lambda text: " " + text,
        lambda text: (
            text[:-1] + chr(ord(text[-1]) + 1)
            if len(text) % 4 and text[-1] in "AQgw"  # else all bits of the last one count
            else text + "!"
        ),
        lambda text: text + ".",
    ],
    ids=["padding", "alphabet", "newline", "blank", "last-bits", "fourth-part"],
)
@BOTH_FORMS
def test_a_token_has_one_spelling(
    checker: TokenChecker, verdict: Verdict, respell: Callable[[str], str], form: TokenFormat
) -> None:
    """Replay caches and lists of revoked tokens go by it."""
    token = text_token(form)
    spelt = respell(token)
    assert spelt != token
    with verdict.refuses():
        checker.check(spelt)


@attack("G6", MALFORMED)
@pytest.mark.parametrize("respell", ["key-twice", "long-integer", "indefinite", "unsorted"])
def test_evidence_has_one_spelling(
    new_attacker: NewAttacker, verdict: Verdict, respell: str
) -> None:
    """CBOR leaves many; only the deterministic one is read."""
    client = new_attacker()
    good = client.attest(full=True).encode()
    assert good.startswith(b"\xa7\x61v\x01")
    forged = {
        "key-twice": b"\xa8\x61v\x01\x61v\x01" + good[4:],
        "long-integer": b"\xa7\x61v\x18\x01" + good[4:],
        "indefinite": b"\xbf" + good[1:] + b"\xff",
        "unsorted": b"\xa7" + good[4:] + good[1:4],
    }
    verdict.refused(client.present(forged[respell]))
    verdict.accepted(client.present(good))


# -- G4, G11: what is granted to whom


@attack("G4", "request.confirmation-key.mismatch", "request.scope.mismatch")
def test_a_verdict_is_for_the_key_that_the_quote_names(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Key, scope, audience and encoding are covered by what the TPM signed."""
    client = new_attacker()
    good = client.attest()
    wish = good.leases[0]
    for changed, finding in (
        (replace(wish, confirmation=plain_key(99)), "request.confirmation-key.mismatch"),
        (replace(wish, scope=("repo:acme/x",)), "request.scope.mismatch"),
        (replace(wish, audience="https://elsewhere.example"), "request.scope.mismatch"),
        (replace(wish, encoding=TokenEncoding.JWT), "request.scope.mismatch"),
    ):
        verdict.refused(client.present(replace(good, leases=(changed,))), finding)
    more = replace(good, leases=(wish, replace(wish, confirmation=plain_key(99))))
    verdict.refused(client.present(more), "request.confirmation-key.mismatch")


@attack("G4", "certify.signature.invalid")
def test_a_key_that_another_tpm_certified_is_not_bound_to_this_one(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """The certificate over it is of another attestation key."""
    client, other = new_attacker(), new_attacker(enrolled=False)
    key = other.device.bound_key().certification
    client.leases = (LeaseRequest(("tool:search",), GRANTED_AUDIENCE, key),)
    verdict.refused(client.present(client.attest()))


@attack("G4", "quote.signature.invalid")
def test_evidence_of_one_node_gets_no_token_in_anothers_name(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Whose path it is sent to decides which key must have signed."""
    one, other = new_attacker(), new_attacker()
    verdict.refused(one.present(replace(other, node=one.node).attest(one.ask()), one.node))


@attack("G11", "policy.scope.denied")
def test_one_refused_wish_refuses_all(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """Leases are granted as they were asked for, or not at all."""
    client = new_attacker()
    client.leases = (default_lease(), default_lease(scope=("root:everything",)))
    verdict.refused(client.present(client.attest()))


@attack("G11", "request.scope.mismatch")
def test_nobody_else_says_what_a_node_can_do_without(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Whether a lease may be left out is part of what the AK signs."""
    client = new_attacker()
    wishes = (default_lease(), default_lease(scope=("root:everything",)))
    evidence = client.attest(leases=wishes)
    softened = (wishes[0], replace(wishes[1], optional=True))
    verdict.refused(client.present(replace(evidence, leases=softened)))


@attack("G11", "policy.scope.denied")
def test_what_may_be_left_out_brings_no_token(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """Asking politely for everything, and for nothing else, is refused."""
    client = new_attacker()
    client.leases = (replace(default_lease(scope=("root:everything",)), optional=True),)
    verdict.refused(client.present(client.attest()))


@attack("G11", "policy.leases.too-many")
def test_too_many_wishes_are_not_cut_to_size(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """More than policy grants at once."""
    client = new_attacker()
    client.leases = tuple(default_lease() for _ in range(17))
    verdict.refused(client.present(client.attest()))


@attack("G11", "clock.unsafe", "policy.audience.denied", "quote.signer.mismatch")
def test_one_refusing_finding_among_good_ones_refuses(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """And the refusal names all of them at once."""
    client = new_attacker()
    client.device.clock_info = replace(client.device.clock_info, safe=False)
    client.device.lie(qualified_signer=b"")
    client.leases = (default_lease(audience="https://elsewhere.example"),)
    verdict.refused(client.present(client.attest()))


# -- G5, G7, G8: the service


@pytest.fixture
def in_process(
    tmp_path: Path, local_ca: LocalCA, reference_file: bytes, good_boot: SimulatedBoot
) -> Iterator[tuple[AttestingClient, SQLStore]]:
    """A node enrolled at a verifier in this process, whose store a test can break."""
    keys = fresh_keys(ISSUER)
    store = SQLStore.open(tmp_path / "verifier.db", keys.ledger, keys.ledger.key.name)
    clock = SetClock(int(local_ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400)

    async def build() -> Any:
        service = await build_service(store, keys, ISSUER, clock=clock)
        await service.registry.add_roots(local_ca.roots_pem, author="operator:test")
        await service.registry.register_reference(reference_file, author="operator:test")
        await service.registry.activate_policy(POLICY.encode(), author="operator:test")
        return service

    app = build_app(asyncio.run(build()))
    with TestClient(app, raise_server_exceptions=False) as http:
        device = ForgingNode(local_ca, boot=good_boot)
        transport: Any = http
        client = AttestingClient(transport, device, (default_lease(),))
        client.enrol()
        yield client, store
    store.close()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(StoreUnavailableError("disk full"), marks=attack("G5", "problem:unavailable")),
        pytest.param(ZeroDivisionError("a defect"), marks=attack("G5", "problem:internal")),
        pytest.param(MalformedError("a defect"), marks=attack("G5", MALFORMED)),
    ],
    ids=["store", "defect", "malformed"],
)
def test_an_error_while_deciding_gives_no_token(
    in_process: tuple[AttestingClient, SQLStore],
    verdict: Verdict,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """A token leaves when its decision is stored, and not before; nor does the cause leave."""
    client, store = in_process
    evidence = client.attest()

    async def fail(_: DecisionCommit) -> Committed:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(store, "commit_decision", fail)
        answer = client.present(evidence)
    verdict.refused(answer)
    assert "disk full" not in answer.text
    verdict.accepted(client.present(evidence))


@attack("G7", "problem:unsupported-media-type")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br", "identity, gzip", "GZIP"])
def test_nothing_is_inflated(new_attacker: NewAttacker, verdict: Verdict, coding: str) -> None:
    """A bomb is refused by its header, and so is honest evidence that came compressed."""
    client = new_attacker()
    good = client.attest().encode()
    path = f"/v1/nodes/{client.node.hex()}/leases"
    headers = {
        "content-type": "application/vnd.bootlease.evidence+cbor",
        "content-encoding": coding,
    }
    for body in (gzip.compress(good), zlib.compress(bytes(10_000_000))):
        verdict.refused(client.http.post(path, content=body, headers=headers))


@attack("G7", "problem:too-large")
def test_a_body_is_refused_by_its_length(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """More than any evidence needs is not read; nor are more small items than it has."""
    client = new_attacker()
    verdict.refused(client.present(bytes(11 * 1024 * 1024)), "problem:too-large")
    items = 1_000_000
    verdict.refused(client.present(b"\x9a" + items.to_bytes(4, "big") + bytes(items)))


@attack("G8", "problem:too-many-requests")
def test_challenges_are_not_asked_for_without_end(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Who asks and never answers is told to wait; the node's lease is renewed all the same."""
    client = new_attacker()
    client.renew()
    path = f"/v1/nodes/{client.node.hex()}/challenges"
    answers = [client.http.post(path) for _ in range(12)]
    verdict.refused(answers[-1])
    assert int(answers[-1].headers["retry-after"]) > 0
    assert sum(answer.is_success for answer in answers) <= 6
    assert client.renew().sequence == 1


@attack("G8", "problem:too-many-requests")
def test_enrolments_of_one_tpm_are_bounded(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """Each finished one writes a record."""
    client = new_attacker()
    for _ in range(6):
        answer = client.request_enrolment()
        if not answer.is_success:
            break
        client.activate(CredentialChallenge.parse(answer.content)).raise_for_status()
    verdict.refused(answer)


@attack("G8", "node.unknown")
def test_a_stranger_makes_no_challenges(http: httpx2.Client, verdict: Verdict) -> None:
    """For a node that is not enrolled there is nothing to keep."""
    verdict.refused(http.post(f"/v1/nodes/{'11' * 32}/challenges"), "node.unknown")
