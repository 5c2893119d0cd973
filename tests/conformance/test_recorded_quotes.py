"""Quotes that other projects recorded on real machines verify, or are refused, as they must."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import VerificationError
from bootlease.model import HashAlg
from bootlease.tpm import accept_attestation_key, parse_public, verify_quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Protobuf field numbers of go-tpm-tools' attest.Attestation, tpm.Quote and tpm.PCRs.
AK_PUBLIC, QUOTES = 1, 2
QUOTED, SIGNATURE, PCRS = 1, 2, 3
BANK, VALUES = 1, 2


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a protobuf varint; return it and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Read protobuf fields: number, value of an integer, value of a string."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value, b""
        else:
            assert tag & 7 == 2
            yield tag >> 3, 0, data[at : at + value]
            at += value


def pcr_value(entry: bytes) -> tuple[int, bytes]:
    """Read an entry of a protobuf map from uint32 to bytes."""
    index, value = 0, b""
    for number, integer, text in fields(entry):
        index, value = (integer, value) if number == 1 else (index, text)
    return index, value


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "nonce"),
    [("gtt_gce-cos-85-no-nonce.pb", b""), ("gtt_gce-cos-85-nonce9009.pb", b"\x90\x09")],
)
def test_quotes_of_a_cloud_tpm_verify(corpus: Path, name: str, nonce: bytes) -> None:
    """All three banks that a cloud machine quoted verify, for its nonce and no other."""
    data = (corpus / "quotes" / name).read_bytes()
    ak = next(text for number, _, text in fields(data) if number == AK_PUBLIC)
    key = accept_attestation_key(parse_public(ak))
    banks = []
    for quote in (text for number, _, text in fields(data) if number == QUOTES):
        parts = {number: text for number, _, text in fields(quote)}
        bank = HashAlg(next(v for number, v, _ in fields(parts[PCRS]) if number == BANK))
        values = dict(pcr_value(t) for number, _, t in fields(parts[PCRS]) if number == VALUES)
        arguments = parts[QUOTED], parts[SIGNATURE], key
        verified = verify_quote(*arguments, nonce, {bank: values})
        assert verified.pcrs == {bank: values}
        banks.append(bank)
        with pytest.raises(VerificationError) as caught:
            verify_quote(*arguments, b"another", {bank: values})
        assert [finding.id for finding in caught.value.findings] == ["quote.nonce.mismatch"]
    assert banks == [HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384]


@pytest.mark.corpus
def test_a_key_that_signs_with_sha1_is_refused(corpus: Path) -> None:
    """A recorded Windows AK of scheme RSASSA with SHA-1 may not attest (A16)."""
    record = json.loads((corpus / "quotes" / "goatt_windows_gcp_shielded_vm.json").read_text())
    public = parse_public(base64.b64decode(record["AK"]["Public"]))
    with pytest.raises(VerificationError) as caught:
        accept_attestation_key(public)
    assert [finding.id for finding in caught.value.findings] == ["ak.scheme.hash"]
