"""The messages of the protocol: encoding, and what a parser must refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import (
    Activation,
    Binding,
    CertifiedKey,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
    Evidence,
    IMASegment,
    IssuedLease,
    LeaseAnswer,
    LeaseRequest,
    PlainKey,
    TokenEncoding,
    confirmation_digest,
    parse_evidence,
    scope_digest,
)
from bootlease.evidence.binding import parse_binding
from bootlease.evidence.document import MAX_EVIDENCE, _cut_pcrs, _parse_pcrs
from bootlease.evidence.document import _parse_any as parse_any_evidence
from bootlease.evidence.enrolment import node_id
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import parse_lease_request
from bootlease.evidence.segment import MAX_ENTRIES
from bootlease.model import PCR_COUNT, HashAlg

digests = st.binary(min_size=32, max_size=32)
times = st.integers(0, 1 << 40)
scope_names = st.from_regex(r"\A[a-z0-9:/._-]{1,20}([:/]\*)?\Z")
confirmations = st.one_of(
    st.builds(PlainKey, st.binary(min_size=1, max_size=100)),
    st.builds(CertifiedKey, *[st.binary(min_size=1, max_size=100)] * 3),
)
leases = st.builds(
    LeaseRequest,
    scope=st.lists(scope_names, min_size=1, max_size=4, unique=True).map(tuple),
    audience=st.text(min_size=1, max_size=40),
    confirmation=confirmations,
    encoding=st.sampled_from(TokenEncoding),
    level=st.none() | st.integers(0, 3),
    optional=st.booleans(),
)
bindings = st.builds(
    Binding,
    nonce=digests,
    previous=st.none() | digests,
    scope=digests,
    confirmation=digests,
    logs=st.dictionaries(st.just("tcg"), digests),
)
pcr_values = st.dictionaries(
    st.sampled_from([HashAlg.SHA256, HashAlg.SHA1]), st.sets(st.integers(0, 23), max_size=5)
).map(lambda banks: {alg: {i: bytes(alg.size) for i in sorted(s)} for alg, s in banks.items()})
challenges = st.builds(
    Challenge,
    nonce=digests,
    node=digests,
    issued_at=times,
    expires_at=times,
    pcrs=st.just({HashAlg.SHA256: (0, 4, 7)}),
    ima=st.none() | st.integers(0, MAX_ENTRIES),
)
firsts = st.sampled_from([0, 23, 24, 255, 256, 65_535, 65_536, MAX_ENTRIES])
segments = st.none() | st.builds(IMASegment, firsts, digests)


@st.composite
def documents(draw: st.DrawFn) -> Evidence:
    """Evidence of the right form, bound to nothing."""
    encoded = draw(bindings).encode()
    ima = draw(segments)
    logs = draw(st.dictionaries(st.just("tcg"), st.binary(max_size=300)))
    if ima is not None and draw(st.booleans()):
        logs["ima"] = draw(st.binary(min_size=1, max_size=300))
    return Evidence(
        binding=parse_binding(encoded),
        encoded_binding=encoded,
        leases=tuple(draw(st.lists(leases, min_size=1, max_size=3))),
        quote=draw(st.just(bytes(145)) | st.binary(max_size=200)),
        signature=draw(st.sampled_from([bytes(72), bytes(262)]) | st.binary(max_size=100)),
        pcrs=draw(pcr_values),
        logs=logs,
        ima=ima,
    )


@given(documents())
def test_evidence_survives_encoding(evidence: Evidence) -> None:
    """What a node encodes, a verifier reads back, member for member."""
    data = evidence.encode()
    again = parse_evidence(data)
    assert again.encode() == data
    assert (again.binding, again.leases, again.pcrs) == (
        evidence.binding,
        evidence.leases,
        evidence.pcrs,
    )
    assert (again.ima, again.logs) == (evidence.ima, evidence.logs)


def outcome(parse: Callable[[], object]) -> object:
    """Return what a parser makes of its input, or what it says is wrong with it."""
    try:
        return parse()
    except MalformedError as exc:
        return str(exc)


@st.composite
def tampered(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut, change, insert or leave bytes of an encoding."""
    at = draw(st.integers(0, len(whole)))
    removed = draw(st.integers(0, 3))
    return whole[:at] + draw(st.binary(max_size=3)) + whole[at + removed :]


