"""The holder's and the child's side of a delegation, without a verifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs

import httpx2
import pytest

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.model import Effect
from bootlease.relyingparty import StaticKeys
from bootlease.relyingparty.exchange import (
    ACCESS_TOKEN,
    GRANT_TYPE,
    JWT,
    MAX_ANSWER,
    DelegatedToken,
    TokenExchange,
    grant_child,
)
from bootlease.testing.chains import KEYS, narrowed, pass_on, root_claims, trusting
from bootlease.testing.tokens import AUDIENCE, ISSUER, LIFE, NOW, FakeIssuer
from bootlease.token import (
    ExecutionClaims,
    TokenFormat,
    base64url,
    verify_proof,
    verify_token,
)
from bootlease.token.child import child_claims
from bootlease.token.delegation import holding_of
from bootlease.token.grants import parse_grant

ISSUED: Final = FakeIssuer()
ROOT: Final = root_claims()
PARENT: Final = base64url.encode(ISSUED.cwt(ROOT))
FINDING: Final = {"id": "x.y", "effect": "refuses", "message": "m"}


def clock() -> float:
    """When everything happens."""
    return float(NOW)


def granted(**changes: Any) -> str:
    """Return a grant of the root to the first key."""
    return grant_child(PARENT, KEYS[0], KEYS[1].public, clock=clock, **changes)


def child_of(grant: str) -> ExecutionClaims:
    """Return what a verifier gives for a grant."""
    return child_claims(
        ROOT,
        trusting(grant),
        KEYS[1].public,
        lease_id=b"l" * 12 + bytes(4),
        decision=bytes(32),
        verifier=ROOT.verifier,
        now=NOW,
    )


Handler = Callable[[httpx2.Request], httpx2.Response]


def exchange(handler: Handler, grant: str, **changes: Any) -> DelegatedToken:
    """Exchange a grant with an endpoint of the test's own."""
    client = httpx2.Client(transport=httpx2.MockTransport(handler))
    endpoint = TokenExchange(ISSUER, StaticKeys(ISSUED.keys), client=client, clock=clock)
    members: dict[str, Any] = {"parent": PARENT, "grant": grant, "signer": KEYS[1]}
    return endpoint.exchange(**members | changes)


def answering(status: int = 200, **changes: Any) -> Handler:
    """Answer with the child of the grant that was sent, or with something else."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent = parse_qs(request.content.decode())
        token = base64url.encode(ISSUED.cwt(child_of(sent["bootlease_grant"][0])))
        members = {"access_token": token, "token_type": "DPoP"}
        return httpx2.Response(status, content=json.dumps(members | changes).encode())

    return answer


def test_a_grant_passes_on_all_or_some() -> None:
    """Everything that the lease holds, for as long as it lives, and no further; or what is said."""
    whole = parse_grant(granted())
    assert (whole.scope, whole.audience) == (ROOT.scope, AUDIENCE)
    assert (whole.expires_at, whole.depth) == (NOW + LIFE, 0)
    assert whole.parent == ROOT.digest
    some = parse_grant(granted(scope=("tools:read",), expires_in=9, depth=2))
    assert (some.scope, some.expires_at, some.depth) == (("tools:read",), NOW + 9, 2)
    assert some.jti != whole.jti
    by_print = grant_child(PARENT, KEYS[0], KEYS[1].public.thumbprint(), clock=clock)
    assert parse_grant(by_print).thumbprint == whole.thumbprint
    child = pass_on(ROOT, narrowed(ROOT, 1), KEYS[0])
    further = grant_child(ISSUED.jwt(child), KEYS[1], KEYS[2].public, clock=clock)
    assert parse_grant(further).parent == holding_of(child).head


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"scope": ("x:y",)}, "delegation.scope.wider"),
        ({"expires_in": LIFE + 1}, "delegation.expires.later"),
    ],
)
def test_what_would_be_refused_is_said_at_once(changes: dict[str, Any], finding: str) -> None:
    """To whoever can mend it, before anything is sent."""
    with pytest.raises(VerificationError) as raised:
        granted(**changes)
    assert [each.id for each in raised.value.findings] == [finding]


def test_only_the_holder_grants() -> None:
    """Another key's grant is not even made."""
    with pytest.raises(VerificationError) as raised:
        grant_child(PARENT, KEYS[5], KEYS[1].public, clock=clock)
    assert raised.value.findings[0].id == "delegation.key.mismatch"


