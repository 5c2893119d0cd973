"""Reference sets as CoRIM, unsigned and signed."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.cbor import CBORTag
from bootlease.errors import MalformedError, VerificationError
from bootlease.ima.entry import DigestType, IMADigest
from bootlease.model import HashAlg
from bootlease.reference import (
    AnyReference,
    EventsReference,
    IMAReferenceSet,
    KnownEvent,
    ReferenceSet,
    ValueReference,
)
from bootlease.reference.corim import (
    MAX_CORIM,
    PROFILE,
    CoRIMRegisters,
    encode_corim,
    parse_corim,
)
from bootlease.reference.corimsign import (
    CONTENT_TYPE,
    is_signed,
    parse_signed_corim,
    sign_corim,
    verify_corim,
)
from bootlease.reference.imaset import Origin, Scope, ScopeKind
from bootlease.token.cose import to_be_signed
from bootlease.token.keys import PrivateKeySigner, VerificationKey

NOW: Final = 1_790_000_000
TAGS: Final = frozenset({1, 18, 32, 37, 111, 500, 501, 502, 505, 506, 560})
A, B = bytes(32), b"\1" * 32
EVENT = KnownEvent(4, hashlib.sha256(b"e").digest(), "separator", required=True)
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = PrivateKeySigner(KEY)
TRUSTED = VerificationKey(SIGNER.public)


def boot_set(**changes: Any) -> ReferenceSet:
    """A set with PCRs of both kinds."""
    members: dict[str, Any] = {
        "name": "debian-12",
        "version": "1:2026.11~rc1",
        "bank": HashAlg.SHA256,
        "pcrs": {0: ValueReference((A, B), (EVENT,)), 4: EventsReference((EVENT,))},
        "not_before": NOW,
        "not_after": NOW + 1000,
    }
    return ReferenceSet(**(members | changes))


def ima_set(**changes: Any) -> IMAReferenceSet:
    """A set with everything that CoRIM can say and that it cannot."""
    good = IMADigest(DigestType.IMA, "sha256", A)
    members: dict[str, Any] = {
        "name": "web",
        "version": "2",
        "origin": Origin.BUILT,
        "files": {
            b"/usr/bin/a": (good, IMADigest(DigestType.IMA, "sha512", bytes(64))),
            b"/verity": (IMADigest(DigestType.VERITY, "sha256", A),),
            b"/sm3": (good, IMADigest(DigestType.IMA, "sm3_256", A)),
            b"/odd\xff": (good,),
        },
        "unsafe_exclude": (Scope(ScopeKind.BELOW, b"/var/tmp/"),),
    }
    return IMAReferenceSet(**(members | changes))


SETS: Final[dict[str, AnyReference]] = {
    "boot": boot_set(),
    "boot-open": boot_set(not_before=None, not_after=None),
    "boot-no-end": boot_set(not_after=None),
    "boot-events-only": boot_set(pcrs={4: EventsReference((EVENT,))}),
    "boot-sm3": ReferenceSet("x", "1", HashAlg.SM3_256, {0: ValueReference((A,))}),
    "boot-sha512": ReferenceSet("x", "1", HashAlg.SHA512, {0: ValueReference((bytes(64),))}),
    "ima": ima_set(),
    "ima-odd-only": ima_set(files={b"/odd\xff": (IMADigest(DigestType.IMA, "sha256", A),)}),
}


def unpack(data: bytes) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The corim-map and the CoMID in it, to be changed."""
    corim = dict(cbor.decode(data, max_bytes=MAX_CORIM, tags=TAGS).value)
    return corim, cbor.decode(corim[1][0].value, max_bytes=MAX_CORIM, tags=TAGS)


def pack(corim: dict[Any, Any], comid: dict[Any, Any], tag: int = 501) -> bytes:
    """The same as bytes."""
    tags = [CBORTag(506, cbor.encode(comid, tags=TAGS))]
    return cbor.encode(CBORTag(tag, {**corim, 1: tags}), tags=TAGS)


def foreign(registers: Any, **beside: Any) -> bytes:
    """A CoRIM of nobody's profile."""
    environment = {0: {0: CBORTag(37, bytes(16)), 1: "ACME", 2: "Roadrunner"}}
    comid = {
        1: {0: bytes(16)},
        2: [{0: "ACME", 1: CBORTag(32, "https://acme.example"), 2: [0]}],
        4: {0: [[environment, [{1: {14: registers}}]]]},
    }
    corim = {0: "acme-1", 4: {1: CBORTag(1, NOW)}}
    return pack(corim, comid | beside)