@given(documents(), st.data())
def test_the_shortcut_reads_what_the_general_decoder_reads(
    evidence: Evidence, data: st.DataObject
) -> None:
    """Whatever the bytes, cutting a document at its names changes neither values nor refusals."""
    document = data.draw(tampered(evidence.encode()))
    general = outcome(lambda: parse_any_evidence(document, MAX_EVIDENCE))
    assert outcome(lambda: parse_evidence(document)) == general


def decoded_pcrs(member: bytes) -> object:
    """Return the PCR values that the general decoder finds in one member of a document."""
    return _parse_pcrs(Fields(cbor.decode(b"\xa1" + member, max_bytes=2048), "evidence"))


@given(st.permutations(range(PCR_COUNT)), st.integers(0, PCR_COUNT), st.data())
def test_the_pcr_values_that_are_cut_are_those_that_are_decoded(
    indices: list[int], count: int, data: st.DataObject
) -> None:
    """Whatever the bytes, values are cut as the general decoder reads them, or left to it."""
    chosen = indices[:count] if data.draw(st.booleans()) else sorted(indices[:count])
    head = b"\xb8\x18" if count == PCR_COUNT else bytes((0xA0 + count,))
    entries = [bytes((index, 0x58, 32)) + bytes((index + 1,)) * 32 for index in chosen]
    member = b"\x64pcrs\xa1\x0b" + head + b"".join(entries)
    cut = _cut_pcrs(member)
    assert (cut is None) == (chosen != sorted(chosen) or count in (0, PCR_COUNT))
    for each in (member, data.draw(tampered(member))):
        if (cut := _cut_pcrs(each)) is not None:
            assert cut == decoded_pcrs(each)


def test_the_usual_pcr_values_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of one SHA-256 bank, which nobody has seen, do not reach the general decoder."""
    usual = {"quote": bytes(145), "signature": bytes(72)}
    values = {11: {0: bytes(32), 7: b"unseen".ljust(32), 14: bytes(32)}}
    monkeypatch.setattr("bootlease.evidence.document._parse_pcrs", None)
    assert parse_evidence(evidence_map(pcrs=values, **usual)).pcrs == values


@given(documents())
def test_the_digests_of_what_is_asked_for_are_kept_right(evidence: Evidence) -> None:
    """Parsed or made by hand, evidence knows the digests of its own leases."""
    expected = scope_digest(evidence.leases), confirmation_digest(evidence.leases)
    parsed = parse_evidence(evidence.encode())
    assert evidence.request_digests() == parsed.request_digests() == expected
    other = dataclasses.replace(parsed, leases=(*parsed.leases, *parsed.leases))
    expected = scope_digest(other.leases), confirmation_digest(other.leases)
    assert other.request_digests() == expected


@pytest.mark.parametrize("name", [b"\x65quote\x41\x00", b"\x67binding\x41\x00", b"\x66leases"])
@pytest.mark.parametrize("member", ["logs", "pcrs", "quote", "leases", "signature"])
def test_a_name_inside_a_value_is_no_member(name: bytes, member: str) -> None:
    """A value that spells the next member's name is read as the value that it is."""
    changes: dict[str, Any] = {
        "logs": {"tcg": name},
        "pcrs": {11: {0: name.ljust(32, b"\0")}},
        "quote": name,
        "leases": [LEASE | {"cnf": {"key": name}}],
        "signature": name,
    }
    document = evidence_map(**{member: changes[member]})
    assert (
        cbor.decode(parse_evidence(document).encode(), max_bytes=MAX_EVIDENCE)[member]
        == (changes[member])
    )


