"""The evidence document: one quote, the logs behind it, and the leases it asks for.

Layout: docs/protocol.md, "Evidence". Everything here is unverified; ``verify_evidence`` makes
a ``VerifiedEvidence`` of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.binding import (
    LOG_KINDS,
    MAX_BINDING,
    PLAIN_BINDINGS,
    TCG_LOG,
    Binding,
    parse_binding,
)
from bootlease.evidence.fields import DIGEST_SIZE, Fields
from bootlease.evidence.request import (
    MAX_LEASES,
    MAX_TPM_STRUCTURE,
    LeaseRequest,
    confirmation_digest,
    parse_lease_request,
    scope_digest,
)
from bootlease.evidence.segment import IMA_LIST, IMASegment, cut_segment, parse_segment
from bootlease.frozen import quick_init
from bootlease.model import NODES_REMEMBERED, PCR_COUNT, FixedPCRValues, HashAlg, PCRValues

MAX_EVIDENCE: Final = 36 * 1024 * 1024
"""A document with every log inside; a verifier may accept less, and says so (413)."""
MAX_IMA_LIST: Final = 24 * 1024 * 1024
"""Bytes of an IMA list: some 160,000 entries of the usual length."""
CARRIED: Final = LOG_KINDS | {IMA_LIST}
"""What may come along in ``logs``."""


@quick_init
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
        ima: Which part of the IMA list comes along, if the challenge asked for one.
    """

    binding: Binding
    encoded_binding: bytes
    leases: tuple[LeaseRequest, ...]
    quote: bytes
    signature: bytes
    pcrs: PCRValues
    logs: Mapping[str, bytes]
    digest: bytes = field(default=b"")
    ima: IMASegment | None = field(default=None)
    _request: _Request | None = field(init=False, default=None, repr=False, compare=False)

    def request_digests(self) -> tuple[bytes, bytes]:
        """Return ``scope_digest`` and ``confirmation_digest`` of the leases."""
        request = self._request or _Request.of(self.leases)
        return request.scope, request.confirmation

    def without_logs(self) -> Evidence:
        """Return the document that ``digest`` names: this one with ``logs`` empty."""
        return dataclasses.replace(self, logs={})

    def encode(self) -> bytes:
        """Return the document's deterministic CBOR."""
        members: dict[str, Any] = {
            "v": 1,
            "binding": self.encoded_binding,
            "leases": [lease.wire() for lease in self.leases],
            "quote": self.quote,
            "signature": self.signature,
            "pcrs": {int(bank): dict(values) for bank, values in self.pcrs.items()},
            "logs": dict(self.logs),
        }
        if self.ima is not None:
            members["ima"] = self.ima.wire()
        return cbor.encode(members)

    def named_logs(self) -> tuple[bytes, ...]:
        """Return the digest of everything long that the document names; see ``named_logs``."""
        return named_logs(self.binding.logs, self.ima)

    def carried_logs(self) -> Mapping[bytes, bytes]:
        """Return what came along, by the digests under which the document names it."""
        digests = dict(self.binding.logs)
        if self.ima is not None:
            digests[IMA_LIST] = self.ima.digest
        return {digests[kind]: log for kind, log in self.logs.items()}


def named_logs(logs: Mapping[str, bytes], ima: IMASegment | None) -> tuple[bytes, ...]:
    """Return the digests under which what evidence names is kept: its logs, then its IMA list.

    Args:
        logs: Digests of the logs that the binding names.
        ima: The part of the IMA list; an empty one is kept nowhere.
    """
    digests = tuple(logs.values())
    return digests if ima is None or ima.empty else (*digests, ima.digest)


def parse_evidence(data: bytes, *, max_bytes: int = MAX_EVIDENCE) -> Evidence:
    """Parse an evidence document into unverified values.

    Raises:
        MalformedError: The bytes are not a deterministic evidence document of this version.
    """
    plain = _parse_plain(data) if len(data) <= max_bytes else None
    return plain if plain is not None else _parse_any(data, max_bytes)