@pytest.mark.parametrize("reference", SETS.values(), ids=SETS)
def test_a_set_comes_back_as_itself(reference: AnyReference) -> None:
    """What is exported is imported as the same set, digest included."""
    assert parse_corim(encode_corim(reference)) == reference
    assert parse_corim(encode_corim(reference)).digest == reference.digest  # type: ignore[union-attr]  # of our own profile


def test_pcrs_are_integrity_registers_and_the_profile_is_named() -> None:
    """Whoever knows CoRIM alone finds the PCR values where the draft puts them."""
    corim, comid = unpack(encode_corim(boot_set()))
    assert corim[0] == f"sha256:{boot_set().digest.hex()}"
    assert corim[3] == CBORTag(32, PROFILE)
    assert dict(corim[4]) == {0: CBORTag(1, NOW), 1: CBORTag(1, NOW + 1000)}
    assert comid[1] == {0: "debian-12:1:2026.11~rc1"}
    ((environment, measurements),) = comid[4][0]
    assert environment == {0: {0: CBORTag(560, b"bootlease/boot"), 2: "debian-12"}}
    assert measurements == [{1: {14: {0: [[1, A], [1, B]]}}}]


def test_files_are_integrity_registers_by_path() -> None:
    """Digests of files stand under the path, those that CoRIM has no word for with the rest."""
    _, comid = unpack(encode_corim(ima_set()))
    ((_, measurements),) = comid[4][0]
    assert measurements == [{1: {14: {"/usr/bin/a": [[1, A], [8, bytes(64)]]}}}]
    assert [path for path, _ in comid[4][-1]["files"]] == [b"/odd\xff", b"/sm3", b"/verity"]


def test_a_validity_without_an_end_is_kept() -> None:
    """CoRIM cannot say a beginning without an end; the set's own members do."""
    corim, comid = unpack(encode_corim(boot_set(not_after=None)))
    assert 4 not in corim
    assert comid[4][-1]["nbf"] == NOW


