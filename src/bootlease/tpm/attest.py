"""TPMS_ATTEST: what a TPM says when it quotes PCRs or certifies a key.

Specification: TPM 2.0 Library part 2 §10.12.12 (TPMS_ATTEST), §10.12.1
(TPMS_QUOTE_INFO), §10.12.3 (TPMS_CERTIFY_INFO), §10.6.2 (TPMS_PCR_SELECTION),
§10.11.1 (TPMS_CLOCK_INFO)::

    magic u32 | type u16 | qualifiedSigner 2B | extraData 2B |
    clock u64, resetCount u32, restartCount u32, safe u8 | firmwareVersion u64 | attested

Everything here is *unverified*: a parsed value says what bytes spell, not that a TPM
made them. ``verify`` decides that. The magic is kept, not checked, so that a wrong one
is a finding beside the others; no verified type exists without the check.

Not handled on purpose: the bodies of the other attestation types (time, creation, NV,
audit). They are recognised and kept as bytes; nothing here gives them meaning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.model import ClockInfo, HashAlg
from bootlease.tpm.algorithms import TPM_GENERATED, TPMST
from bootlease.tpm.wire import Reader, sized, u16, u32

MAX_NAME: Final = 2 + 64
"""A name is a hash algorithm and a digest of at most 64 bytes; a handle is 4 bytes."""
MAX_DATA: Final = 2 + 64
"""TPM2B_DATA: at most sizeof(TPMT_HA) (part 2 §10.4.3)."""
MAX_DIGEST: Final = 64
MAX_SELECTIONS: Final = 16
"""TPML_PCR_SELECTION: at most HASH_COUNT (part 2 §10.9.7); tpm2-tss too says 16."""
MAX_SIZE_OF_SELECT: Final = 4

_HEAD: Final = struct.Struct(">IHH")
_NAME_SIZE: Final = 34
_DIGEST_SIZE: Final = 32
_PC_CLIENT_SELECT: Final = 3
_PLAIN_QUOTE: Final = struct.Struct(
    f">8s{_NAME_SIZE}s2s{_DIGEST_SIZE}sQIIBQ4sHB{_PC_CLIENT_SELECT}s2s{_DIGEST_SIZE}s"
)
"""A quote of one bank by a key with a SHA-256 name, over 32 bytes of qualifying data."""
_PLAIN_LENGTHS: Final = (
    _HEAD.pack(TPM_GENERATED, TPMST.ATTEST_QUOTE, _NAME_SIZE),
    u16(_DIGEST_SIZE),
    u32(1),
    _PC_CLIENT_SELECT,
    u16(_DIGEST_SIZE),
)
_CLOCK: Final = struct.Struct(">QIIBQ")
_SELECTION: Final = struct.Struct(">HB")
_QUOTE: Final = int(TPMST.ATTEST_QUOTE)
_HASHES: Final[dict[int, HashAlg]] = {int(alg): alg for alg in HashAlg}


class PCRSelection(NamedTuple):
    """TPMS_PCR_SELECTION: PCRs of one bank. A tuple, because it is part of keys of memos.

    Attributes:
        alg: The bank: a ``HashAlg`` where known, else the TPM_ALG_ID that was read.
        pcrs: Selected indices, ascending, without repetition.
        size_of_select: Bytes of the bit map on the wire; a PC client TPM writes 3.
    """

    alg: int
    pcrs: tuple[int, ...]
    size_of_select: int = 3

    def marshal(self) -> bytes:
        """Return the wire form."""
        bits = sum(1 << pcr for pcr in self.pcrs)
        return (
            u16(self.alg)
            + bytes([self.size_of_select])
            + bits.to_bytes(self.size_of_select, "little")
        )


@dataclass(frozen=True, slots=True)
class TPMSQuoteInfo:
    """TPMS_QUOTE_INFO: which PCRs were quoted and the digest over their values."""

    selections: tuple[PCRSelection, ...]
    pcr_digest: bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        selections = b"".join(selection.marshal() for selection in self.selections)
        return u32(len(self.selections)) + selections + sized(self.pcr_digest)


@dataclass(frozen=True, slots=True)
class TPMSCertifyInfo:
    """TPMS_CERTIFY_INFO: name and qualified name of the certified object."""

    name: bytes
    qualified_name: bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        return sized(self.name) + sized(self.qualified_name)


@dataclass(frozen=True, slots=True)
class TPMSAttest:
    """TPMS_ATTEST, unverified.

    Attributes:
        magic: ``TPM_GENERATED`` if a TPM made this.
        type: A ``TPMST`` value, or the number that was read.
        qualified_signer: Qualified name of the signing key.
        extra_data: The caller's qualifying data.
        clock_info: Clock and reset counters.
        firmware_version: Vendor's firmware version.
        attested: The body; bytes for the types that have no meaning here.
    """

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: TPMSQuoteInfo | TPMSCertifyInfo | bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        clock = self.clock_info
        body = self.attested if isinstance(self.attested, bytes) else self.attested.marshal()
        return (
            struct.pack(">IH", self.magic, self.type)
            + sized(self.qualified_signer)
            + sized(self.extra_data)
            + _CLOCK.pack(
                clock.clock,
                clock.reset_count,
                clock.restart_count,
                clock.safe,
                self.firmware_version,
            )
            + body
        )


QuoteMembers = tuple[int, int, bytes, bytes, ClockInfo, int, tuple[PCRSelection, ...] | None, bytes]
"""The members of a TPMS_ATTEST in their order, those of its TPMS_QUOTE_INFO last."""


@lru_cache(maxsize=512)
def _selection(alg: int, bitmap: bytes) -> tuple[PCRSelection]:
    # A fleet quotes what its policy demands: nearly always the same.
    return (PCRSelection(_HASHES.get(alg, alg), _selected(bitmap), len(bitmap)),)


@lru_cache(maxsize=512)
def _selected(bitmap: bytes) -> tuple[int, ...]:
    bits = int.from_bytes(bitmap, "little")
    return tuple(pcr for pcr in range(bits.bit_length()) if bits >> pcr & 1)


def _read_selection(reader: Reader) -> PCRSelection:
    alg, size = reader.unpack(_SELECTION)
    if size > MAX_SIZE_OF_SELECT:
        raise MalformedError(
            f"sizeofSelect {size} is above the limit of {MAX_SIZE_OF_SELECT}",
            offset=reader.offset - 1,
        )
    return _selection(alg, reader.take(size))[0]


def read_quote_info(reader: Reader) -> TPMSQuoteInfo:
    """Read TPMS_QUOTE_INFO as the last thing that ``reader`` holds.

    Raises:
        MalformedError: The bytes have another form.
    """
    count = reader.u32()
    if count > MAX_SELECTIONS:
        raise MalformedError(
            f"{count} PCR selections are above the limit of {MAX_SELECTIONS}",
            offset=reader.offset - 4,
        )
    selections = tuple([_read_selection(reader) for _ in range(count)])
    info = TPMSQuoteInfo(selections, reader.sized(MAX_DIGEST))
    reader.finish()
    return info


def read_certify_info(reader: Reader) -> TPMSCertifyInfo:
    """Read TPMS_CERTIFY_INFO as the last thing that ``reader`` holds.

    Raises:
        MalformedError: The bytes have another form.
    """
    info = TPMSCertifyInfo(reader.sized(MAX_NAME), reader.sized(MAX_NAME))
    reader.finish()
    return info


def read_header(reader: Reader) -> tuple[int, int, bytes, bytes, ClockInfo, int]:
    """Read what precedes the attested body, in the order of ``TPMSAttest``'s fields.

    Raises:
        MalformedError: The bytes have another form.
    """
    magic, kind, size = reader.unpack(_HEAD)
    if size > MAX_NAME:
        raise MalformedError(f"qualifiedSigner of {size} bytes is above {MAX_NAME}", offset=6)
    signer = reader.take(size)
    extra_data = reader.sized(MAX_DATA)
    clock, resets, restarts, safe, firmware = reader.unpack(_CLOCK)
    # TPMI_YES_NO is 0 or 1: another value would be a second spelling of "yes" (A21).
    if safe > 1:
        raise MalformedError(f"clockInfo.safe is {safe}, not 0 or 1", offset=reader.offset - 9)
    return magic, kind, signer, extra_data, ClockInfo(clock, resets, restarts, safe == 1), firmware


def read_quote(data: bytes) -> QuoteMembers:
    """Read a TPMS_ATTEST that is to be a quote; another has no selection and no digest.

    Raises:
        MalformedError: The bytes have another form.
    """
    return _read_plain_quote(data) or _read_any_quote(data)


def _read_any_quote(data: bytes) -> QuoteMembers:
    reader = Reader(data)
    header = read_header(reader)
    if header[:2] != (TPM_GENERATED, _QUOTE):
        return (*header, None, b"")
    info = read_quote_info(reader)
    return (*header, info.selections, info.pcr_digest)


def _read_plain_quote(data: bytes) -> QuoteMembers | None:
    """Read the one layout that nearly all quotes have; ``None`` if these bytes have another.

    Every length in it is a constant and is compared: measured 1.3 us against 6 us for the reader.
    """
    if len(data) != _PLAIN_QUOTE.size:
        return None
    # fmt: off
    (
        head, signer, size, extra_data, clock, resets, restarts, safe, firmware,
        count, alg, select, bitmap, digest_size, digest,
    ) = _PLAIN_QUOTE.unpack(data)
    # fmt: on
    if (head, size, count, select, digest_size) != _PLAIN_LENGTHS or safe > 1:
        return None
    clock_info = ClockInfo(clock, resets, restarts, safe == 1)
    selections = _selection(alg, bitmap)
    return TPM_GENERATED, _QUOTE, signer, extra_data, clock_info, firmware, selections, digest


def parse_header(data: bytes) -> TPMSAttest:
    """Parse TPMS_ATTEST up to its body, which stays bytes whatever its type.

    Args:
        data: Untrusted bytes, without a TPM2B length.

    Returns:
        The unverified structure.

    Raises:
        MalformedError: What precedes the body has another form.
    """
    reader = Reader(data)
    return TPMSAttest(*read_header(reader), reader.rest())


def parse_attest(data: bytes) -> TPMSAttest:
    """Parse TPMS_ATTEST.

    Args:
        data: Untrusted bytes, without a TPM2B length.

    Returns:
        The unverified structure; its body is parsed for quotes and certifications.

    Raises:
        MalformedError: The bytes have another form, or more follow.
    """
    reader = Reader(data)
    magic, kind, signer, extra_data, clock, firmware = read_header(reader)
    attested: TPMSQuoteInfo | TPMSCertifyInfo | bytes
    if magic == TPM_GENERATED and kind == TPMST.ATTEST_QUOTE:
        attested = read_quote_info(reader)
    elif magic == TPM_GENERATED and kind == TPMST.ATTEST_CERTIFY:
        attested = read_certify_info(reader)
    else:
        attested = reader.rest()
    return TPMSAttest(magic, kind, signer, extra_data, clock, firmware, attested)