_NO_LOG: Final = b"\xa7\x61v\x01\x64logs\xa0"
_ONE_LOG: Final = b"\xa7\x61v\x01\x64logs\xa1\x63tcg"
_WITH_IMA: Final = b"\xa8\x61v\x01\x63ima"
_LOGS: Final = b"\x64logs"
_NONE: Final = b"\xa0"
_IMA_ALONE: Final = _LOGS + b"\xa1\x63ima"
_IMA_FIRST: Final = _LOGS + b"\xa2\x63ima"
_TCG_ALONE: Final = _LOGS + b"\xa1\x63tcg"
_TCG: Final = b"\x63tcg"
_PCRS: Final = b"\x64pcrs"
_ONE_BANK_OF: Final = tuple(b"%s\xa1\x0b%c" % (_PCRS, 0xA0 + count) for count in range(PCR_COUNT))
_ENTRY: Final = 35
"""A PCR index below 24, the head of a byte string of 32, and these, in deterministic CBOR."""
_ENTRIES: Final = tuple(struct.Struct(f"3x{DIGEST_SIZE}s" * count) for count in range(PCR_COUNT))
_QUOTE_SIZE: Final = 145
"""TPMS_ATTEST of a quote of one bank by a key with a SHA-256 name."""
_QUOTE: Final = b"\x65quote\x58" + bytes((_QUOTE_SIZE,))
_LEASES: Final = b"\x66leases"
_BINDING: Final = b"\x67binding"
_SIGNATURE: Final = b"\x69signature"
_SIGNATURE_SIZES: Final = (72, 262)
"""TPMT_SIGNATURE by a key on P-256, and by one of RSA-2048."""
_MAX_REMEMBERED: Final = 1024
"""Anybody can send documents: what is kept of them is bounded in number and in size."""


class _Tail(NamedTuple):
    """The last members of a document, binding and signature: known bytes around new ones.

    Attributes:
        layout: Of the members, names and digests in turn.
        names: The bytes that stand before each digest, and before the signature.
        binding: Where the binding begins.
        binding_end: Where it ends.
    """

    layout: struct.Struct
    names: tuple[bytes, ...]
    binding: int
    binding_end: int

    @classmethod
    def of(cls, names: tuple[bytes, ...], signature_size: int) -> _Tail:
        """Lay out a binding that has its digests after ``names``, and a signature."""
        binding_size = sum(map(len, names)) + len(names) * DIGEST_SIZE
        head = _BINDING + _head(binding_size)
        form = "".join(f"{len(name)}s{DIGEST_SIZE}s" for name in (head + names[0], *names[1:]))
        last = _SIGNATURE + _head(signature_size)
        return cls(
            struct.Struct(f"{form}{len(last)}s{signature_size}s"),
            (head + names[0], *names[1:], last),
            len(head),
            len(head) + binding_size,
        )


def _head(size: int) -> bytes:
    return cbor.encode_bytes(bytes(size))[:-size]


_TAILS: Final = tuple(
    _Tail.of(names, size) for size in _SIGNATURE_SIZES for names in PLAIN_BINDINGS
)


def _parse_plain(data: bytes) -> Evidence | None:
    """Cut a document at the names of its members; ``None`` where that does not succeed.

    Deterministic CBOR leaves one encoding and one order, so names are compared as bytes. A name
    may also stand inside a value; but no item of CBOR is the beginning of another, so what is cut
    there does not decode. PCR values and leases are those of the renewal before: decoded once.
    Measured 5 us against 50 us for the general decoder, which judges all that is unusual.
    """
    logs: dict[str, bytes] = {}
    ima: IMASegment | None = None
    head, end = _NO_LOG, len(_NO_LOG)
    try:
        if data.startswith(_WITH_IMA):
            ima, head, logs, end = _plain_logs(data)
        elif not data.startswith(_NO_LOG):
            if not data.startswith(_ONE_LOG):
                return None
            logs[TCG_LOG], end = cbor.cut_bytes(data, len(_ONE_LOG))
        for tail in _TAILS:
            start = len(data) - tail.layout.size
            if start > end and data.startswith(_BINDING, start):
                break
        else:
            return None
        parts = tail.layout.unpack_from(data, start)
        quote = data.index(_QUOTE, end, start)
        leases = quote + len(_QUOTE) + _QUOTE_SIZE
        if parts[::2] != tail.names:
            return None
        if quote - end > _MAX_REMEMBERED or start - leases > _MAX_REMEMBERED:
            return None
        pcrs = _plain_pcrs(data[end:quote])
        wishes = _plain_leases(data[leases:start])
    except (MalformedError, ValueError):
        return None
    confirmation, log, *previous, nonce, scope, signature = parts[1::2]
    evidence = Evidence(
        Binding(nonce, previous[0] if previous else None, scope, confirmation, {TCG_LOG: log}),
        data[start + tail.binding : start + tail.binding_end],
        wishes.leases,
        data[leases - _QUOTE_SIZE : leases],
        signature,
        pcrs,
        logs,
        hashlib.sha256(head + data[end:] if logs else data).digest(),
        ima,
    )
    object.__setattr__(evidence, "_request", wishes)
    return evidence