def altered(**changes: Any) -> bytes:
    """An export of our own, altered: names are dotted places, values what to put there."""
    corim, comid = unpack(encode_corim(boot_set()))
    for place, value in changes.items():
        root, *keys = place.split("__")
        target: Any = {"corim": corim, "comid": comid}[root]
        *path, last = [int(key) if key.lstrip("-").isdigit() else key for key in keys]
        for key in path:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return pack(corim, comid)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"corim__0": "sha256:00"}, "contradicts itself"),
        ({"corim__4": {1: CBORTag(1, NOW + 999)}}, "contradicts itself|nbf"),
        ({"corim__4": {0: CBORTag(1, NOW)}}, "has no end"),
        ({"corim__4": {1: NOW}}, "not whole seconds"),
        ({"corim__2": [{0: CBORTag(32, "https://x")}]}, "member 2"),
        ({"corim__6": 1}, "member 6"),
        ({"corim__3": CBORTag(32, PROFILE + "1")}, "profile"),
        ({"corim__3": CBORTag(111, b"\x2a")}, "tag 111|profile"),
        ({"corim__3": PROFILE}, "profile"),
        ({"comid__1__0": "debian-12:2"}, "contradicts itself"),
        ({"comid__1__0": "Debian:1"}, "no reference name"),
        ({"comid__1__0": bytes(16)}, "no id that is text"),
        ({"comid__3": []}, "contradicts itself"),
        ({"comid__4__1": []}, "contradicts itself"),
        ({"comid__4__-1": None}, "member -1"),
        ({"comid__4__0__0__1__0__1__14__0": [[1, A]]}, "contradicts itself"),
        ({"comid__4__0__0__1__0__1__14__0": [[1, B], [1, A]]}, "canonical|contradicts"),
        ({"comid__4__0__0__1__0__1__14__0": [[7, bytes(48)]]}, "bytes"),
        ({"comid__4__0__0__1__0__1__14__0": [[2, A]]}, "known hash algorithm"),
        ({"comid__4__0__0__1__0__1__14__0": [["sha-256", A]]}, "known hash algorithm"),
        ({"comid__4__0__0__1__0__1__14__0": []}, "with something in it"),
        ({"comid__4__0__0__1__0__1__14__5": [[1, A]]}, "register 5"),
        ({"comid__4__0__0__1__0__1__14__4": [[1, A]]}, "register 4"),
        ({"comid__4__0__0__1__0__1__14__x": [[1, A]]}, "register 'x'"),
        ({"comid__4__0__0__1__0__1__1": 3}, "member 1"),
        ({"comid__4__0__0__1__0__0": 1}, "member 0"),
        ({"comid__4__0__0__0__0__2": "other"}, "contradicts itself"),
        ({"comid__4__0": None}, "1 to 256 values"),
        ({"comid__4__-1__extra": 1}, "unknown members"),
        ({"comid__4__-1__type": "bootlease/reference/2"}, "not of a type"),
        ({"comid__4__-1__pcrs__0": ["events", []]}, "register 0"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_contradicts_itself_or_is_not_understood_is_refused(
    change: dict[str, Any], why: str
) -> None:
    """Each alteration of an export of our own is refused, for what it is."""
    with pytest.raises(MalformedError, match=why):
        parse_corim(altered(**change))


@pytest.mark.parametrize("files", [1, True, "x", {}, {"a": 1}, [1], [[]], [["a", []]]])
def test_files_that_are_no_list_are_malformed(files: object) -> None:
    """Whatever stands where the rest of the files should: no other error than the one."""
    corim, comid = unpack(encode_corim(ima_set()))
    comid[4][-1]["files"] = files
    with pytest.raises(MalformedError):
        parse_corim(pack(corim, comid))


@pytest.mark.parametrize("tag", [500, 502, 18, 1])
def test_other_outer_tags_are_refused(tag: int) -> None:
    """What is not tagged as an unsigned CoRIM is none."""
    with pytest.raises(MalformedError):
        parse_corim(cbor.encode(CBORTag(tag, {0: "x"}), tags=TAGS))


def test_more_than_one_tag_and_other_tags_are_refused() -> None:
    """One CoMID is read; a second one or a CoSWID could say anything."""
    corim, comid = unpack(encode_corim(boot_set()))
    tag = CBORTag(506, cbor.encode(comid, tags=TAGS))
    with pytest.raises(MalformedError, match="more than one of tags"):
        parse_corim(cbor.encode(CBORTag(501, {**corim, 1: [tag, tag]}), tags=TAGS))
    swid = [CBORTag(505, b"\xa0")]
    with pytest.raises(MalformedError):
        parse_corim(cbor.encode(CBORTag(501, {**corim, 1: swid}), tags=TAGS))


def test_pcrs_of_others_become_a_set_under_a_given_name() -> None:
    """A CoRIM without a profile gives its PCR values; the operator names the set."""
    found = parse_corim(foreign({0: [[1, A], [1, B]], 7: [[1, B], [7, bytes(48)]]}))
    assert isinstance(found, CoRIMRegisters)
    assert (found.not_before, found.not_after) == (None, NOW)
    made = found.as_reference(name="acme", version="1", bank=HashAlg.SHA256)
    assert made.pcrs == {0: ValueReference((A, B)), 7: ValueReference((B,))}
    assert made.not_after == NOW
    with pytest.raises(MalformedError, match="register 0 has no sha384"):
        found.as_reference(name="acme", version="1", bank=HashAlg.SHA384)
    with pytest.raises(MalformedError, match="no reference name"):
        found.as_reference(name="ACME", version="1", bank=HashAlg.SHA256)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (foreign({24: [[1, A]]}), "is no PCR"),
        (foreign({"0": [[1, A]]}), "is no PCR"),
        (foreign({0: [[1, A], [1, A]]}), "no new one"),
        (foreign({0: [[1, A[:-1]]]}), "no new one"),
        (foreign({0: [[1, A], ["my-alg", B]]}), "known hash algorithm"),
        (foreign({}), "no integrity registers"),
        (foreign({0: [[1, A]]}, **{"3": []}), "member '3'"),
    ],
    ids=["24", "text", "twice", "short", "alg", "empty", "member"],
)
def test_what_is_not_understood_in_those_of_others_is_refused(data: bytes, why: str) -> None:
    """Nothing that a CoRIM says is passed over in silence."""
    with pytest.raises(MalformedError, match=why):
        parse_corim(data)


def test_a_register_of_others_is_there_once() -> None:
    """Two measurements of one register would be one with more good values."""
    corim, comid = unpack(foreign({0: [[1, A]]}))
    ((environment, (measurement,)),) = comid[4][0]
    for register, why in ((0, "register 0 is there twice"), (1, None)):
        other = {1: {14: {register: [[1, B]]}}}
        comid[4][0] = [[environment, [measurement, other]]]
        if why is None:
            assert isinstance(parse_corim(pack(corim, comid)), CoRIMRegisters)
            continue
        with pytest.raises(MalformedError, match=why):
            parse_corim(pack(corim, comid))


