"""COSE receipts: proof that the ledger has a leaf, of one form."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.cbor import CBORTag
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import (
    EMPTY_ROOT,
    Frontier,
    LedgerSigner,
    NoteKey,
    Receipt,
    SignatureType,
    encode_leaf,
    extend,
    leaf_hash,
)
from bootlease.ledger.receipt import parse_receipt, verify_receipt
from bootlease.token import PrivateKeySigner
from bootlease.token.cose import to_be_signed

NAME: Final = "verifier.example/ledger"
ORIGIN: Final = f"{NAME}/2026-11"
LEAF: Final = encode_leaf(b"\x01" * 32, b"\x02" * 32)


def decoded(receipt: bytes) -> list[Any]:
    """Return the four fields of a receipt."""
    fields: list[Any] = cbor.decode(receipt[1:], max_bytes=9999)
    return fields


def encoded(fields: list[Any]) -> bytes:
    """Return a receipt of four fields."""
    return b"\xd2" + cbor.encode(fields)


def finding(data: bytes, leaf: bytes, key: NoteKey, **demand: str) -> str:
    """Return the finding with which a receipt is refused."""
    with pytest.raises(VerificationError) as caught:
        verify_receipt(data, leaf, key, **demand)
    assert len(caught.value.findings) == 1
    return caught.value.findings[0].id


def resigned(receipt: Receipt, signer: PrivateKeySigner, **changes: Any) -> bytes:
    """Return a receipt whose protected header was changed and signed again."""
    names = {"alg": 1, "kid": 4, "claims": 15, "vds": 395, "size": -65537}
    header = cbor.decode(receipt.sealed.protected, max_bytes=999)
    for name, value in changes.items():
        if value is None:
            header.pop(names[name])
        else:
            header[names.get(name, 2)] = value
    protected = cbor.encode(header)
    signature = signer.sign(to_be_signed(protected, receipt.sealed.root))
    sealed = dataclasses.replace(receipt.sealed, protected=protected, signature=signature)
    return dataclasses.replace(receipt, sealed=sealed).cose()


def test_receipts_verify(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """Each receipt of a commit proves its own leaf's place in the sealed tree."""
    for number, receipt in enumerate(receipts):
        verified = verify_receipt(receipt.cose(), receipt.leaf, ledger.key)
        assert (verified.leaf, verified.index, verified.size) == (receipt.leaf, 6 + number, 13)
        assert (verified.root, verified.origin) == (receipt.sealed.root, ORIGIN)


def test_the_layout_is_the_documented_one(receipts: tuple[Receipt, ...]) -> None:
    """The bytes are the structure that the module documents, in deterministic CBOR."""
    receipt = receipts[2]
    sealed = receipt.sealed
    proof = cbor.encode([13, 8, [*receipt.path]])
    assert receipt.cose() == cbor.encode(
        CBORTag(18, [sealed.protected, {396: {-1: [proof]}}, None, sealed.signature]),
        tags=frozenset({18}),
    )
    header = cbor.decode(sealed.protected, max_bytes=999)
    assert header[15] == {1: "https://verifier.example/ledger/2026-11"}
    assert (header[1], header[395], header[-65537]) == (-8, 1, 13)


def test_one_signature_serves_a_commit(receipts: tuple[Receipt, ...]) -> None:
    """All receipts of a commit share header and signature."""
    fields = [decoded(receipt.cose()) for receipt in receipts]
    assert len({(one[0], one[3]) for one in fields}) == 1


def test_the_first_leaf_has_an_empty_path(ledger: LedgerSigner) -> None:
    """A tree of one leaf has a receipt without a path, which is accepted."""
    extension = extend(Frontier(), [leaf_hash(LEAF)])
    receipt = Receipt(LEAF, 0, extension.path(0), ledger.seal(ORIGIN, 1, extension.root))
    assert receipt.path == ()
    assert verify_receipt(receipt.cose(), LEAF, ledger.key).size == 1


