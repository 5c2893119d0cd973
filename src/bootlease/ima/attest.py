"""Replaying a measurement list up to a quoted PCR 10.

Specification: Linux ``security/integrity/ima/ima_queue.c`` (``ima_add_template_entry``: a
violation extends FF.. instead of its hash), ``ima_crypto.c`` (``ima_calc_field_array_hash``).

The list is read after the quote, and the kernel goes on measuring: it may run ahead of the
quote, never behind. So the attested entries are the prefix whose replay equals the quoted value
in every quoted bank. There is one at most, since two would be a collision of the bank's hash.

Kernels before 5.8 extend SHA-1 followed by zeros into every bank. Whoever can make two
template data with one SHA-1 can then measure one and show the other, so that is accepted only
where the caller says so, for a whole boot, and never for one bank or one entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.eventlog.hashes import hash_constructor
from bootlease.ima.framing import (
    DEFAULT_LIMITS,
    count_entries,
    entries_between,
    hashed_data,
    head_layout,
    read_head,
    template_hash_size,
)
from bootlease.ima.state import IMA_PCR, IMAState, TemplateHash
from bootlease.ima.templates import IMA_TEMPLATE
from bootlease.model import Finding, HashAlg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bootlease.eventlog.hashes import NewHash
    from bootlease.ima.entry import IMAEntry
    from bootlease.ima.framing import IMALimits

_SHA1_SIZE: Final = HashAlg.SHA1.size
_NO_FIELDS: Final = (0, b"", -2, b"", 0)
"""What stands for the head of an entry that does not fit: no name has this length."""


@dataclass(frozen=True, slots=True)
class AttestedList:
    """Entries that a quote over PCR 10 attests.

    Attributes:
        previous: Where the replay went on from.
        state: Where it stands now; ``state.entries - previous.entries`` entries are new.
        ahead: Entries that follow and that no quote covers yet. They count for nothing.
    """

    previous: IMAState
    state: IMAState
    ahead: int
    _data: bytes = field(repr=False)
    _hash_size: int = field(repr=False)

    def occurrences(self, text: bytes) -> int:
        """Return how often bytes occur in the newly attested part, wherever in its entries."""
        return self._data.count(text, 0, self.state.offset - self.previous.offset)

    def entries(self) -> Iterator[IMAEntry]:
        """Yield the newly attested entries, one at a time, each made when it is asked for."""
        end = self.state.offset - self.previous.offset
        return entries_between(
            self._data, 0, end, number=self.previous.entries, hash_size=self._hash_size
        )


def attest_list(
    state: IMAState,
    data: bytes,
    quoted: Mapping[HashAlg, bytes],
    *,
    limits: IMALimits = DEFAULT_LIMITS,
    unsafe_sha1_padding: bool = False,
) -> AttestedList:
    """Find the entries that quoted values of PCR 10 attest.

    Proves that the kernel extended these entries' template data, in this order, and nothing
    else since the boot. Does not prove that the first of them is the boot aggregate of this
    boot, see :func:`~bootlease.ima.aggregate.boot_aggregate_findings`, nor anything about
    template names, about the data of violations, or about what the entries mean.

    Args:
        state: What earlier quotes of the same boot attested; ``IMAState.START`` for none.
        data: Unverified bytes of the kernel's binary list from entry ``state.entries`` on.
        quoted: PCR 10 by bank, from a verified quote; at least one.
        limits: What the list may cost.
        unsafe_sha1_padding: Whether a list from its start may be one of a kernel that extends
            SHA-1 followed by zeros.

    Returns:
        The attested entries and the state to go on from.

    Raises:
        MalformedError: The bytes are no list.
        UnknownTemplateError: An entry has a template that no kernel defines.
        VerificationError: No prefix of the list leads to the quoted values, nothing was ever
            extended into a bank, ``state`` or this build lacks one, or an entry's SHA-1 is not
            its data's.
        ValueError: No bank is quoted.
    """
    if not quoted:
        raise ValueError("a list is attested by at least one bank")
    if len(data) > limits.max_bytes:
        raise MalformedError(f"a measurement list of more than {limits.max_bytes} bytes")
    hash_size = template_hash_size(data)
    if unusable := _unusable_banks(state, quoted):
        raise VerificationError(*unusable)
    replay = _Replay(state, data, hash_size, limits.max_entries)
    scheme, failed = state.template_hash, replay.failures(quoted, state.template_hash)
    if failed and state.is_start:
        padded = replay.failures(quoted, TemplateHash.SHA1_PADDED)
        if not padded and not unsafe_sha1_padding:
            raise VerificationError(_PADDED)
        if not padded:
            scheme, failed = TemplateHash.SHA1_PADDED, ()
    if failed or replay.contradictions:
        raise VerificationError(*replay.contradictions, *failed)
    entries, end = replay.end
    reached = IMAState(state.entries + entries, state.offset + end, quoted, scheme)
    ahead = count_entries(data, end, hash_size, at_most=limits.max_entries - entries)
    return AttestedList(state, reached, ahead, data, hash_size)


def replay_list(
    data: bytes,
    banks: Iterable[HashAlg],
    *,
    template_hash: TemplateHash = TemplateHash.PER_BANK,
    limits: IMALimits = DEFAULT_LIMITS,
) -> IMAState:
    """Return where a whole list, from the boot on, leads to.

    Proves nothing: only a quoted PCR 10 attests a list, see :func:`attest_list`.

    Args:
        data: Unverified bytes of the kernel's binary list.
        banks: The banks to replay, at least one.
        template_hash: What the kernel extends.
        limits: What the list may cost.

    Raises:
        MalformedError: The bytes are no list.
        VerificationError: An entry was extended into another PCR than 10.
        ValueError: This build has no hash for a bank.
    """
    if len(data) > limits.max_bytes:
        raise MalformedError(f"a measurement list of more than {limits.max_bytes} bytes")
    replay = _Replay(IMAState.START, data, template_hash_size(data), limits.max_entries)
    pcrs, entries = {}, 0
    for bank in banks:
        entries, pcrs[bank] = replay.to_end(bank, template_hash)
    return IMAState(entries, len(data), pcrs, template_hash)


class _Replay:
    """The replay of one list in several banks.

    Attributes:
        end: Entries and bytes of the prefix that the first bank's replay came to.
        contradictions: A finding for the first entry, up to there, whose data does not have the
            SHA-1 that the list gives it. The kernel's list has none: there somebody changed it.
    """

    __slots__ = ("_data", "_hash_size", "_max_entries", "_state", "contradictions", "end")

    def __init__(self, state: IMAState, data: bytes, hash_size: int, max_entries: int) -> None:
        self._state = state
        self._data = data
        self._hash_size = hash_size
        self._max_entries = max_entries
        self.end = (0, 0)
        self.contradictions: tuple[Finding, ...] = ()

    def failures(
        self, quoted: Mapping[HashAlg, bytes], scheme: TemplateHash
    ) -> tuple[Finding, ...]:
        """Replay in every bank up to the same entry; return one finding for each that fails."""
        findings: list[Finding] = []
        settled: tuple[int, int] | None = None
        for bank, target in quoted.items():
            end = settled[1] if settled else len(self._data)
            matched, count, stop, value = self._replay_bank(bank, target, scheme, end)
            # Banks that match at different entries were extended by something else (A7).
            if not matched or (settled and stop != end):
                findings.append(_mismatch(bank, target, value, self._state.entries + count))
            elif settled is None:
                settled = self.end = (count, stop)
        return tuple(findings)

    def to_end(self, bank: HashAlg, scheme: TemplateHash) -> tuple[int, bytes]:
        """Return how many entries there are, and the PCR after all of them."""
        _, count, _, value = self._replay_bank(bank, b"", scheme, len(self._data))
        return count, value

    def _replay_bank(
        self, bank: HashAlg, target: bytes, scheme: TemplateHash, end: int
    ) -> tuple[bool, int, int, bytes]:
        """Extend entry after entry until the target or the end is reached.

        Returns:
            Whether the target was reached, entries and bytes up to there, and the last value.
        """
        data, hash_size = self._data, self._hash_size
        max_entries, total, violation = self._max_entries, len(data), bytes(hash_size)
        new_hash, data_hash, padding = _extends(bank, scheme)
        sha1 = _constructor(HashAlg.SHA1)
        invalid = b"\xff" * (bank.size - len(padding)) + padding
        # The list's SHA-1 is the same in every bank and under every scheme: once is enough.
        checked = hash_size == _SHA1_SIZE and end == total and not self.contradictions
        value = self._state.pcrs.get(bank, bytes(bank.size))
        name_size, name, head = -1, b"", head_layout(0, hash_size)
        count = position = 0
        while value != target and position < end:
            start = position + head.size
            fields = head.unpack_from(data, position) if start <= total else _NO_FIELDS
            if fields[2] == name_size and fields[3] == name and fields[0] == IMA_PCR:
                template_hash = fields[1]
                position = start + fields[4]
                if position > total:
                    raise MalformedError("an entry ends beyond the list", offset=start)
                body = data[start:position]
            else:
                at = position
                pcr, template_hash, name, start, position = read_head(data, at, hash_size)
                if pcr != IMA_PCR:
                    raise VerificationError(_other_pcr(self._state.entries + count, pcr))
                body = hashed_data(data, name, start, position)
                # The template "ima" lies differently; its entries are all read here.
                name_size = len(name) if name != IMA_TEMPLATE else -1
                head = head_layout(len(name), hash_size)
            if template_hash == violation:
                value = new_hash(value + invalid).digest()
            else:
                digest = data_hash(body).digest()
                if checked and template_hash != (
                    digest if data_hash is sha1 else sha1(body).digest()
                ):
                    self._contradict(count, template_hash)
                    checked = False
                value = new_hash(value + digest + padding).digest()
            count += 1
            if count > max_entries:
                raise MalformedError(f"a measurement list of more than {max_entries} entries")
        return value == target, count, position, value

    def _contradict(self, count: int, template_hash: bytes) -> None:
        number = self._state.entries + count
        self.contradictions = (
            Finding(
                "ima.template-hash-mismatch",
                f"entry {number} of the measurement list does not have the hash it claims",
                pcr=IMA_PCR,
                event=number,
                expected=template_hash.hex(),
            ),
        )


def _extends(bank: HashAlg, scheme: TemplateHash) -> tuple[NewHash, NewHash, bytes]:
    """Return a bank's hash, the one of template data, and what fills that up to the bank's size.

    Raises:
        ValueError: This build has no such hash.
    """
    new_hash = _constructor(bank)
    if scheme is TemplateHash.PER_BANK:
        return new_hash, new_hash, b""
    return new_hash, _constructor(HashAlg.SHA1), bytes(bank.size - HashAlg.SHA1.size)


def _constructor(bank: HashAlg) -> NewHash:
    new_hash = hash_constructor(bank)
    if new_hash is None:
        raise ValueError(f"this build of OpenSSL has no {bank.label}")
    return new_hash


def _unusable_banks(state: IMAState, quoted: Mapping[HashAlg, bytes]) -> list[Finding]:
    unknown = [bank for bank in quoted if hash_constructor(bank) is None]
    if unknown:
        return [
            Finding(
                "ima.bank-unsupported",
                f"this build of OpenSSL has no {bank.label}, so that bank cannot be replayed",
                pcr=IMA_PCR,
            )
            for bank in unknown
        ]
    if state.is_start:
        return [
            Finding(
                "ima.nothing-measured",
                f"nothing was extended into the {bank.label} bank of PCR 10: the kernel measures"
                " nothing, or not into this bank",
                pcr=IMA_PCR,
            )
            for bank, value in quoted.items()
            if not any(value)
        ]
    return [
        Finding(
            "ima.bank-not-replayed",
            f"the {bank.label} bank was not replayed from the start of the measurement list",
            pcr=IMA_PCR,
        )
        for bank in quoted
        if bank not in state.pcrs
    ]


def _mismatch(bank: HashAlg, target: bytes, value: bytes, entries: int) -> Finding:
    return Finding(
        "ima.replay-mismatch",
        f"no part of the measurement list leads to PCR 10 of the {bank.label} bank: entries were"
        " changed, left out or withheld, or the TPM was reset under a running kernel",
        pcr=IMA_PCR,
        expected=f"{bank.label}:{target.hex()}",
        seen=f"{bank.label}:{value.hex()} after {entries} entries",
    )


def _other_pcr(number: int, pcr: int) -> Finding:
    return Finding(
        "ima.other-pcr",
        f"entry {number} of the measurement list was extended into PCR {pcr}, not {IMA_PCR}",
        pcr=pcr,
        event=number,
    )


_PADDED: Final = Finding(
    "ima.sha1-padding",
    "the kernel extends SHA-1 into every bank of PCR 10, as Linux before 5.8 does: what it"
    " measures can be forged",
    pcr=IMA_PCR,
)
