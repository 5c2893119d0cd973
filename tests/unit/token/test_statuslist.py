"""Status lists: the draft's vectors, bounded decompression, and the two signed forms."""

from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import NOW, FakeIssuer, execution_claims
from bootlease.token import Algorithm, TokenFormat, base64url
from bootlease.token.cose import sign1
from bootlease.token.signedjson import sign_object
from bootlease.token.statuslist import (
    _KIND,
    INVALID,
    STATUS_CWT_TYP,
    STATUS_RING,
    VALID,
    StatusList,
    StatusListToken,
    sign_status_cwt,
    sign_status_jwt,
    verify_status_list,
)

ISSUER = FakeIssuer()
URI = "https://verifier.example/v1/status"
TOKEN = StatusListToken(URI, NOW, NOW + 60, 20, StatusList.of([3, 1000]))

# draft-ietf-oauth-status-list-20, Appendix C, "1 bit Status List": of 2**20 indexes these are 1.
DRAFT_INDEXES = frozenset(
    {0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345}
)
DRAFT_LIST = (
    "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAA"
    "AAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb"
)


def signed(form: str, token: StatusListToken = TOKEN) -> bytes | str:
    """Return the token in one of its forms."""
    if form == "cwt":
        return sign_status_cwt(token, ISSUER.signer)
    return sign_status_jwt(token, ISSUER.signer)


def verify(data: bytes | str, *, now: float = NOW, uri: str = URI) -> StatusListToken:
    """Verify with the issuer's key."""
    return verify_status_list(data, ISSUER.keys, now=now, uri=uri, leeway=5)


def finding(data: bytes | str, *, now: float = NOW, uri: str = URI) -> list[str]:
    """Return the ids of what is wrong."""
    with pytest.raises(VerificationError) as caught:
        verify(data, now=now, uri=uri)
    return [each.id for each in caught.value.findings]


def test_the_draft_s_list_of_a_ring_is_read() -> None:
    """Every index of Appendix C's vector has the status that stands there."""
    status = StatusList.from_json({"bits": 1, "lst": DRAFT_LIST})
    assert status.size == STATUS_RING
    assert status == StatusList.of(DRAFT_INDEXES)
    assert all(status.get(index) == INVALID for index in DRAFT_INDEXES)
    assert [status.get(index) for index in (1, 1992, 1994, STATUS_RING - 1)] == [VALID] * 4


def test_the_draft_s_example_of_16_indexes_is_packed_from_the_lowest_bit() -> None:
    """Section 4.1: bytes 0xB9 0xA3, in JSON and in CBOR."""
    status = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    listed = StatusList.of([index for index, bit in enumerate(status) if bit], size=16)
    assert listed.packed == b"\xb9\xa3"
    assert StatusList.from_json({"bits": 1, "lst": "eNrbuRgAAhcBXQ"}) == listed
    encoded = bytes.fromhex("a2646269747301636c73744a78dadbb918000217015d")
    assert StatusList.from_cbor(cbor.decode_foreign(encoded, max_bytes=99)) == listed
    assert [listed.get(index) for index in range(16)] == status


@given(indexes=st.sets(st.integers(0, 1023)))
def test_what_is_packed_comes_back(indexes: set[int]) -> None:
    """In each form; and each index has its own bit."""
    status = StatusList.of(indexes, size=1024)
    assert StatusList.from_json(status.to_json()) == status
    assert StatusList.from_cbor(status.to_cbor()) == status
    assert {index for index in range(1024) if status.get(index)} == indexes


@pytest.mark.parametrize("index", [-1, 16, STATUS_RING])
def test_an_index_that_the_list_does_not_reach_is_refused(index: int) -> None:
    """Section 8.3: out of bounds is no status at all, least of all VALID."""
    with pytest.raises(VerificationError, match="does not reach") as caught:
        StatusList.of([], size=16).get(index)
    assert caught.value.findings[0].id == "status.index.unknown"