def test_the_fully_specified_algorithm_is_accepted(
    receipts: tuple[Receipt, ...], signer: PrivateKeySigner, ledger: LedgerSigner
) -> None:
    """Ed25519 may be named by either of its identifiers (RFC 9864)."""
    verify_receipt(resigned(receipts[0], signer, alg=-19), receipts[0].leaf, ledger.key)


def test_another_leaf_is_refused(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """A receipt proves its leaf and no other."""
    data = receipts[0].cose()
    assert finding(data, receipts[1].leaf, ledger.key) == "ledger.receipt.signature.invalid"


def test_another_key_is_refused(
    receipts: tuple[Receipt, ...], other_signer: PrivateKeySigner, ledger: LedgerSigner
) -> None:
    """A receipt that names another key, or that another key signed, is refused."""
    other = LedgerSigner(NAME, other_signer).key
    receipt = receipts[0]
    assert finding(receipt.cose(), receipt.leaf, other) == "ledger.receipt.key.unknown"
    forged = resigned(receipt, other_signer)
    assert finding(forged, receipt.leaf, ledger.key) == "ledger.receipt.signature.invalid"


@pytest.mark.parametrize("algorithm", [-7, -9, 5, -48])
def test_another_algorithm_is_refused(
    algorithm: int,
    receipts: tuple[Receipt, ...],
    signer: PrivateKeySigner,
    ledger: LedgerSigner,
) -> None:
    """The algorithm is the key's, whatever a signed header says."""
    data = resigned(receipts[0], signer, alg=algorithm)
    assert finding(data, receipts[0].leaf, ledger.key) == "ledger.receipt.algorithm.mismatch"


def test_another_log_is_refused(
    receipts: tuple[Receipt, ...], signer: PrivateKeySigner, ledger: LedgerSigner
) -> None:
    """A receipt of a log for which the key does not speak, or of another shard, is refused."""
    receipt = receipts[0]
    elsewhere = resigned(receipt, signer, claims={1: "https://other.example/ledger/2026-11"})
    wanted = "ledger.checkpoint.origin.mismatch"
    assert finding(elsewhere, receipt.leaf, ledger.key) == wanted
    assert finding(receipt.cose(), receipt.leaf, ledger.key, origin=f"{NAME}/2026-12") == wanted


def test_another_size_is_refused(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """The size in the proof, which no signature covers, must be the signed one."""
    sealed = dataclasses.replace(receipts[0].sealed, size=14)
    data = dataclasses.replace(receipts[0], sealed=sealed).cose()
    assert finding(data, receipts[0].leaf, ledger.key) == "ledger.receipt.size.mismatch"


def test_another_index_is_refused(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """The index cannot be changed: it says on which side each hash stands."""
    for index in range(13):
        if index != 8:
            data = dataclasses.replace(receipts[2], index=index).cose()
            assert finding(data, receipts[2].leaf, ledger.key) in {
                "ledger.receipt.signature.invalid",
                "ledger.inclusion.invalid",
            }


def test_every_flipped_bit_is_caught(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """No bit of a receipt can be changed."""
    data = receipts[2].cose()
    for place in range(8 * len(data)):
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_receipt(bytes(altered), receipts[2].leaf, ledger.key)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, cbor.encode([])),
        (0, b"\xff"),
        (0, {}),
        (1, {}),
        (1, {396: {}}),
        (1, {396: {-1: []}}),
        (1, {396: {-2: [b""]}}),
        (1, {396: {-1: [b""]}}),
        (1, {396: {-1: [[1, 0, []]]}}),
        (1, {396: {-1: [cbor.encode([1, 0])]}}),
        (1, {396: {-1: [cbor.encode([-1, 0, []])]}}),
        (1, {396: {-1: [cbor.encode([1, 1 << 63, []])]}}),
        (1, {396: {-1: [cbor.encode([True, 0, []])]}}),
        (1, {396: {-1: [cbor.encode([1, 0, [b"\0" * 31]])]}}),
        (1, {396: {-1: [cbor.encode([1, 0, ["\0" * 32]])]}}),
        (1, {396: {-1: [cbor.encode([1, 0, [b"\0" * 32] * 64])]}}),
        (2, EMPTY_ROOT),
        (3, b"\0" * 63),
        (3, None),
    ],
)
def test_other_structures_are_malformed(
    field: int, value: object, receipts: tuple[Receipt, ...]
) -> None:
    """Each deviation from the form makes a receipt malformed."""
    fields = decoded(receipts[0].cose())
    fields[field] = value
    with pytest.raises(MalformedError):
        parse_receipt(encoded(fields))


def test_further_proofs_and_parameters_are_malformed(receipts: tuple[Receipt, ...]) -> None:
    """A receipt has one inclusion proof, and nothing else that no signature covers."""
    protected, unprotected, payload, signature = decoded(receipts[0].cose())
    proof = unprotected[396][-1][0]
    for other in (
        {396: {-1: [proof, proof]}},
        {396: {-1: [proof], -2: [proof]}},
        {396: {-1: [proof]}, 4: b"another key"},
    ):
        with pytest.raises(MalformedError):
            parse_receipt(encoded([protected, other, payload, signature]))


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": None},
        {"alg": "EdDSA"},
        {"alg": True},
        {"kid": None},
        {"kid": "key"},
        {"vds": None},
        {"vds": 2},
        {"vds": True},
        {"claims": None},
        {"claims": {}},
        {"claims": {1: b"origin"}},
        {"claims": {1: "http://verifier.example/ledger/2026-11"}},
        {"claims": {1: f"https://{ORIGIN}", 2: "subject"}},
        {"size": None},
        {"size": -1},
        {"size": True},
        {"crit": [396]},
    ],
)
def test_other_headers_are_malformed(
    changes: dict[str, Any], receipts: tuple[Receipt, ...], signer: PrivateKeySigner
) -> None:
    """A header that lacks a parameter, or has another, is refused though it is signed."""
    with pytest.raises(MalformedError):
        parse_receipt(resigned(receipts[0], signer, **changes))


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Bytes are a receipt or malformed, never any other; also behind a receipt's first byte."""
    for each in (data, b"\xd2" + data, b"\xd2\x84" + data):
        try:
            parse_receipt(each)
        except MalformedError:
            continue