def test_the_usual_documents_take_the_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal and a first document with one log never reach the general decoder."""
    digest = bytes(32)
    first = Binding(digest, None, digest, digest, {"tcg": digest})
    renewal = Binding(digest, digest, digest, digest, {"tcg": digest})
    usual = {"quote": bytes(145), "signature": bytes(72)}
    documents = [
        evidence_map(binding=first.encode(), logs={"tcg": bytes(300)}, **usual),
        evidence_map(binding=renewal.encode(), **usual),
        evidence_map(binding=renewal.encode(), **usual | {"signature": bytes(262)}),
    ]
    monkeypatch.setattr("bootlease.evidence.document._parse_any", None)
    assert [parse_evidence(each).binding for each in documents] == [first, renewal, renewal]


def test_the_usual_documents_with_an_ima_list_take_the_shortcut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With or without entries, neither they nor first documents reach the general decoder."""
    digest = bytes(32)
    binding = Binding(digest, digest, digest, digest, {"tcg": digest}).encode()
    usual = {"quote": bytes(145), "signature": bytes(72), "binding": binding, "ima": [9, digest]}
    carried: list[dict[str, bytes]] = [
        {},
        {"ima": b"entries"},
        {"tcg": bytes(300)},
        {"ima": bytes(300), "tcg": bytes(300)},
    ]
    documents = [evidence_map(logs=logs, **usual) for logs in carried]
    monkeypatch.setattr("bootlease.evidence.document._parse_any", None)
    parsed = [parse_evidence(each) for each in documents]
    assert [each.logs for each in parsed] == carried
    assert {each.ima for each in parsed} == {IMASegment(9, digest)}
    assert len({each.digest for each in parsed}) == 1


def test_what_documents_share_cannot_be_written_to() -> None:
    """PCR values that two documents share are read-only."""
    usual = {"quote": bytes(145), "signature": bytes(72)}
    first, second = (
        parse_evidence(evidence_map(leases=[LEASE | {"aud": name}], **usual)) for name in "ab"
    )
    assert first.pcrs is second.pcrs
    pcrs: Any = first.pcrs
    with pytest.raises(TypeError):
        pcrs[HashAlg.SHA256][0] = bytes(32)
    with pytest.raises(TypeError):
        pcrs[HashAlg.SHA256] = {}


@given(challenges, st.lists(digests, min_size=1, max_size=3), times)
def test_lease_answer_survives_encoding(
    challenge: Challenge, claims: list[bytes], expires_at: int
) -> None:
    """An answer with its next challenge reads back as it was written."""
    issued = tuple(
        IssuedLease(digest[:16], TokenEncoding.CWT, b"token", digest, expires_at)
        for digest in claims
    )
    answer = LeaseAnswer(claims[0], claims[0], 3, 120, 119, issued, challenge)
    assert LeaseAnswer.parse(answer.encode()) == answer
    assert Challenge.parse(challenge.encode()) == challenge


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.binary(max_size=50), max_size=6))
def test_enrolment_messages_survive_encoding(ek: bytes, ak: bytes, chain: list[bytes]) -> None:
    """Every message of enrolment reads back as it was written."""
    request = EnrolmentRequest(ek, ak, tuple(chain), "join-me")
    assert EnrolmentRequest.parse(request.encode()) == request
    without = EnrolmentRequest(ek, ak, tuple(chain))
    assert EnrolmentRequest.parse(without.encode()) == without
    credential = CredentialChallenge(bytes(32), ek, ak)
    assert CredentialChallenge.parse(credential.encode()) == credential
    assert Activation.parse(Activation(bytes(32)).encode()) == Activation(bytes(32))
    assert EnrolmentReceipt.parse(EnrolmentReceipt(bytes(32)).encode()).node == bytes(32)


PARSERS = [
    parse_evidence,
    parse_binding,
    Challenge.parse,
    LeaseAnswer.parse,
    EnrolmentRequest.parse,
    CredentialChallenge.parse,
    Activation.parse,
    EnrolmentReceipt.parse,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=200))
def test_parsers_raise_nothing_but_malformed_on_bytes(parse: Any, data: bytes) -> None:
    """Parse, or MalformedError, whatever the bytes."""
    with contextlib.suppress(MalformedError):
        parse(data)


