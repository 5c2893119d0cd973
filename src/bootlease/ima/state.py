"""Where the replay of a measurement list stands: what a renewal goes on from.

Specification: Linux ``security/integrity/ima/ima_queue.c`` (``ima_add_template_entry``) and
``ima_crypto.c`` (``ima_calc_field_array_hash``).

Form: deterministic CBOR ``[entries, offset, scheme, {TPM_ALG_ID: value}]``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Mapping

IMA_PCR: Final = 10
"""CONFIG_IMA_MEASURE_PCR_IDX, which no distribution changes."""

MAX_STATE_BYTES: Final = 1024
"""Eight banks of 64 bytes and their heads are half of it."""

_MEMBERS: Final = 4


class TemplateHash(enum.IntEnum):
    """What a kernel extends into the banks of a PCR."""

    PER_BANK = 0
    """Since Linux 5.8: the bank's own hash of the template data; a violation is FF.. ."""

    SHA1_PADDED = 1
    """Before: SHA-1 followed by zeros in every bank, as strong as SHA-1."""


@dataclass(frozen=True, slots=True)
class IMAState:
    """A prefix of one boot's measurement list that quotes have attested.

    Attributes:
        entries: How many entries it has.
        offset: How many bytes of the kernel's list they take.
        pcrs: By bank, the value of PCR 10 after them; a bank that is missing was never replayed.
        template_hash: What the kernel extends.
    """

    entries: int
    offset: int
    pcrs: Mapping[HashAlg, bytes]
    template_hash: TemplateHash = TemplateHash.PER_BANK

    START: ClassVar[IMAState]
    """A fresh boot: no entries, every bank zero."""

    def __post_init__(self) -> None:
        """Keep a copy of the values that nobody can change.

        Raises:
            ValueError: The counts or the sizes of the values cannot be.
        """
        pcrs = {alg: bytes(value) for alg, value in sorted(self.pcrs.items())}
        if self.entries < 0 or self.offset < self.entries or not (self.entries or not self.offset):
            raise ValueError(f"{self.entries} entries in {self.offset} bytes")
        if any(len(value) != alg.size for alg, value in pcrs.items()):
            raise ValueError("a PCR value that is not as long as its bank's digests")
        object.__setattr__(self, "pcrs", MappingProxyType(pcrs))

    def __hash__(self) -> int:
        return hash((self.entries, self.offset, tuple(self.pcrs.items()), self.template_hash))

    @property
    def is_start(self) -> bool:
        """Nothing is attested yet."""
        return self.entries == 0

    def encode(self) -> bytes:
        """Return the deterministic form."""
        values = {int(alg): value for alg, value in self.pcrs.items()}
        return cbor.encode([self.entries, self.offset, int(self.template_hash), values])

    @classmethod
    def parse(cls, data: bytes) -> IMAState:
        """Read what :meth:`encode` wrote.

        Raises:
            MalformedError: The bytes are no such state.
        """
        value = cbor.decode(data, max_bytes=MAX_STATE_BYTES)
        if not isinstance(value, list) or len(value) != _MEMBERS:
            raise MalformedError("not a state of an IMA replay")
        entries, offset, scheme, values = value
        numbers = (entries, offset, scheme)
        if not all(type(number) is int for number in numbers) or not isinstance(values, dict):
            raise MalformedError("a state of an IMA replay with members of other types")
        if not all(type(digest) is bytes for digest in values.values()):
            raise MalformedError("a state of an IMA replay with members of other types")
        try:
            pcrs = {HashAlg(alg): digest for alg, digest in values.items()}
            return cls(entries, offset, pcrs, TemplateHash(scheme))
        except ValueError as exc:
            raise MalformedError(f"a state of an IMA replay: {exc}") from exc


IMAState.START = IMAState(0, 0, {})
