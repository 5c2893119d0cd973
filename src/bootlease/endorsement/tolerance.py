"""What real EK certificates and CAs get wrong and is read all the same: each of it by its name.

A tolerance changes how bytes are found and read, never which bytes a signature covers: that is
verified over the original. Whatever is tolerated is told, in the enrolment's findings, and whatever
is not in this list is malformed.

Sources: the certificates themselves, by vendor below; TCG PC Client Specific Implementation
Specification for Conventional BIOS 1.21 §7.4 (TCG_PCCLIENT_STORED_CERT, the frame in NV memory).
"""

from __future__ import annotations

import enum
from typing import Final

from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding

_FRAME_TAG: Final = b"\x10\x01"
_FRAME_LENGTH: Final = 7
_FULL_CERTIFICATE: Final = b"\x10\x02"
_FULL_TYPE: Final = 0
_LONG_FORM: Final = b"\x30\x82"


class Tolerance(enum.Enum):
    """One deviation that is read all the same.

    The value is the last part of a finding's id.
    """

    NV_FRAME = "nv-frame"
    """A TCG_PCCLIENT_STORED_CERT header before the certificate (STM, from NV memory)."""
    PADDING = "padding"
    """One byte value, repeated, after the certificate (STM, Nuvoton: an NV index read whole)."""
    SET_ORDER = "set-order"
    """A SET OF in a name that is not sorted (Nuvoton's CAs and what they issue)."""
    ECDSA_PARAMETERS = "ecdsa-parameters"
    """NULL parameters beside an ECDSA algorithm identifier (Intel's OnDie CA root)."""
    OAEP_KEY = "oaep-key"
    """An RSA key of the type RSAES-OAEP (STM and Nuvoton, TPM 1.2 and field-upgraded)."""
    NO_KEY_USAGE = "no-key-usage"
    """An EK certificate without key usage, which RFC 5280 allows and the EK profile does not."""
    SHA1_SIGNATURE = "sha1-signature"
    """A certificate below the root that is signed over SHA-1: only where policy allows it."""

    def finding(self) -> Finding:
        """Return what an enrolment says of it."""
        return Finding(f"endorsement.tolerated.{self.value}", _MESSAGES[self], effect=Effect.NOTES)


_MESSAGES: Final = {
    Tolerance.NV_FRAME: "The EK certificate came in the frame of the TPM's NV memory, which was"
    " taken off; nothing signs the frame.",
    Tolerance.PADDING: "Bytes after the EK certificate, one value repeated, were left out; nothing"
    " signs them.",
    Tolerance.SET_ORDER: "A name in the EK's certificates is not sorted as DER demands; its"
    " signature was verified over it as it is.",
    Tolerance.ECDSA_PARAMETERS: "An ECDSA signature of the EK's certificates names NULL parameters,"
    " which RFC 5758 forbids.",
    Tolerance.OAEP_KEY: "The EK certificate names its RSA key as one for RSAES-OAEP alone.",
    Tolerance.NO_KEY_USAGE: "The EK certificate does not say what its key may be used for.",
    Tolerance.SHA1_SIGNATURE: "A certificate of the EK is signed over SHA-1, whose collisions can"
    " be made.",
}


def unframed(data: bytes) -> tuple[bytes, frozenset[Tolerance]]:
    """Return the certificate within what an NV index or a file holds, and what was taken off.

    Raises:
        MalformedError: There is a frame or an end that is none of those known.
    """
    seen: set[Tolerance] = set()
    if data[:2] == _FRAME_TAG:
        data = _out_of_frame(data)
        seen.add(Tolerance.NV_FRAME)
    if data[:2] == _LONG_FORM:
        end = 4 + int.from_bytes(data[2:4], "big")
        padding = data[end:]
        if padding:
            # What is not one value repeated is something, and nobody can say what it means.
            if padding.count(padding[0]) != len(padding):
                raise MalformedError(f"a certificate has {len(padding)} bytes too many after it")
            data = data[:end]
            seen.add(Tolerance.PADDING)
    return data, frozenset(seen)


def _out_of_frame(data: bytes) -> bytes:
    # tag 0x1001, certType u8, certSize u16 (of what follows it), then tag 0x1002 and the DER.
    size = int.from_bytes(data[3:5], "big") - len(_FULL_CERTIFICATE)
    if (
        len(data) <= _FRAME_LENGTH
        or data[2] != _FULL_TYPE
        or data[5:_FRAME_LENGTH] != _FULL_CERTIFICATE
        or data[_FRAME_LENGTH : _FRAME_LENGTH + 2] != _LONG_FORM
        or size != 4 + int.from_bytes(data[_FRAME_LENGTH + 2 : _FRAME_LENGTH + 4], "big")
    ):
        raise MalformedError("a certificate is in an NV frame of a kind that is not known")
    # Behind the size that the frame states there may be the rest of the NV index.
    return data[_FRAME_LENGTH:]