@pytest.mark.parametrize("parse", PARSERS)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-9, 1 << 60) | st.binary() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["v", "binding", "leases", "pcrs", "logs", "nonce", "chain", "cnf", "type"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_parsers_raise_nothing_but_malformed_on_cbor(parse: Any, value: Any) -> None:
    """Parse, or MalformedError, whatever well-formed CBOR arrives."""
    with contextlib.suppress(MalformedError):
        parse(cbor.encode(value))


def evidence_map(**changes: Any) -> bytes:
    """Encode well-formed evidence with some members replaced; ``...`` removes one."""
    binding = Binding(bytes(32), None, bytes(32), bytes(32), {"tcg": bytes(32)})
    message: dict[str, Any] = {
        "v": 1,
        "binding": binding.encode(),
        "leases": [{"scope": ["tool:a"], "aud": "x", "cnf": {"key": b"k"}, "enc": "cwt"}],
        "quote": b"q",
        "signature": b"s",
        "pcrs": {11: {0: bytes(32)}},
        "logs": {},
    } | changes
    return cbor.encode({key: value for key, value in message.items() if value is not ...})


def test_the_evidence_that_the_refusals_start_from_is_accepted() -> None:
    """The unchanged document parses, so each refusal below has one reason."""
    assert parse_evidence(evidence_map()).leases[0].scope == ("tool:a",)


LEASE = {"scope": ["tool:a"], "aud": "x", "cnf": {"key": b"k"}, "enc": "cwt"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"v": 2}, "version 2"),
        ({"v": 0}, "version 0"),
        ({"v": True}, "another type"),
        ({"extra": 1}, "unknown members"),
        ({"quote": ...}, "lacks"),
        ({"quote": "text"}, "another type"),
        ({"quote": bytes(5000)}, "more than 4096"),
        ({"leases": []}, "no lease"),
        ({"leases": [LEASE] * 257}, "more than 256"),
        ({"leases": [LEASE | {"opt": False}]}, "goes without it"),
        ({"leases": [LEASE | {"opt": 1}]}, "another type"),
        ({"leases": [LEASE | {"opt": None}]}, "another type|lacks"),
        ({"leases": [LEASE | {"scope": []}]}, "scope"),
        ({"leases": [LEASE | {"scope": ["a b"]}]}, "'a b' is not a scope name"),
        ({"leases": [LEASE | {"scope": ["repo*"]}]}, "is not a scope name"),
        ({"leases": [LEASE | {"scope": ["a" * 129]}]}, "is not a scope name"),
        ({"leases": [LEASE | {"scope": ["a", 7]}]}, "scope name is not text"),
        ({"leases": [LEASE | {"scope": [["a"]]}]}, "scope name is not text"),
        ({"leases": [LEASE | {"scope": [f"a{i}" for i in range(33)]}]}, "more than 32"),
        ({"leases": [LEASE | {"scope": ["a", "a"]}]}, "repeats"),
        ({"leases": [LEASE | {"enc": "paseto"}]}, "unknown encoding"),
        ({"leases": [LEASE | {"cnf": {"key": b"k", "public": b"p"}}]}, "unknown members"),
        ({"leases": [LEASE | {"cnf": {}}]}, "lacks"),
        ({"leases": [LEASE | {"lvl": 4}]}, "0 to 3"),
        ({"leases": [LEASE | {"lvl": -1}]}, "0 to 3"),
        ({"leases": [LEASE | {"lvl": True}]}, "another type"),
        ({"leases": [LEASE | {"lvl": None}]}, "lacks"),
        ({"pcrs": {99: {0: bytes(32)}}}, "unknown bank"),
        ({"pcrs": {11: {24: bytes(32)}}}, "impossible PCR"),
        ({"pcrs": {11: {0: bytes(31)}}}, "needs 32 bytes"),
        ({"pcrs": {11: 5}}, "no map"),
        ({"logs": {"xyz": b""}}, "unknown kind"),
        ({"logs": {"tcg": 1}}, "needs bytes"),
        ({"logs": {"ima": b"entries"}}, "without naming its first entry"),
        ({"ima": [0, bytes(32)], "logs": {"ima": b""}}, "of no or over"),
        ({"ima": [0]}, "a number and a digest"),
        ({"ima": [0, bytes(32)] * 2}, "more than 2"),
        ({"ima": [-1, bytes(32)]}, "impossible entry"),
        ({"ima": [1 << 32, bytes(32)]}, "impossible entry"),
        ({"ima": [True, bytes(32)]}, "impossible entry"),
        ({"ima": [0, bytes(31)]}, "needs 32 bytes"),
        ({"ima": None}, "lacks the array"),
        ({"binding": b"\xa0"}, "lacks"),
    ],
)
def test_malformed_evidence_is_refused_for_its_reason(
    changes: dict[str, Any], complaint: str
) -> None:
    """Each deviation from the document's form is refused and named."""
    with pytest.raises(MalformedError, match=complaint):
        parse_evidence(evidence_map(**changes))