@pytest.mark.parametrize(("indexes", "size"), [([16], 16), ([-1], 16), ([], 0), ([], 12)])
def test_no_list_is_made_of_what_does_not_fit(indexes: list[int], size: int) -> None:
    """An index beyond the list would set another one's bit, or none."""
    with pytest.raises(ValueError, match="index"):
        StatusList.of(indexes, size=size)


def test_a_bomb_is_not_unpacked() -> None:
    """A list of one index more than a ring is refused, and so is one that is far longer."""
    with pytest.raises(MalformedError, match="more than"):
        StatusList.decompress(zlib.compress(bytes(STATUS_RING // 8 + 1), 9))
    with pytest.raises(MalformedError, match="more than"):
        StatusList.decompress(zlib.compress(bytes(1 << 26), 9))
    with pytest.raises(MalformedError, match="longer than"):
        StatusList.decompress(bytes(STATUS_RING // 8 + 1025))


def test_a_bomb_takes_no_memory() -> None:
    """It is told apart by the first byte too many, not by all that are in it."""
    bomb = zlib.compress(bytes(1 << 26), 9)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError, match="more than"):
            StatusList.decompress(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 24


def test_a_list_counts_up_to_the_leeway_before_its_time() -> None:
    """As everything does whose time a verifier's clock says."""
    ahead = replace(TOKEN, issued_at=NOW + 5, expires_at=NOW + 65)
    assert verify(sign_status_jwt(ahead, ISSUER.signer)).issued_at == NOW + 5


def test_the_worst_list_of_a_ring_is_not_taken_for_a_bomb() -> None:
    """What does not compress is a few bytes longer than the ring."""
    packed = b"".join(
        (index * 2654435761 % 2**32).to_bytes(4, "big") for index in range(STATUS_RING // 32)
    )
    status = StatusList(packed)
    assert StatusList.decompress(status.compress()) == status
    assert len(sign_status_jwt(StatusListToken(URI, NOW, NOW + 60, 20, status), ISSUER.signer))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not zlib",
        zlib.compress(b"\x01")[:-1],
        zlib.compress(b"\x01") + b"\0",
        zlib.compress(b""),
        zlib.compress(b"\x01")[:-4] + bytes(4),
    ],
)
def test_what_is_no_whole_list_is_malformed(data: bytes) -> None:
    """Cut short, followed by something, empty, with another checksum, or no zlib."""
    with pytest.raises(MalformedError):
        StatusList.decompress(data)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_list_or_malformed(data: bytes) -> None:
    """Parse, or MalformedError, never any other."""
    for start in (b"", b"\x78\xda"):
        try:
            StatusList.decompress(start + data)
        except MalformedError:
            continue


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"lst": "eNrbuRgAAhcBXQ"},
        {"bits": 2, "lst": "eNo76fITAAPfAgc"},
        {"bits": True, "lst": "eNrbuRgAAhcBXQ"},
        {"bits": 1},
        {"bits": 1, "lst": 7},
        {"bits": 1, "lst": "eNrbuRgAAhcBXQ=="},
    ],
)
def test_other_forms_of_a_list_are_malformed(value: object) -> None:
    """Lists of several bits mean other things; true is no number."""
    for read in (StatusList.from_json, StatusList.from_cbor):
        with pytest.raises(MalformedError):
            read(value)


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_a_signed_list_verifies(form: str) -> None:
    """In both forms, and until its leeway is over."""
    assert verify(signed(form)) == TOKEN
    assert verify(signed(form), now=NOW + 64).status.get(3) == INVALID


@pytest.mark.parametrize("form", ["jwt", "cwt"])
@pytest.mark.parametrize(
    ("now", "uri", "expected"),
    [
        (NOW + 65, URI, "status.expired"),
        (NOW - 6, URI, "status.issued.future"),
        (NOW, URI + "/", "status.uri.mismatch"),
    ],
)
def test_a_signed_list_counts_for_its_uri_and_time(
    form: str, now: float, uri: str, expected: str
) -> None:
    """One thing wrong is one finding."""
    assert finding(signed(form), now=now, uri=uri) == [expected]


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_a_list_by_another_key_is_refused(form: str) -> None:
    """Whoever it says it is."""
    data, other = signed(form), FakeIssuer(99)
    with pytest.raises(VerificationError) as caught:
        verify_status_list(data, other.keys, now=NOW, uri=URI, leeway=5)
    assert caught.value.findings[0].id == "status.key.unknown"


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_a_list_that_was_changed_is_refused(form: str) -> None:
    """One bit of the signature."""
    data = signed(form)
    if isinstance(data, bytes):
        broken: bytes | str = data[:-1] + bytes([data[-1] ^ 1])
    else:
        head, _, signature = data.rpartition(".")
        raw = bytearray(base64url.decode(signature))
        raw[-1] ^= 1
        broken = f"{head}.{base64url.encode(bytes(raw))}"
    assert finding(broken) == ["status.signature.invalid"]


class Misnamed:
    """Signs with P-256 and says that it is another algorithm's."""

    public = ISSUER.signer.public
    key_id = ISSUER.signer.key_id
    algorithm = Algorithm.ES384

    def sign(self, data: bytes) -> bytes:
        """Sign as the issuer does."""
        return ISSUER.signer.sign(data)


def test_a_list_under_another_algorithm_or_type_is_refused() -> None:
    """The key knows its algorithm, and no other object passes for a list."""
    liar = Misnamed()
    assert finding(sign_status_cwt(TOKEN, liar)) == ["status.algorithm.mismatch"]
    assert finding(sign_status_jwt(TOKEN, liar)) == ["status.algorithm.mismatch"]
    claims = cbor.encode({2: URI, 4: NOW + 9, 6: NOW, 65533: TOKEN.status.to_cbor(), 65534: 5})
    assert finding(sign1(claims, ISSUER.signer, typ="application/cwt")) == ["status.typ.mismatch"]
    token = ISSUER.token(execution_claims(), TokenFormat.UNSAFE_BEARER)
    assert finding(token) == ["status.typ.mismatch"]


def test_the_cwt_tag_is_refused() -> None:
    """Section 5.2: tag 18, never inside tag 61."""
    data = signed("cwt")
    assert isinstance(data, bytes)
    with pytest.raises(MalformedError, match="tag 18"):
        verify(b"\xd8\x3d" + data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", None),
        ("sub", ""),
        ("iat", "now"),
        ("exp", None),
        ("ttl", 0),
        ("ttl", True),
        ("status_list", None),
    ],
)
def test_a_signed_list_without_a_member_is_malformed(name: str, value: object) -> None:
    """A list that never ends, or that is nobody's, counts for nothing."""
    keys = {"sub": 2, "exp": 4, "iat": 6, "ttl": 65534, "status_list": 65533}
    good = {"sub": URI, "iat": NOW, "exp": NOW + 9, "ttl": 5}
    members = {**good, "status_list": TOKEN.status.to_json(), name: value}
    with pytest.raises(MalformedError, match="status list"):
        verify(sign_object(_KIND, members, ISSUER.signer))
    claims = {**good, "status_list": TOKEN.status.to_cbor(), name: value}
    encoded = cbor.encode({keys[each]: claims[each] for each in claims})
    with pytest.raises(MalformedError, match="status list"):
        verify(sign1(encoded, ISSUER.signer, typ=STATUS_CWT_TYP))


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_signed_list_or_an_error_of_ours(data: bytes) -> None:
    """Parse, or MalformedError, or refused, never any other."""
    for form in (data, b"\xd2" + data, data.decode("latin-1")):
        with pytest.raises((MalformedError, VerificationError)):
            verify(form)
