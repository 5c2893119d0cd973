"""Security event tokens: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.keys import event_signer
from bootlease.testing.tokens import fixed_signer
from bootlease.token import PrivateKeySigner, base64url, strictjson
from bootlease.token.caep import (
    CAEP,
    DEVICE_COMPLIANCE_CHANGE,
    MAX_REASON,
    MAX_TEXT,
    MAX_TIME,
    SESSION_REVOKED,
    SSF,
    STREAM_UPDATED,
    TOKEN_CLAIMS_CHANGE,
    VERIFICATION,
    Cause,
    Compliance,
    DeviceComplianceChange,
    Event,
    Initiator,
    IssuerSubject,
    SessionRevoked,
    SessionSubject,
    StreamSubject,
    StreamUpdated,
    Subject,
    TokenClaimsChange,
    Verification,
    event_wire,
)
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.jws import encode_header, sign_compact
from bootlease.token.secevent import (
    MAX_SET,
    SET_TYP,
    SecurityEvent,
    parse_set,
    sign_document,
    sign_set,
    verify_set,
)

ISSUER, AUDIENCE = "https://verifier.example", "https://tools.example"
SIGNER = event_signer()
KEYS = EventKeySet((EventKey(SIGNER.public),))
NODE, LEASE, ROOT = b"\x01" * 32, b"\x02" * 16, b"\x03" * 32
WHY = Cause(1_900_000_000, Initiator.ADMIN, "stolen")
REVOKED = SecurityEvent(
    issuer=ISSUER,
    audience=AUDIENCE,
    jti="a" * 32,
    issued_at=1_900_000_001,
    subject=SessionSubject(NODE, lease=LEASE),
    event=SessionRevoked(WHY),
    transaction="txn-1",
)

digests = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
names = texts.filter(bool)
times = st.integers(0, MAX_TIME)
causes = st.builds(Cause, times, st.sampled_from(Initiator), texts)
claims = st.dictionaries(
    names,
    texts | times | st.dictionaries(names, texts | times, min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(SessionRevoked, causes),
    st.builds(DeviceComplianceChange, causes, st.sampled_from(Compliance)),
    st.builds(TokenClaimsChange, causes, claims),
    st.builds(Verification, st.none() | texts),
    st.builds(StreamUpdated, st.none() | texts),
)
subjects: st.SearchStrategy[Subject] = st.one_of(
    st.builds(SessionSubject, digests),
    st.builds(SessionSubject, st.none() | digests, lease=st.binary(min_size=16, max_size=16)),
    st.builds(SessionSubject, st.none() | digests, lineage=digests),
    st.just(IssuerSubject()),
    st.builds(StreamSubject, st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
)
contents = st.builds(
    SecurityEvent,
    issuer=names,
    audience=names,
    jti=st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True),
    issued_at=times,
    subject=subjects,
    event=events,
    transaction=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def unsigned(members: object, **header: Any) -> str:
    """A SET whose signature is nothing."""
    head = encode_header({"alg": "RS256", "kid": SIGNER.key_id, "typ": SET_TYP, **header})
    return f"{head}.{base64url.encode(strictjson.serialise(members))}.AA"


def verify(text: str, **changes: Any) -> SecurityEvent:
    """Verify as the receiver."""
    expected: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, **changes}
    return verify_set(text, expected.pop("keys", KEYS), **expected).content


def refusal(text: str, **changes: Any) -> list[str]:
    """Ids of the findings of what is refused."""
    with pytest.raises(VerificationError) as caught:
        verify(text, **changes)
    return [finding.id for finding in caught.value.findings]


@given(contents)
def test_what_is_written_is_read(content: SecurityEvent) -> None:
    """Whatever is said comes out again."""
    assert parse_set(unsigned(content.members())) == content


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_malformed(text: str) -> None:
    """Parse, or MalformedError, never any other."""
    try:
        parse_set(text)
    except MalformedError:
        return


@given(st.data())
def test_any_member_in_the_place_of_another_is_read_or_malformed(data: st.DataObject) -> None:
    """One member of a good SET, at whatever depth, is replaced by anything or left out."""
    members: Any = data.draw(contents).members()
    place: Any = members
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or not place[name] or data.draw(st.booleans()):
            break
        place = place[name]
    if data.draw(st.booleans()):
        del place[name]
    else:
        place[name] = data.draw(json_values)
    try:
        parse_set(unsigned(members))
    except MalformedError:
        return


def test_the_wire_is_that_of_the_specifications() -> None:
    """RFC 8417, RFC 9493 and CAEP, member by member."""
    assert REVOKED.members() == {
        "iss": ISSUER,
        "jti": "a" * 32,
        "iat": 1_900_000_001,
        "aud": AUDIENCE,
        "txn": "txn-1",
        "sub_id": {
            "format": "complex",
            "device": {"format": "iss_sub", "iss": ISSUER, "sub": NODE.hex()},
            "session": {"format": "opaque", "id": "lease:" + base64url.encode(LEASE)},
        },
        "events": {
            "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {
                "event_timestamp": 1_900_000_000,
                "initiating_entity": "admin",
                "reason_admin": {"en": "stolen"},
            }
        },
    }


@pytest.mark.parametrize(
    ("event", "kind", "members"),
    [
        (
            DeviceComplianceChange(WHY, Compliance.NOT_COMPLIANT),
            f"{CAEP}device-compliance-change",
            {"previous_status": "compliant", "current_status": "not-compliant"},
        ),
        (
            DeviceComplianceChange(WHY, Compliance.COMPLIANT),
            f"{CAEP}device-compliance-change",
            {"previous_status": "not-compliant", "current_status": "compliant"},
        ),
        (
            TokenClaimsChange(WHY, {"bootlease_policy": {"epoch": 2}}),
            f"{CAEP}token-claims-change",
            {"claims": {"bootlease_policy": {"epoch": 2}}},
        ),
        (Verification("x"), f"{SSF}verification", {"state": "x"}),
        (Verification(), f"{SSF}verification", {}),
        (
            StreamUpdated("overflow"),
            f"{SSF}stream-updated",
            {"status": "enabled", "reason": "overflow"},
        ),
    ],
)
def test_each_event_has_its_members(event: Event, kind: str, members: dict[str, Any]) -> None:
    """Type and members, beside what every CAEP event says."""
    content = SecurityEvent(ISSUER, AUDIENCE, "a" * 16, 1, IssuerSubject(), event)
    ((written, body),) = content.members()["events"].items()
    assert written == kind
    assert {name: body[name] for name in members} == members
    assert body.keys() - members.keys() in (
        set(),
        {"event_timestamp", "initiating_entity", "reason_admin"},
    )


@pytest.mark.parametrize(
    ("subject", "wire"),
    [
        (
            SessionSubject(NODE),
            {
                "format": "complex",
                "device": {"format": "iss_sub", "iss": ISSUER, "sub": NODE.hex()},
            },
        ),
        (
            SessionSubject(None, lineage=ROOT),
            {
                "format": "complex",
                "session": {"format": "opaque", "id": "lineage:" + base64url.encode(ROOT)},
            },
        ),
        (
            SessionSubject(None, lease=LEASE),
            {
                "format": "complex",
                "session": {"format": "opaque", "id": "lease:" + base64url.encode(LEASE)},
            },
        ),
        (IssuerSubject(), {"format": "complex", "tenant": {"format": "uri", "uri": ISSUER}}),
        (StreamSubject("a" * 32), {"format": "opaque", "id": "a" * 32}),
    ],
)
def test_each_subject_has_its_format(subject: Subject, wire: dict[str, Any]) -> None:
    """RFC 9493 §3.2, and the complex subjects of SSF §3.2."""
    assert subject.wire(ISSUER) == wire


def test_a_signed_event_is_believed() -> None:
    """The one whole path; the header says what it is."""
    text = sign_set(REVOKED, SIGNER)
    assert verify(text) == REVOKED
    header = json.loads(base64url.decode(text.partition(".")[0]))
    assert header == {"alg": "RS256", "kid": SIGNER.key_id, "typ": "secevent+jwt"}
    assert sign_document(REVOKED.encode(), SIGNER) == text, "a repetition is the same bytes"
    assert verify_set(text, KEYS, issuer=ISSUER, audience=AUDIENCE).key_id == SIGNER.key_id


def test_an_event_of_another_type_is_refused() -> None:
    """An execution token, or anything else of the same key, is no event."""
    header = encode_header({"alg": "RS256", "kid": SIGNER.key_id, "typ": "JWT"})
    text = sign_compact(header, REVOKED.encode(), SIGNER)
    assert refusal(text) == ["set.typ.mismatch"]


def test_an_event_by_an_unknown_key_is_refused() -> None:
    """Whoever made a key of their own is nobody."""
    other = PrivateKeySigner(rsa.generate_private_key(65537, 2048))
    assert refusal(sign_set(REVOKED, other)) == ["set.key.unknown"]


def test_the_algorithm_is_the_keys() -> None:
    """What the header says is compared, and never obeyed."""
    header = encode_header({"alg": "none", "kid": SIGNER.key_id, "typ": SET_TYP})
    text = sign_compact(header, REVOKED.encode(), SIGNER)
    assert refusal(text) == ["set.algorithm.mismatch"]


def test_a_changed_event_is_refused() -> None:
    """The signature covers all of it."""
    header, _, signature = sign_set(REVOKED, SIGNER).split(".")
    payload = base64url.encode(REVOKED.encode().replace(b"stolen", b"sto1en"))
    assert refusal(f"{header}.{payload}.{signature}") == ["set.signature.invalid"]


def test_an_event_of_another_verifier_is_refused() -> None:
    """Two verifiers that share keys by mistake do not speak for each other."""
    text = sign_set(REVOKED, SIGNER)
    assert refusal(text, issuer="https://other.example") == ["set.issuer.mismatch"]


def test_an_event_for_another_receiver_is_refused() -> None:
    """Whoever receives events cannot pass them on as if they were for another."""
    text = sign_set(REVOKED, SIGNER)
    assert refusal(text, audience="https://other.example") == ["set.audience.mismatch"]


def test_only_event_keys_sign_events() -> None:
    """A token key neither signs one nor stands in a set of event keys."""
    token_key = fixed_signer(7)
    with pytest.raises(ValueError, match="RS256"):
        sign_set(REVOKED, token_key)
    with pytest.raises(ValueError, match="RSA"):
        EventKey(token_key.public)


def changed(**members: Any) -> str:
    """A good SET with other members; None leaves one out."""
    claims: dict[str, Any] = {**REVOKED.members(), **members}
    return unsigned({name: value for name, value in claims.items() if value is not None})


EVENT: dict[str, Any] = REVOKED.members()["events"][SESSION_REVOKED]
DEVICE: dict[str, Any] = REVOKED.members()["sub_id"]["device"]


def event(kind: str, **members: Any) -> str:
    """A SET of another event; None leaves a member out."""
    body = {**EVENT, **members}
    return changed(events={kind: {key: value for key, value in body.items() if value is not None}})


def subject(**members: Any) -> str:
    """A SET about another subject."""
    return changed(sub_id={"format": "complex", **members})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (changed(sub="x"), "sub or exp"),
        (changed(exp=1_900_000_100), "sub or exp"),
        (changed(iss=None), "issuer"),
        (changed(iss=""), "issuer"),
        (changed(iss="x" * 513), "issuer"),
        (changed(jti=None), "jti"),
        (changed(jti="short"), "jti"),
        (changed(jti="a" * 65), "jti"),
        (changed(jti="a" * 15 + "é"), "jti"),
        (changed(iat=None), "iat"),
        (changed(iat=-1), "iat"),
        (changed(iat=MAX_TIME + 1), "iat"),
        (changed(iat=True), "iat"),
        (changed(aud=None), "receiver"),
        (changed(aud=["a", "b"]), "receiver"),
        (changed(aud=[]), "receiver"),
        (changed(aud=""), "audience"),
        (changed(aud="x" * 513), "audience"),
        (changed(txn="x" * 65), "txn"),
        (changed(txn=7), "txn"),
        (changed(events=None), "one event"),
        (changed(events={}), "one event"),
        (changed(events={SESSION_REVOKED: EVENT, VERIFICATION: {}}), "one event"),
        (changed(events={f"{CAEP}credential-change": EVENT}), "type that is not known"),
        (changed(events={SESSION_REVOKED: []}), "not an object"),
        (changed(sub_id=None), "subject"),
        (subject(), "a subject is"),
        (subject(device={**DEVICE, "iss": "https://other.example"}), "not known"),
        (subject(device={**DEVICE, "format": "opaque"}), "not known"),
        (subject(device={**DEVICE, "sub": "AB" * 32}), "a subject is"),
        (subject(device={**DEVICE, "sub": "ab" * 31}), "a subject is"),
        (subject(device=DEVICE, user=DEVICE), "not known"),
        (subject(device=DEVICE, session={"format": "opaque", "id": "x"}), "not known"),
        (subject(device=DEVICE, session={"format": "opaque", "id": "lease:AA"}), "16 bytes"),
        (subject(device=DEVICE, session={"format": "opaque", "id": "lineage:AA"}), "32 bytes"),
        (subject(device=DEVICE, session={"format": "opaque", "id": "lease:=="}), "base64url"),
        (subject(tenant={"format": "uri", "uri": "https://other.example"}), "not known"),
        (changed(sub_id={"format": "opaque", "id": "x"}), "32 hex digits"),
        (changed(sub_id={"format": "opaque", "id": "a" * 32, "more": 1}), "not known"),
        (event(SESSION_REVOKED, event_timestamp=None), "happened"),
        (event(SESSION_REVOKED, event_timestamp=-1), "happened"),
        (event(SESSION_REVOKED, event_timestamp=MAX_TIME + 1), "happened"),
        (event(SESSION_REVOKED, event_timestamp=True), "happened"),
        (event(SESSION_REVOKED, initiating_entity="root"), "Initiator"),
        (event(SESSION_REVOKED, initiating_entity=["admin"]), "Initiator"),
        (event(SESSION_REVOKED, reason_admin=None), "reason"),
        (event(SESSION_REVOKED, reason_admin={"de": "gestohlen"}), "reason"),
        (event(SESSION_REVOKED, reason_admin={"en": 7}), "reason"),
        (event(SESSION_REVOKED, reason_admin={"en": "x" * (MAX_REASON + 1)}), "reason"),
        (event(SESSION_REVOKED, more=1), "members that are not known"),
        (event(DEVICE_COMPLIANCE_CHANGE, current_status="compliant"), "Compliance"),
        (
            event(
                DEVICE_COMPLIANCE_CHANGE, current_status="compliant", previous_status="compliant"
            ),
            "did not change",
        ),
        (
            event(
                DEVICE_COMPLIANCE_CHANGE,
                current_status="compliant",
                previous_status="not-compliant",
                more=1,
            ),
            "members that are not known",
        ),
        (event(TOKEN_CLAIMS_CHANGE), "claims are missing"),
        (event(TOKEN_CLAIMS_CHANGE, claims=[]), "claims are missing"),
        (event(TOKEN_CLAIMS_CHANGE, claims={}), "1 to 16 claims"),
        (
            event(TOKEN_CLAIMS_CHANGE, claims={str(number): 1 for number in range(17)}),
            "1 to 16 claims",
        ),
        (event(TOKEN_CLAIMS_CHANGE, claims={"": 1}), "has a name"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"x" * (MAX_TEXT + 1): 1}), "has a name"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"a": "x" * (MAX_TEXT + 1)}), "text or an integer"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"a": True}), "text or an integer"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"a": MAX_TIME + 1}), "53 bits"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"a": {"b": {"c": 1}}}), "text or an integer"),
        (event(TOKEN_CLAIMS_CHANGE, claims={"a": 1}, more=1), "members that are not known"),
        (changed(events={VERIFICATION: {"state": 7}}), "text of at most"),
        (changed(events={VERIFICATION: {"state": "x" * (MAX_TEXT + 1)}}), "text of at most"),
        (changed(events={VERIFICATION: {"more": 1}}), "members that are not known"),
        (changed(events={STREAM_UPDATED: {}}), "status"),
        (changed(events={STREAM_UPDATED: {"status": "paused"}}), "status"),
        (changed(events={STREAM_UPDATED: {"status": "enabled", "reason": 7}}), "text of at most"),
        (
            changed(events={STREAM_UPDATED: {"status": "enabled", "more": 7}}),
            "members that are not known",
        ),
        (unsigned([]), "not an object"),
        (unsigned(REVOKED.members(), crit=["x"]), "critical"),
        ("a" * (MAX_SET + 1), "longer than"),
    ],
)
def test_what_this_verifier_never_writes_is_malformed(text: str, expected: str) -> None:
    """Each is a good SET but for one thing."""
    with pytest.raises(MalformedError, match=expected):
        parse_set(text)


def test_an_event_without_a_cause_names_none() -> None:
    """A member that is null would be one that says nothing."""
    assert "txn" not in replace(REVOKED, transaction=None).members()


def test_an_audience_may_stand_in_an_array() -> None:
    """RFC 7519 §4.1.3: one receiver either way."""
    assert parse_set(changed(aud=[AUDIENCE])) == REVOKED


def test_members_that_mean_nothing_here_are_ignored() -> None:
    """RFC 8417 §2.2 lets a SET have more claims."""
    assert parse_set(changed(toe=5)) == REVOKED


@pytest.mark.parametrize(
    "make",
    [
        lambda: SessionSubject(None),
        lambda: SessionSubject(b"short"),
        lambda: SessionSubject(NODE, lease=b"short"),
        lambda: SessionSubject(NODE, lineage=b"short"),
        lambda: SessionSubject(NODE, lease=LEASE, lineage=ROOT),
        lambda: StreamSubject("A" * 32),
    ],
)
def test_nobody_makes_a_subject_that_could_not_be_read(make: Any) -> None:
    """Our own mistakes are found where they are made."""
    with pytest.raises(ValueError, match="a "):
        make()


def test_the_claims_of_an_event_do_not_change() -> None:
    """Neither by whoever made it nor by whoever was handed it."""
    given_claims: dict[str, Any] = {"a": {"b": 1}}
    change = TokenClaimsChange(WHY, given_claims)
    given_claims["a"]["b"] = 2
    assert change.claims["a"]["b"] == 1
    with pytest.raises(TypeError):
        change.claims["a"]["b"] = 3


@pytest.mark.parametrize(
    "text",
    [
        event(SESSION_REVOKED, event_timestamp=0),
        event(SESSION_REVOKED, event_timestamp=MAX_TIME),
        event(SESSION_REVOKED, reason_admin={"en": "x" * MAX_REASON}),
        event(SESSION_REVOKED, reason_admin={"en": ""}),
        event(TOKEN_CLAIMS_CHANGE, claims={str(number): 1 for number in range(16)}),
        event(TOKEN_CLAIMS_CHANGE, claims={"x" * MAX_TEXT: "x" * MAX_TEXT}),
        event(TOKEN_CLAIMS_CHANGE, claims={"a": MAX_TIME, "b": -MAX_TIME}),
        changed(events={VERIFICATION: {"state": "x" * MAX_TEXT}}),
        changed(iat=0),
        changed(iat=MAX_TIME),
        changed(aud="x" * 512),
        changed(iss="x" * 512, sub_id={"format": "opaque", "id": "a" * 32}),
        changed(jti="a" * 16),
        changed(jti="a" * 64),
        changed(txn="a" * 64),
    ],
)
def test_what_is_just_within_a_bound_is_read(text: str) -> None:
    """The bounds are where they are said to be."""
    assert parse_set(text)


def test_a_lineage_alone_is_a_subject() -> None:
    """Where its node is not known."""
    assert SessionSubject(None, lineage=bytes(32)).lineage == bytes(32)


def test_a_stream_says_a_reason_where_there_is_one() -> None:
    """And no empty one where there is none."""
    assert event_wire(StreamUpdated())[1] == {"status": "enabled"}
    assert event_wire(StreamUpdated("full"))[1] == {"status": "enabled", "reason": "full"}


def test_a_claim_that_changed_is_named_by_text() -> None:
    """Nothing else is a member of a JSON object."""
    with pytest.raises(ValueError, match="a claim has a name"):
        TokenClaimsChange(WHY, {b"name": 1})  # type: ignore[dict-item]  # that is the point