def test_evidence_over_the_limit_is_refused_before_it_is_decoded() -> None:
    """The size bound stands before the decoder."""
    with pytest.raises(MalformedError, match="at most 100"):
        parse_evidence(b"\xff" * 101, max_bytes=100)


@pytest.mark.parametrize(
    ("pcrs", "complaint"),
    [
        ({}, "no PCR"),
        ({11: []}, "1 to 24"),
        ({11: [7, 4]}, "in order"),
        ({11: [4, 4]}, "in order"),
        ({11: [24]}, "impossible"),
        ({77: [1]}, "unknown bank"),
    ],
)
def test_a_challenge_selects_real_pcrs_in_order(pcrs: dict[int, Any], complaint: str) -> None:
    """A selection that a TPM cannot answer, or answers in another order, is refused."""
    message = {"nonce": bytes(32), "node": bytes(32), "iat": 1, "exp": 2, "pcrs": pcrs}
    with pytest.raises(MalformedError, match=complaint):
        Challenge.parse(cbor.encode(message))


def request(**changes: Any) -> LeaseRequest:
    """Return one lease request."""
    members: dict[str, Any] = {
        "scope": ("tool:a",),
        "audience": "x",
        "confirmation": PlainKey(b"k"),
    } | changes
    return LeaseRequest(**members)


@pytest.mark.parametrize(
    "change",
    [
        {"scope": ("tool:b",)},
        {"audience": "y"},
        {"encoding": TokenEncoding.JWT},
        {"level": 0},
        {"optional": True},
    ],
)
def test_the_scope_digest_covers_all_that_a_lease_is_for(change: dict[str, Any]) -> None:
    """Whatever a lease is for changes its scope digest, and leaves the key's alone."""
    assert scope_digest([request()]) != scope_digest([request(**change)])
    assert confirmation_digest([request()]) == confirmation_digest([request(**change)])


@pytest.mark.parametrize("level", [None, 0, 3])
def test_a_level_goes_through_the_wire(level: int | None) -> None:
    """What the agent says of its enforcement arrives, and silence arrives as silence."""
    asked = request(level=level)
    assert parse_lease_request(asked.wire()) == asked
    assert parse_lease_request(asked.wire()).level == level


def test_the_confirmation_digest_covers_the_key() -> None:
    """Another confirmation key changes the confirmation digest, and leaves the scope's alone."""
    other = request(confirmation=PlainKey(b"l"))
    assert confirmation_digest([request()]) != confirmation_digest([other])
    assert scope_digest([request()]) == scope_digest([other])


def test_digests_cover_the_order_of_leases() -> None:
    """Two leases cannot swap their keys or scopes."""
    one, two = request(), request(scope=("tool:b",), confirmation=PlainKey(b"l"))
    assert scope_digest([one, two]) != scope_digest([two, one])
    assert confirmation_digest([one, two]) != confirmation_digest([two, one])


def test_another_ek_has_another_node_id() -> None:
    """The node id derives from the EK alone, and says what it is a hash of."""
    assert node_id(b"ek 1") == hashlib.sha256(b"bootlease/node/1\0ek 1").digest()
    assert node_id(b"ek 1") != node_id(b"ek 2")


