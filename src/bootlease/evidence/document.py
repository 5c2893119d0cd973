"""The evidence document: one quote, the logs behind it, and the leases it asks for.

Layout: docs/protocol.md, "Evidence". Everything here is unverified; ``verify_evidence`` makes
a ``VerifiedEvidence`` of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.binding import LOG_KINDS, MAX_BINDING, Binding, parse_binding
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import (
    MAX_LEASES,
    MAX_TPM_STRUCTURE,
    LeaseRequest,
    parse_lease_request,
)
from bootlease.model import PCR_COUNT, HashAlg, PCRValues

MAX_EVIDENCE: Final = 16 * 1024 * 1024
"""A document with every log inside; a verifier may accept less, and says so (413)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evidence document as presented: unverified.

    Attributes:
        binding: What the quote claims to be bound to.
        encoded_binding: The exact bytes whose SHA-256 must be the quote's qualifyingData.
        leases: The leases asked for.
        quote: TPMS_ATTEST.
        signature: TPMT_SIGNATURE over ``quote``.
        pcrs: PCR values as presented.
        logs: Logs that came along, by kind; others are named by digest in the binding only.
        digest: SHA-256 of the document with ``logs`` empty. The binding fixes every log by its
            digest, so the same evidence has one name, whether its logs come along or not.
    """

    binding: Binding
    encoded_binding: bytes
    leases: tuple[LeaseRequest, ...]
    quote: bytes
    signature: bytes
    pcrs: PCRValues
    logs: Mapping[str, bytes]
    digest: bytes = field(default=b"")

    def without_logs(self) -> Evidence:
        """Return the document that ``digest`` names: this one with ``logs`` empty."""
        return dataclasses.replace(self, logs={})

    def encode(self) -> bytes:
        """Return the document's deterministic CBOR."""
        return cbor.encode(
            {
                "v": 1,
                "binding": self.encoded_binding,
                "leases": [lease.wire() for lease in self.leases],
                "quote": self.quote,
                "signature": self.signature,
                "pcrs": {int(bank): dict(values) for bank, values in self.pcrs.items()},
                "logs": dict(self.logs),
            }
        )


def parse_evidence(data: bytes, *, max_bytes: int = MAX_EVIDENCE) -> Evidence:
    """Parse an evidence document into unverified values.

    Raises:
        MalformedError: The bytes are not a deterministic evidence document of this version.
    """
    plain = _parse_plain(data) if len(data) <= max_bytes else None
    return plain if plain is not None else _parse_any(data, max_bytes)


_NO_LOG: Final = b"\xa7\x61v\x01\x64logs\xa0"
_ONE_LOG: Final = b"\xa7\x61v\x01\x64logs\xa1\x63tcg"
_PCRS: Final = b"\x64pcrs"
_QUOTE: Final = b"\x65quote"
_LEASES: Final = b"\x66leases"
_BINDING: Final = b"\x67binding"
_SIGNATURE: Final = b"\x69signature"
_MAX_REMEMBERED: Final = 1024
"""Anybody can send documents: what is kept of them is bounded in number and in size."""


def _parse_plain(data: bytes) -> Evidence | None:
    """Cut a document at the names of its members; ``None`` where that does not succeed.

    Deterministic CBOR leaves one encoding and one order, so names are compared as bytes. A name
    may also stand inside a value; but no item of CBOR is the beginning of another, so what is cut
    there does not decode. PCR values and leases are those of the renewal before: decoded once.
    Measured 8 us against 50 us for the general decoder, which judges all that is unusual.
    """
    logs: dict[str, bytes] = {}
    end = len(_NO_LOG)
    try:
        if not data.startswith(_NO_LOG):
            if not data.startswith(_ONE_LOG):
                return None
            logs["tcg"], end = cbor.cut_bytes(data, len(_ONE_LOG))
        log_end = end
        start, end = end, data.index(_QUOTE, end)
        pcrs = _plain_pcrs(data[start:end]) if end - start <= _MAX_REMEMBERED else None
        quote, end = cbor.cut_bytes(data, end + len(_QUOTE))
        start, end = end, data.index(_BINDING, end)
        leases = _plain_leases(data[start:end]) if end - start <= _MAX_REMEMBERED else None
        encoded_binding, end = cbor.cut_bytes(data, end + len(_BINDING))
        if not pcrs or not leases or not data.startswith(_SIGNATURE, end):
            return None
        signature, end = cbor.cut_bytes(data, end + len(_SIGNATURE))
        binding = parse_binding(encoded_binding)
    except (MalformedError, ValueError):
        return None
    if end != len(data) or len(quote) > MAX_TPM_STRUCTURE or len(signature) > MAX_TPM_STRUCTURE:
        return None
    core = data if not logs else _NO_LOG + data[log_end:]
    digest = hashlib.sha256(core).digest()
    return Evidence(binding, encoded_binding, leases, quote, signature, pcrs, logs, digest)


