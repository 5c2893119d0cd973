"""Proofs as text: the leaf, its place, and the checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import LedgerSigner, NoteKey, Receipt
from bootlease.ledger.text import encode_base64
from bootlease.ledger.tlogproof import (
    MAX_EXTRA,
    MAX_PROOF,
    TLogProof,
    parse_tlog_proof,
    verify_tlog_proof,
)
from bootlease.token import PrivateKeySigner

NAME: Final = "verifier.example/ledger"
HASH_LINE: Final = encode_base64(b"\x05" * 32) + b"\n"


def finding(data: bytes, leaf: bytes, key: NoteKey, **demand: str) -> str:
    """Return the finding with which a proof is refused."""
    with pytest.raises(VerificationError) as caught:
        verify_tlog_proof(data, leaf, key, **demand)
    assert len(caught.value.findings) == 1
    return caught.value.findings[0].id


def test_proofs_verify(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """Each proof of a commit proves its own leaf under the checkpoint it carries."""
    for number, receipt in enumerate(receipts):
        verified = verify_tlog_proof(receipt.tlog_proof(), receipt.leaf, ledger.key)
        assert (verified.leaf, verified.index) == (receipt.leaf, 6 + number)
        assert verified.checkpoint.size == 13
        assert verified.checkpoint.origin == receipt.sealed.origin


def test_a_proof_survives_its_text(receipts: tuple[Receipt, ...]) -> None:
    """Reading a proof gives its parts, and the same text again."""
    receipt = receipts[3]
    proof = parse_tlog_proof(receipt.tlog_proof())
    assert (proof.extra, proof.index, proof.path) == (receipt.leaf, 9, receipt.path)
    assert proof.checkpoint == receipt.sealed.checkpoint
    assert proof.encode() == receipt.tlog_proof()


def test_a_proof_without_the_leaf_verifies(
    receipts: tuple[Receipt, ...], ledger: LedgerSigner
) -> None:
    """The leaf in the proof is a convenience: without it the proof proves the same."""
    proof = dataclasses.replace(parse_tlog_proof(receipts[0].tlog_proof()), extra=None)
    verify_tlog_proof(proof.encode(), receipts[0].leaf, ledger.key)


def test_another_leaf_is_refused(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """A proof proves its leaf and no other, whether or not it names it."""
    proof = parse_tlog_proof(receipts[0].tlog_proof())
    other = receipts[1].leaf
    assert finding(proof.encode(), other, ledger.key) == "ledger.proof.leaf.mismatch"
    silent = dataclasses.replace(proof, extra=None)
    assert finding(silent.encode(), other, ledger.key) == "ledger.inclusion.invalid"
    lying = dataclasses.replace(proof, extra=other)
    assert finding(lying.encode(), other, ledger.key) == "ledger.inclusion.invalid"


def test_another_key_is_refused(
    receipts: tuple[Receipt, ...], other_signer: PrivateKeySigner
) -> None:
    """A checkpoint that another key signed proves nothing."""
    other = LedgerSigner(NAME, other_signer).key
    assert (
        finding(receipts[0].tlog_proof(), receipts[0].leaf, other)
        == "ledger.checkpoint.key.unknown"
    )


def test_another_shard_is_refused(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """With a demand exactly this shard is accepted."""
    data, leaf = receipts[0].tlog_proof(), receipts[0].leaf
    verify_tlog_proof(data, leaf, ledger.key, origin=f"{NAME}/2026-11")
    assert (
        finding(data, leaf, ledger.key, origin=f"{NAME}/2026-12")
        == "ledger.checkpoint.origin.mismatch"
    )


def test_every_flipped_bit_is_caught(receipts: tuple[Receipt, ...], ledger: LedgerSigner) -> None:
    """No bit of a proof can be changed."""
    data = receipts[2].tlog_proof()
    for place in range(8 * len(data)):
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_tlog_proof(bytes(altered), receipts[2].leaf, ledger.key)


HEAD: Final = b"c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        b"c2sp.org/tlog-proof@v2\nindex 0\n\ncheckpoint\n",
        HEAD + b"\n\ncheckpoint\n",
        HEAD + b"index 0\ncheckpoint\n",
        HEAD + b"index 00\n\ncheckpoint\n",
        HEAD + b"index -5\n\ncheckpoint\n",
        HEAD + b"index x\n\ncheckpoint\n",
        HEAD + b"extra QQ==\n\ncheckpoint\n",
        HEAD + b"extra !!\nindex 0\n\ncheckpoint\n",
        HEAD + b"index 0\nextra QQ==\n\ncheckpoint\n",
        HEAD + b"extra QQ==\nextra QQ==\nindex 0\n\ncheckpoint\n",
        HEAD + b"extra " + b"QUJD" * (MAX_EXTRA // 4) + b"\nindex 0\n\ncheckpoint\n",
        HEAD + b"index 0\nQQ==\n\ncheckpoint\n",
        HEAD + b"index 0\n" + HASH_LINE * 64 + b"\ncheckpoint\n",
        HEAD + b"index 0\n\n" + b"x" * MAX_PROOF,
    ],
)
def test_other_texts_are_malformed(data: bytes) -> None:
    """Each deviation from the form makes a proof malformed."""
    with pytest.raises(MalformedError):
        parse_tlog_proof(data)


def test_the_longest_path_is_read() -> None:
    """A path of 63 hashes, with extra data, is read whole."""
    proof = TLogProof(b"x", 1, (b"\x05" * 32,) * 63, b"checkpoint\n")
    assert parse_tlog_proof(proof.encode()) == proof


@given(st.binary(max_size=200) | st.text("index 012\n=QUJD", max_size=60).map(str.encode))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Bytes are a proof that encodes to them, or malformed, never any other."""
    for each in (data, HEAD + data, HEAD + b"index 0\n" + data):
        try:
            assert parse_tlog_proof(each).encode() == each
        except MalformedError:
            continue