def test_a_truth_is_no_id_of_a_hash() -> None:
    """True equals one in many languages, and not in CBOR."""
    with pytest.raises(MalformedError, match="known hash algorithm"):
        parse_corim(foreign({0: [[True, A]]}))


def test_a_signed_corim_is_verified_with_the_operators_key() -> None:
    """A signature by the given key proves the payload."""
    payload = encode_corim(boot_set())
    data = sign_corim(payload, SIGNER, name="ACME Ltd.")
    assert is_signed(data)
    assert not is_signed(payload)
    signed = parse_signed_corim(data)
    assert (signed.signer, signed.algorithm) == ("ACME Ltd.", -7)
    assert verify_corim(signed, TRUSTED, now=NOW) == payload
    edwards = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    signed = parse_signed_corim(sign_corim(payload, edwards, name="x"))
    assert verify_corim(signed, VerificationKey(edwards.public), now=NOW) == payload


def signed_with(header: dict[int, Any], unprotected: dict[int, Any] | None = None) -> bytes:
    """A signed CoRIM with a header of one's choice."""
    base: dict[int, Any] = {1: -7, 3: CONTENT_TYPE, 8: cbor.encode({0: {0: "ACME"}})}
    kept = {key: value for key, value in (base | header).items() if value is not None}
    protected, payload = cbor.encode(kept), encode_corim(boot_set())
    signature = SIGNER.sign(to_be_signed(protected, payload))
    return cbor.encode(CBORTag(18, [protected, unprotected or {}, payload, signature]), tags=TAGS)


def refusal(data: bytes, key: VerificationKey = TRUSTED, now: int = NOW) -> list[str]:
    """The ids of what is wrong with a signed CoRIM."""
    with pytest.raises(VerificationError) as caught:
        verify_corim(parse_signed_corim(data), key, now=now)
    return [finding.id for finding in caught.value.findings]


def test_another_key_algorithm_or_content_is_refused() -> None:
    """Who else signed, by what else, or what else was signed, is no proof."""
    good = sign_corim(encode_corim(boot_set()), SIGNER, name="x")
    other = VerificationKey(PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())).public)
    edwards = VerificationKey(PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()).public)
    assert refusal(good, other) == ["corim.signature.invalid"]
    assert refusal(good, edwards) == ["corim.algorithm.mismatch"]
    assert refusal(good.replace(b"debian-12", b"debian-13")) == ["corim.signature.invalid"]
    assert refusal(signed_with({1: -35})) == ["corim.algorithm.mismatch"]


@pytest.mark.parametrize(
    "header",
    [
        {8: cbor.encode({0: {0: "x"}, 1: {1: CBORTag(1, NOW - 1)}}, tags=TAGS)},
        {8: cbor.encode({0: {0: "x"}, 1: {0: CBORTag(1, NOW + 1)}}, tags=TAGS)},
        {15: {1: "x", 4: NOW - 1}},
        {15: {1: "x", 5: NOW + 1}},
    ],
    ids=["meta-end", "meta-start", "claims-end", "claims-start"],
)
def test_a_signature_outside_its_validity_is_refused(header: dict[int, Any]) -> None:
    """What the signer says of its signature's validity holds, wherever it is said."""
    assert refusal(signed_with(header)) == ["corim.signature.not-valid"]


def test_the_issuer_of_cwt_claims_is_a_signer_too() -> None:
    """Either of the two ways to name a signer will do."""
    assert parse_signed_corim(signed_with({8: None, 15: {1: "issuer"}})).signer == "issuer"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({1: None}, "algorithm is not said"),
        ({1: "ES256"}, "algorithm is not said"),
        ({2: [8]}, "critical"),
        ({3: "application/corim-unsigned+cbor"}, "content type"),
        ({3: None}, "content type"),
        ({8: None}, "says who signed"),
        ({8: {0: {0: "x"}}}, "not bytes"),
        ({8: cbor.encode({0: {}})}, "does not name a signer"),
        ({8: cbor.encode({0: {0: "x"}, 1: {1: NOW}})}, "not whole seconds"),
        ({15: {4: NOW}}, "name no issuer"),
        ({15: {1: "x", 4: True}}, "not whole seconds"),
        ({258: -16}, "only a hash"),
    ],
    ids=str,
)
def test_a_header_that_is_not_handled_is_refused(header: dict[int, Any], why: str) -> None:
    """Each form of protected header that is not handled is an error of its own."""
    with pytest.raises(MalformedError, match=why):
        parse_signed_corim(signed_with(header))