@functools.lru_cache(maxsize=4096)
def _plain_pcrs(member: bytes) -> PCRValues:
    values = _parse_pcrs(Fields(_member(_PCRS, member), "evidence"))
    # Shared by documents, so that nobody may write to it.
    return MappingProxyType({alg: MappingProxyType(bank) for alg, bank in values.items()})


@functools.lru_cache(maxsize=16_384)
def _plain_leases(member: bytes) -> tuple[LeaseRequest, ...]:
    return _parse_leases(Fields(_member(_LEASES, member), "evidence"))


def _member(name: bytes, member: bytes) -> Any:  # noqa: ANN401 - CBOR is dynamic
    """Decode the map whose one member is cut out of a document."""
    if not member.startswith(name):
        raise MalformedError("another member stands here")
    return cbor.decode(b"\xa1" + member, max_bytes=1 + _MAX_REMEMBERED)


def _parse_any(data: bytes, max_bytes: int) -> Evidence:
    fields = Fields(cbor.decode(data, max_bytes=max_bytes), "evidence")
    fields.version("v", 1)
    encoded_binding = fields.octets("binding", at_most=MAX_BINDING)
    unnamed = Evidence(
        binding=parse_binding(encoded_binding),
        encoded_binding=encoded_binding,
        leases=_parse_leases(fields),
        quote=fields.octets("quote", at_most=MAX_TPM_STRUCTURE),
        signature=fields.octets("signature", at_most=MAX_TPM_STRUCTURE),
        pcrs=_parse_pcrs(fields),
        logs=_parse_logs(fields.map("logs", at_most=len(LOG_KINDS))),
    )
    fields.end()
    core = unnamed.without_logs().encode() if unnamed.logs else data
    return dataclasses.replace(unnamed, digest=hashlib.sha256(core).digest())


def _parse_leases(fields: Fields) -> tuple[LeaseRequest, ...]:
    leases = fields.array("leases", at_most=MAX_LEASES)
    if not leases:
        raise MalformedError("evidence asks for no lease")
    return tuple(map(parse_lease_request, leases))


def _parse_pcrs(fields: Fields) -> PCRValues:
    values: dict[HashAlg, Mapping[int, bytes]] = {}
    for number, bank in fields.map("pcrs", at_most=len(HashAlg)).items():
        try:
            alg = HashAlg(number)
        except ValueError as exc:
            raise MalformedError("evidence has PCR values of an unknown bank") from exc
        if not isinstance(bank, Mapping) or len(bank) > PCR_COUNT:
            raise MalformedError(f"evidence has no map of PCR values for bank {alg.label}")
        size = alg.size
        for index, value in bank.items():
            if type(index) is not int or not 0 <= index < PCR_COUNT:
                raise MalformedError(f"evidence has an impossible PCR index in bank {alg.label}")
            if type(value) is not bytes or len(value) != size:
                raise MalformedError(f"PCR {index} of bank {alg.label} needs {size} bytes")
        values[alg] = bank
    return values


def _parse_logs(logs: Mapping[Any, Any]) -> Mapping[str, bytes]:
    for kind, data in logs.items():
        if not isinstance(kind, str) or kind not in LOG_KINDS:
            raise MalformedError("evidence carries a log of unknown kind")
        if type(data) is not bytes:
            raise MalformedError(f"evidence needs bytes for the log {kind!r}")
    return dict(logs)
