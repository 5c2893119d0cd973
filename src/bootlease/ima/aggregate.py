"""The boot aggregate: what ties a measurement list to the boot before it.

Specification: Linux ``security/integrity/ima/ima_init.c`` (``ima_add_boot_aggregate``: the
first entry of a boot; after a kexec the new kernel appends one), ``ima_crypto.c``
(``ima_calc_boot_aggregate_tfm``: PCRs 0 to 7, since Linux 5.8 0 to 9 unless the hash is SHA-1;
bank and hash are the same).

Not handled: a SHA-256 aggregate over PCRs 0 to 7 only, which no released kernel writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.ima.entry import BOOT_AGGREGATE, DigestType, Kind
from bootlease.ima.state import IMA_PCR
from bootlease.ima.templates import IMA_TEMPLATE
from bootlease.model import Effect, Finding, HashAlg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootlease.ima.attest import AttestedList
    from bootlease.ima.entry import IMADigest, IMAEntry
    from bootlease.model import PCRValues

_SHA1_PCRS: Final = range(8)
_PCRS: Final = range(10)


def expected_boot_aggregates(pcrs: PCRValues) -> Mapping[str, bytes]:
    """Return the boot aggregate of each bank by its label.

    Args:
        pcrs: Quoted PCR values. A bank that lacks one of the PCRs has no aggregate.
    """
    aggregates = {}
    for bank, values in pcrs.items():
        needed = _SHA1_PCRS if bank is HashAlg.SHA1 else _PCRS
        if all(pcr in values for pcr in needed):
            aggregates[bank.label] = bank.digest(b"".join(values[pcr] for pcr in needed))
    return aggregates


def boot_aggregate_findings(attested: AttestedList, pcrs: PCRValues) -> tuple[Finding, ...]:
    """Compare the boot aggregates of attested entries with quoted PCRs.

    Where nothing refuses, the list is one of the boot that the PCRs describe. A list of another
    boot, or of another machine, has another first entry (attack E4).

    Args:
        attested: Attested entries. The first of all entries must be the boot aggregate; one
            that comes later was appended by a kernel that a kexec started.
        pcrs: Quoted PCRs, 0 to 9 among them.

    Returns:
        What refuses, and a note about later aggregates that are right.
    """
    expected = expected_boot_aggregates(pcrs)
    findings: list[Finding] = []
    first = attested.previous.is_start
    repeated: list[int] = []
    for entry, digest in _aggregates(attested):
        if first and entry.number:
            break
        first = False
        wrong = _compare(entry.number, digest, expected)
        if wrong is not None:
            return (*findings, wrong)
        if entry.number:
            repeated.append(entry.number)
    if first:
        findings.append(_MISSING)
    if repeated:
        findings.append(_repeated(repeated))
    return tuple(findings)


def _aggregates(attested: AttestedList) -> list[tuple[IMAEntry, IMADigest]]:
    """Return the entries that bear the name and are no violations, with their digests."""
    found = []
    left = attested.occurrences(BOOT_AGGREGATE)
    for entry in attested.entries():
        if left <= 0:
            break
        times = entry.data.count(BOOT_AGGREGATE)
        # What the template "ima" hashes is not what the list has: digest and name, put together,
        # may spell the name of an aggregate where the list does not.
        left -= times if entry.template != IMA_TEMPLATE else 0
        if not times or entry.violation:
            continue
        try:
            measurement = entry.measurement()
        except MalformedError:
            # Whoever appraises the entries refuses it; here it is no boot aggregate.
            continue
        if measurement.kind is Kind.BOOT_AGGREGATE and measurement.digest is not None:
            found.append((entry, measurement.digest))
    return found


def _compare(number: int, digest: IMADigest, expected: Mapping[str, bytes]) -> Finding | None:
    value = expected.get(digest.alg) if digest.type is DigestType.IMA else None
    if value is None:
        return Finding(
            "ima.boot-aggregate.unquoted",
            f"the boot aggregate is over the {digest.alg} bank, of which PCRs 0 to 9 are not"
            " quoted",
            pcr=IMA_PCR,
            event=number,
        )
    if value == digest.value:
        return None
    what = "says that the kernel saw no TPM" if not any(digest.value) else "is of another boot"
    return Finding(
        "ima.boot-aggregate.mismatch",
        f"the boot aggregate {what}: it is not the hash of the quoted PCRs",
        pcr=IMA_PCR,
        event=number,
        expected=f"{digest.alg}:{value.hex()}",
        seen=str(digest),
    )


def _repeated(numbers: list[int]) -> Finding:
    return Finding(
        "ima.boot-aggregate.repeated",
        f"{len(numbers)} more boot aggregates follow, the first as entry {numbers[0]}: the kernel"
        " was replaced by kexec, which the firmware does not measure",
        effect=Effect.NOTES,
        pcr=IMA_PCR,
        event=numbers[0],
    )


_MISSING: Final = Finding(
    "ima.boot-aggregate.missing",
    "the measurement list does not start with a boot aggregate, so nothing ties it to this boot",
    pcr=IMA_PCR,
)