def test_a_detached_payload_is_refused() -> None:
    """What is not in the message cannot be read from it."""
    protected = parse_signed_corim(signed_with({})).protected
    data = cbor.encode(CBORTag(18, [protected, {}, None, b"s"]), tags=TAGS)
    with pytest.raises(MalformedError, match="content is not in it"):
        parse_signed_corim(data)


def test_many_items_around_the_payload_are_refused_before_they_cost_anything() -> None:
    """What nobody signed may not take the memory of whoever looks at the signature."""
    data = signed_with({}, {4: [[]] * 100_000})
    with pytest.raises(MalformedError, match="CBOR of more than"):
        parse_signed_corim(data)


def test_a_signer_has_a_name() -> None:
    """A name that nobody can read is our own misuse."""
    with pytest.raises(ValueError, match="signer's name"):
        sign_corim(b"", SIGNER, name="\n")


values = st.binary(min_size=32, max_size=32)
events = st.lists(
    st.builds(KnownEvent, st.integers(0, 99), values, st.text("abc é", max_size=4), st.booleans()),
    max_size=3,
    unique_by=lambda event: event.key,
).map(tuple)
constraints = st.one_of(
    st.builds(
        ValueReference, st.lists(values, min_size=1, max_size=3, unique=True).map(tuple), events
    ),
    st.builds(EventsReference, events.filter(bool)),
)
times = st.none() | st.integers(0, 1 << 40)


def in_order(limits: tuple[int | None, int | None]) -> bool:
    """Tell whether a validity ends after it begins."""
    start, end = limits
    return start is None or end is None or start <= end


@given(
    st.dictionaries(st.integers(0, 23), constraints, min_size=1, max_size=4),
    st.tuples(times, times).filter(in_order),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:+~-]{0,9}", fullmatch=True),
)
def test_any_boot_set_comes_back(
    pcrs: dict[int, ValueReference | EventsReference],
    limits: tuple[int | None, int | None],
    version: str,
) -> None:
    """Export and import of any boot set give the same digest."""
    reference = ReferenceSet("x", version, HashAlg.SHA256, pcrs, *limits)
    assert parse_corim(encode_corim(reference)) == reference


paths = st.binary(min_size=1, max_size=12).filter(lambda path: not {0, 32} & {*path})
file_digests = st.sampled_from(
    [
        IMADigest(DigestType.IMA, "sha256", A),
        IMADigest(DigestType.IMA, "sha256", B),
        IMADigest(DigestType.IMA, "sha3_512", bytes(64)),
        IMADigest(DigestType.IMA, "sm3_256", A),
        IMADigest(DigestType.VERITY, "sha256", A),
    ]
)


@given(
    st.dictionaries(paths, st.lists(file_digests, min_size=1, unique=True).map(tuple), min_size=1)
)
def test_any_ima_set_comes_back(files: dict[bytes, tuple[IMADigest, ...]]) -> None:
    """Export and import of any set of files give the same digest."""
    reference = IMAReferenceSet("x", "1", Origin.LEARNED, files)
    assert parse_corim(encode_corim(reference)) == reference


EXPORTS: Final = [encode_corim(reference) for reference in SETS.values()]
SIGNED: Final = sign_corim(EXPORTS[0], SIGNER, name="x")


@given(st.sampled_from(EXPORTS), st.binary(max_size=16), st.integers(0, 4000))
def test_any_bytes_parse_or_are_malformed(data: bytes, noise: bytes, place: int) -> None:
    """Whatever overwrites a CoRIM, it is read or malformed, and nothing else happens."""
    place %= len(data)
    mutated = data[:place] + noise + data[place + len(noise) :]
    try:
        found = parse_corim(mutated)
    except MalformedError:
        return
    assert mutated == data or isinstance(found, CoRIMRegisters)


@given(st.binary(max_size=16), st.integers(0, 4000))
def test_any_signed_bytes_parse_or_are_malformed(noise: bytes, place: int) -> None:
    """Whatever overwrites a signed CoRIM, it is proven, refused or malformed."""
    place %= len(SIGNED)
    mutated = SIGNED[:place] + noise + SIGNED[place + len(noise) :]
    try:
        payload = verify_corim(parse_signed_corim(mutated), TRUSTED, now=NOW)
    except (MalformedError, VerificationError):
        return
    assert payload == EXPORTS[0]