def _plain_logs(data: bytes) -> tuple[IMASegment, bytes, dict[str, bytes], int]:
    """Cut the beginning of a document that names a part of an IMA list.

    Returns:
        The part, what the document would begin with without its logs, the logs, and their end.

    Raises:
        MalformedError: It is laid out in another way, or is no document.
    """
    ima, at = cut_segment(data, len(_WITH_IMA))
    head = data[:at] + _LOGS + _NONE
    logs: dict[str, bytes] = {}
    if data.startswith(_LOGS + _NONE, at):
        return ima, head, logs, len(head)
    if data.startswith(_TCG_ALONE, at):
        logs[TCG_LOG], end = cbor.cut_bytes(data, at + len(_TCG_ALONE))
        return ima, head, logs, end
    if not data.startswith((_IMA_ALONE, _IMA_FIRST), at):
        raise MalformedError("other logs stand here")
    logs[IMA_LIST], end = cbor.cut_bytes(data, at + len(_IMA_ALONE))
    if data.startswith(_IMA_FIRST, at):
        if not data.startswith(_TCG, end):
            raise MalformedError("another log stands here")
        logs[TCG_LOG], end = cbor.cut_bytes(data, end + len(_TCG))
    _demand_list(ima, logs)
    return ima, head, logs, end


def _demand_list(ima: IMASegment | None, logs: Mapping[str, bytes]) -> None:
    # One form for each meaning: nothing comes along under a name that says nothing of it.
    entries = logs.get(IMA_LIST)
    if entries is None:
        return
    if ima is None:
        raise MalformedError("evidence carries an IMA list without naming its first entry")
    if not 0 < len(entries) <= MAX_IMA_LIST:
        raise MalformedError(f"evidence carries an IMA list of no or over {MAX_IMA_LIST} bytes")


class _Request(NamedTuple):
    """The leases asked for and the two digests by which a binding names them."""

    leases: tuple[LeaseRequest, ...]
    scope: bytes
    confirmation: bytes

    @classmethod
    def of(cls, leases: tuple[LeaseRequest, ...]) -> _Request:
        """Compute the digests."""
        return cls(leases, scope_digest(leases), confirmation_digest(leases))


@functools.lru_cache(maxsize=4096)
def _plain_pcrs(member: bytes) -> PCRValues:
    values = _cut_pcrs(member)
    if values is None:
        values = _parse_pcrs(Fields(_member(_PCRS, member), "evidence"))
    return FixedPCRValues(values)


def _cut_pcrs(member: bytes) -> PCRValues | None:
    """Cut the values of one SHA-256 bank; ``None`` if they are laid out in another way.

    Nearly every node presents the same PCRs of the same bank, and no other has its values.
    """
    at = len(_ONE_BANK_OF[0])
    indices = _ascending(member[at::_ENTRY])
    count = len(indices)
    if (
        not 0 < count < PCR_COUNT
        or member[:at] != _ONE_BANK_OF[count]
        or member[at + 1 :: _ENTRY] != b"\x58" * count
        or member[at + 2 :: _ENTRY] != b"\x20" * count
        or len(member) != at + count * _ENTRY
    ):
        return None
    values = _ENTRIES[count].unpack_from(member, at)
    return {HashAlg.SHA256: dict(zip(indices, values, strict=True))}


@functools.lru_cache(maxsize=64)
def _ascending(keys: bytes) -> tuple[int, ...]:
    """Return the PCR indices that these bytes of CBOR encode, none unless strictly ascending."""
    indices = tuple(keys)
    sound = sorted(set(indices)) == list(indices) and indices[-1:] < (PCR_COUNT,)
    return indices if sound else ()


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _plain_leases(member: bytes) -> _Request:
    return _Request.of(_parse_leases(Fields(_member(_LEASES, member), "evidence")))


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
        logs=_parse_logs(fields.map("logs", at_most=len(CARRIED))),
        ima=parse_segment(fields.array("ima", at_most=2)) if fields.has("ima") else None,
    )
    fields.end()
    _demand_list(unnamed.ima, unnamed.logs)
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
        if not isinstance(kind, str) or kind not in CARRIED:
            raise MalformedError("evidence carries a log of unknown kind")
        if type(data) is not bytes:
            raise MalformedError(f"evidence needs bytes for the log {kind!r}")
    return dict(logs)