@pytest.mark.parametrize("form", [None, TokenFormat.JWT])
def test_the_request_is_a_token_exchange(form: TokenFormat | None) -> None:
    """RFC 8693 §2.1, and a proof for this endpoint by the key granted to."""
    sent: list[httpx2.Request] = []
    grant = granted()

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return answering()(request)

    given = exchange(answer, grant, form=form)
    (request,) = sent
    assert (request.method, str(request.url)) == ("POST", f"{ISSUER}/v1/token")
    members = {name: value[0] for name, value in parse_qs(request.content.decode()).items()}
    wanted = {"requested_token_type": JWT} if form else {}
    assert members == {
        "grant_type": GRANT_TYPE,
        "subject_token": PARENT,
        "subject_token_type": ACCESS_TOKEN,
        "bootlease_grant": grant,
        **wanted,
    }
    verify_proof(
        request.headers["dpop"],
        confirmation=KEYS[1].public,
        htm="POST",
        htu=f"{ISSUER}/v1/token",
        access_token=None,
        now=NOW,
    )
    assert (given.claims, given.receipt) == (child_of(grant), None)
    assert given.format is TokenFormat.CWT


@pytest.mark.parametrize(
    ("parent", "text", "kind"),
    [
        (PARENT, PARENT, ACCESS_TOKEN),
        (base64url.decode(PARENT), PARENT, ACCESS_TOKEN),
        (ISSUED.jwt(ROOT), "", JWT),
    ],
    ids=["text", "bytes", "JWT"],
)
def test_the_parent_is_sent_as_what_it_is(parent: bytes | str, text: str, kind: str) -> None:
    """A CWT as base64url text, a JWT as it stands."""
    sent: list[dict[str, list[str]]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(parse_qs(request.content.decode()))
        return answering()(request)

    given = exchange(answer, granted(), parent=parent)
    (members,) = sent
    assert members["subject_token"] == [text or parent]
    assert members["subject_token_type"] == [kind]
    assert (
        verify_token(given.text, ISSUED.keys, now=NOW, issuer=ISSUER, audience=AUDIENCE).claims
        == given.claims
    )


def test_a_receipt_comes_along() -> None:
    """Beside a JWT."""
    assert exchange(answering(bootlease_receipt="proof"), granted()).receipt == "proof"


def test_what_is_given_is_verified() -> None:
    """Signature, key and chain: nothing is the child's that a relying party would refuse."""
    grant = granted()
    stranger = base64url.encode(FakeIssuer(99).cwt(child_of(grant)))
    with pytest.raises(VerificationError) as raised:
        exchange(answering(access_token=stranger), grant)
    assert raised.value.findings[0].id == "token.key.unknown"
    with pytest.raises(VerificationError) as raised:
        exchange(answering(access_token=PARENT), grant)
    assert raised.value.findings[0].id == "exchange.key.mismatch"


def test_a_token_whose_chain_does_not_hold_is_not_taken() -> None:
    """Though the verifier signed it."""
    grant = granted()
    wider = replace(child_of(grant), scope=("x:y",))
    token = base64url.encode(ISSUED.cwt(wider))
    with pytest.raises(VerificationError) as raised:
        exchange(answering(access_token=token), grant)
    assert raised.value.findings[0].id == "delegation.end.mismatch"


def test_a_refusal_is_told_in_its_findings() -> None:
    """Or, where there is none, in the error's own words; on one line, whatever it says."""
    finding = {"id": "delegation.grant.used", "effect": "refuses", "message": "a\nb", "seen": "x"}
    with pytest.raises(VerificationError) as raised:
        exchange(answering(400, error="invalid_grant", findings=[finding]), granted())
    (told,) = raised.value.findings
    assert (told.id, told.effect, told.expected, told.seen) == (
        *("delegation.grant.used", Effect.REFUSES),
        *(None, "x"),
    )
    assert "\n" not in told.message
    with pytest.raises(VerificationError) as raised:
        exchange(answering(400, error="invalid_request", error_description="no"), granted())
    (told,) = raised.value.findings
    assert (told.id, told.seen) == ("exchange.refused", "invalid_request")
    assert "no." in told.message
    with pytest.raises(VerificationError, match=r"refuses the exchange: invalid_target\."):
        exchange(answering(400, error="invalid_target"), granted())


def test_a_refusal_in_words_alone_is_told_on_one_line() -> None:
    """They are shown to people at terminals, and are not ours."""
    said = {"error": "a\x1b[2J", "error_description": "b\nc"}
    with pytest.raises(VerificationError) as raised:
        exchange(answering(400, **said), granted())
    (told,) = raised.value.findings
    assert (told.message, told.seen) == ("The verifier refuses the exchange: b?c.", "a?[2J")


def test_what_was_expected_is_told() -> None:
    """It is what helps."""
    finding = {**FINDING, "expected": "that", "seen": "this"}
    with pytest.raises(VerificationError) as raised:
        exchange(answering(400, error="invalid_grant", findings=[finding]), granted())
    (told,) = raised.value.findings
    assert (told.expected, told.seen) == ("that", "this")


@pytest.mark.parametrize(
    "said",
    [
        {"findings": {}},
        {"findings": [FINDING, {}]},
        {"findings": [{**FINDING, "expected": 7}]},
        {"findings": [{name: FINDING[name] for name in ("id", "message")}]},
        {"findings": [FINDING] * 257},
        {"findings": [FINDING], "error": 7, "error_description": "no"},
        {"error_description": 7},
    ],
)
def test_a_refusal_that_cannot_be_read_is_no_finding(said: dict[str, Any]) -> None:
    """Nothing is made up from what is there in part."""
    with pytest.raises(TransportError, match="no known reason"):
        exchange(answering(400, **{"error": "invalid_grant"} | said), granted())


def test_a_verifier_may_find_much() -> None:
    """As much as an agent reads of it."""
    findings = [{**FINDING, "id": f"x.{number}"} for number in range(256)]
    with pytest.raises(VerificationError) as raised:
        exchange(answering(400, error="invalid_grant", findings=findings), granted())
    assert len(raised.value.findings) == 256


def test_an_answer_comes_in_pieces() -> None:
    """And may be as long as it may be."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = answering()(request).content
        body += b" " * (MAX_ANSWER - len(body))
        return httpx2.Response(
            200, content=(body[at : at + 999] for at in range(0, len(body), 999))
        )

    assert exchange(answer, granted()).claims.confirmation == KEYS[1].public


@pytest.mark.parametrize(
    "handler",
    [
        answering(500),
        answering(500, error="invalid_grant"),
        answering(429, detail="wait"),
        answering(400),
        answering(302),
        answering(token_type="Bearer"),
        answering(access_token=7),
        answering(bootlease_receipt=7),
        lambda _: httpx2.Response(200, content=b"no JSON"),
        lambda _: httpx2.Response(200, content=b"[]"),
        lambda _: httpx2.Response(200, content=b" " * (MAX_ANSWER + 1)),
        lambda each: httpx2.Response(200, content=answering()(each).content + b" " * MAX_ANSWER),
    ],
)
def test_another_answer_is_none(handler: Handler) -> None:
    """Whatever the endpoint says that is no token and no refusal."""
    with pytest.raises(TransportError):
        exchange(handler, granted())


@pytest.mark.parametrize(
    ("detail", "told"), [("x" * 600, "x" * 512), ("a\nb", "a?b"), (7, ""), (None, "")]
)
def test_what_an_error_says_is_told_on_one_line(detail: object, told: str) -> None:
    """It is not ours: cut, without control characters, and nothing where it is no text."""
    with pytest.raises(TransportError) as raised:
        exchange(answering(500, detail=detail), granted())
    assert str(raised.value).endswith(f"answered 500: {told}")


def test_nobody_answers() -> None:
    """The network's fault is neither side's."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("gone", request=request)

    with pytest.raises(TransportError, match="gone"):
        exchange(fail, granted())


def test_what_has_not_its_form_is_not_sent() -> None:
    """Neither a grant nor a token that is none; and nothing to a place without TLS."""
    for changes in ({"grant": "x"}, {"parent": "x"}):
        with pytest.raises(MalformedError):
            exchange(answering(), **{"grant": granted()} | changes)
    with pytest.raises(ValueError, match="https"):
        TokenExchange("http://verifier.example", StaticKeys(ISSUED.keys))