def test_a_node_ignores_what_a_newer_verifier_adds() -> None:
    """An answer may gain members without stopping the agents of today."""
    challenge = Challenge(bytes(32), bytes(32), 1, 2, {HashAlg.SHA256: (0,)})
    issued = IssuedLease(bytes(16), TokenEncoding.CWT, b"token", bytes(32), 9)
    answer = LeaseAnswer(bytes(32), bytes(32), 0, 120, 119, (issued,), challenge)
    message = cbor.decode(answer.encode(), max_bytes=4096)
    message["new"] = message["challenge"]["new"] = message["leases"][0]["new"] = b"!"
    assert LeaseAnswer.parse(cbor.encode(message)) == answer


DIGEST = st.binary(min_size=32, max_size=32)
UNSIGNED = st.integers(0, (1 << 64) - 1)
_LEASES = st.builds(
    IssuedLease,
    lease_id=st.binary(min_size=16, max_size=16),
    encoding=st.sampled_from(TokenEncoding),
    token=st.binary(min_size=1, max_size=70_000),
    claims_digest=DIGEST,
    expires_at=UNSIGNED,
    receipt=st.none() | st.binary(max_size=300),
)
_CHALLENGES = st.builds(
    Challenge,
    nonce=DIGEST,
    node=DIGEST,
    issued_at=UNSIGNED,
    expires_at=UNSIGNED,
    pcrs=st.dictionaries(st.sampled_from(HashAlg), st.sampled_from([(0,), (0, 7, 23)])),
    ima=st.none() | UNSIGNED,
)


@given(
    st.builds(
        LeaseAnswer,
        decision=DIGEST,
        head=DIGEST,
        sequence=UNSIGNED,
        life=UNSIGNED,
        expires_in=UNSIGNED,
        leases=st.lists(_LEASES, max_size=3).map(tuple) | _LEASES.map(lambda one: (one,) * 30),
        challenge=_CHALLENGES,
    )
)
def test_the_written_out_answer_is_the_deterministic_one(answer: LeaseAnswer) -> None:
    """Answer, leases and challenge are, to the byte, what the general encoder writes."""
    assert answer.challenge.encode() == cbor.encode(answer.challenge.wire())
    members = {
        "decision": answer.decision,
        "head": answer.head,
        "seq": answer.sequence,
        "life": answer.life,
        "expires_in": answer.expires_in,
        "leases": [lease.wire() for lease in answer.leases],
        "challenge": answer.challenge.wire(),
    }
    assert answer.encode() == cbor.encode(members)


def test_an_answer_without_a_lease_is_malformed() -> None:
    """A grant grants something."""
    challenge = Challenge(bytes(32), bytes(32), 1, 2, {HashAlg.SHA256: (0,)})
    with pytest.raises(MalformedError, match="no lease"):
        LeaseAnswer.parse(LeaseAnswer(bytes(32), bytes(32), 0, 1, 1, (), challenge).encode())


@given(documents(), st.binary(max_size=300))
def test_the_evidence_digest_names_the_document_without_its_logs(
    evidence: Evidence, log: bytes
) -> None:
    """Evidence has one name whether its log comes along, and what is kept has that name."""
    bare = parse_evidence(evidence.without_logs().encode())
    full = parse_evidence(dataclasses.replace(evidence, logs={"tcg": log}).encode())
    assert bare.digest == full.digest
    assert hashlib.sha256(full.without_logs().encode()).digest() == full.digest


@given(documents())
def test_what_came_along_is_kept_under_names_of_the_document(evidence: Evidence) -> None:
    """Every log and list that is carried is among those that must be kept with the document."""
    if not evidence.binding.logs:
        evidence = dataclasses.replace(evidence, logs={})
    assert set(evidence.carried_logs()) <= {*evidence.binding.logs.values(), *ima_digest(evidence)}
    assert evidence.named_logs() == (*evidence.binding.logs.values(), *ima_digest(evidence))


def ima_digest(evidence: Evidence) -> list[bytes]:
    """Return the digest of the IMA list, if one is named."""
    return [] if evidence.ima is None else [evidence.ima.digest]


def test_an_empty_list_is_kept_nowhere() -> None:
    """A renewal in which nothing was measured names nothing that must be kept."""
    evidence = parse_evidence(evidence_map(ima=IMASegment.of(7, b"").wire()))
    assert evidence.named_logs() == (bytes(32),)