def test_only_ed25519_keys_seal() -> None:
    """A ledger key of another type is our misuse."""
    with pytest.raises(ValueError, match="Ed25519"):
        LedgerSigner(NAME, PrivateKeySigner(ec.derive_private_key(7, ec.SECP256R1())))


def test_witness_keys_do_not_verify_receipts(receipts: tuple[Receipt, ...]) -> None:
    """A witness's key is not taken for a ledger's: our misuse."""
    key = NoteKey("w", SignatureType.ED25519_COSIGNATURE, b"\x05" * 32)
    with pytest.raises(ValueError, match="Ed25519"):
        verify_receipt(receipts[0].cose(), receipts[0].leaf, key)


@pytest.mark.parametrize("origin", [NAME, "other.example/ledger/2026-11", f"{NAME}s/2026-11"])
def test_a_ledger_seals_its_own_shards(origin: str, ledger: LedgerSigner) -> None:
    """A ledger signs nothing for which its key does not speak: our misuse."""
    with pytest.raises(ValueError, match="speak"):
        ledger.seal(origin, 1, b"\0" * 32)


def test_a_receipt_is_no_checkpoint(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """What is signed for a receipt begins as no note can, so neither stands for the other."""
    sealed = receipts[0].sealed
    signed = to_be_signed(sealed.protected, sealed.root)
    assert signed[0] == 0x84
    with pytest.raises(UnicodeDecodeError):
        signed[:2].decode()
    assert sealed.checkpoint.startswith(ledger.key.name.encode())
