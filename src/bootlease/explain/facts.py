"""What a boot means, as short lines that can be compared with those of another boot.

Only what a digest proves is a line: what a log merely says beside one is left to the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from bootlease.bootstate.apps import option_roms
from bootlease.bootstate.firmware import firmware
from bootlease.bootstate.kernel import COMMAND_LINE_PCRS
from bootlease.bootstate.keyfacts import (
    MeasuredCertificate,
    SecureBoot,
    ShimState,
    SignatureDatabase,
)
from bootlease.bootstate.pcrs import SECURE_BOOT_PCR
from bootlease.bootstate.separators import exit_boot_services
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.windows import windows
from bootlease.eventlog.describe import printable
from bootlease.explain.values import Change
from bootlease.explain.words import cut
from bootlease.reference.bootfacts import BootFacts

MAX_ITEMS: Final = 64
"""Changes of one aspect that are told."""

_SHOWN: Final = 16
_WINDOWS: Final = (
    ("code integrity", "code_integrity"),
    ("test signing", "test_signing"),
    ("boot debugging", "boot_debugging"),
    ("kernel debugging", "kernel_debugging"),
    ("hypervisor debugging", "hypervisor_debugging"),
    ("safe mode", "safe_mode"),
    ("Windows PE", "winpe"),
)

_COMMAND_LINE: Final = "kernel parameter"
_DIGEST_LINE: Final = "kernel command line, its text not in the log"
_OWNER_KEYS: Final = "machine owner's keys"
_OPTION_ROM: Final = "option ROM"
_SECURE_BOOT: Final = frozenset({SECURE_BOOT_PCR})
_PROVEN_BY: Final[Mapping[str, frozenset[int]]] = {
    _COMMAND_LINE: frozenset(COMMAND_LINE_PCRS),
    _DIGEST_LINE: frozenset(COMMAND_LINE_PCRS),
    _OWNER_KEYS: frozenset({14}),
    _OPTION_ROM: frozenset({2}),
}
"""PCRs behind what has several values; of the rest, Secure Boot's."""

States = Mapping[str, str]
Lists = Mapping[str, Sequence[str]]


def compare_meaning(
    before: BootFacts, after: BootFacts, lost: AbstractSet[int] = frozenset()
) -> Iterator[Change]:
    """Yield what a boot means now and did not before.

    Args:
        before: The earlier boot.
        after: The later one.
        lost: PCRs that are attested of the earlier boot alone. What they proved is not gone: it is
            not known any more.
    """
    old, new = _states(before), _states(after)
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name, "not known"), new.get(name, "not known"))
    first, second = _lists(before), _lists(after)
    for name in dict.fromkeys((*first, *second)):
        known = lost.isdisjoint(_PROVEN_BY.get(name, _SECURE_BOOT))
        yield from _items(name, first.get(name, ()), second.get(name, ()), known=known)


def _items(
    name: str, before: Sequence[str], after: Sequence[str], *, known: bool
) -> Iterator[Change]:
    gone = [item for item in dict.fromkeys(before) if item not in set(after)]
    come = [item for item in dict.fromkeys(after) if item not in set(before)]
    told = [Change(name, item, None) for item in gone]
    if gone and not known:
        told = [Change(name, "known", "not known")]
    told += [Change(name, None, item) for item in come]
    yield from told[:MAX_ITEMS]
    if len(told) > MAX_ITEMS:
        yield Change(name, None, f"and {len(told) - MAX_ITEMS} more")


def _states(facts: BootFacts) -> States:
    """Return what has one value at a time."""
    boot, shim, view = facts.secure_boot, facts.shim, facts.view
    found = {
        "Secure Boot": boot.state,
        "setup mode": boot.setup_mode,
        "audit mode": boot.audit_mode,
        "deployed mode": boot.deployed_mode,
        "firmware debug mode": boot.debug_mode,
        "DMA protection disabled": boot.dma_protection_disabled,
        "shim verifies nothing": shim.validation_disabled,
        "end of firmware (ExitBootServices)": exit_boot_services(view).state,
    }
    states = {name: state.value for name, state in found.items()}
    version = firmware(view).version
    if version is not None:
        states["firmware version"] = cut(printable(version))
    system = windows(view)
    if system.present is Tri.ON:
        states |= {f"Windows: {words}": getattr(system, name).value for words, name in _WINDOWS}
    return states


def _lists(facts: BootFacts) -> Lists:
    """Return what has several values at once."""
    boot = facts.secure_boot
    return {
        _COMMAND_LINE: list(_parameters(facts)),
        _DIGEST_LINE: [
            f"digest {line.digest.hex()[:_SHOWN]}…, PCR {line.pcr}"
            for line in facts.command_lines().lines
            if line.text is None
        ],
        **{name: list(_database(database)) for name, database in _databases(boot)},
        "authority that vouched for an image": [
            _certificate(each.certificate)
            for each in (*boot.authorities_before, *boot.authorities_after)
            if each.certificate is not None
        ],
        "shim's least generation": list(_generations(facts.shim)),
        _OWNER_KEYS: [
            f"{name}, digest {digest.hex()[:_SHOWN]}…"
            for name, digest in (
                ("MokList", facts.shim.mok_list),
                ("MokListX", facts.shim.mok_list_x),
            )
            if digest is not None
        ],
        _OPTION_ROM: [
            f"digest {image.digest.hex()[:_SHOWN]}…" for image in option_roms(facts.view).images
        ],
    }


def _parameters(facts: BootFacts) -> Iterator[str]:
    for line in facts.command_lines().lines:
        for parameter in (*line.parameters, *line.other_readings):
            yield cut(printable(str(parameter)))


def _databases(boot: SecureBoot) -> Iterator[tuple[str, SignatureDatabase | None]]:
    yield "platform key (PK)", boot.pk
    yield "key exchange key (KEK)", boot.kek
    yield "allowed key or image (db)", boot.db
    yield "revoked key or image (dbx)", boot.dbx


def _database(database: SignatureDatabase | None) -> Iterator[str]:
    if database is None:
        return
    yield from map(_certificate, database.certificates)
    for digest in sorted(database.hashes | database.certificate_hashes):
        yield f"{digest.hex()[:_SHOWN]}…"
    for kind, count in database.others:
        yield f"{count} of type {kind}"


def _certificate(certificate: MeasuredCertificate) -> str:
    digest = certificate.sha256.hex()[:_SHOWN]
    subject = printable(certificate.subject) if certificate.subject else "certificate"
    return cut(f"{subject} ({digest}…)")


def _generations(shim: ShimState) -> Iterator[str]:
    if shim.sbat_level is not None:
        for component, generation in shim.sbat_level.generations:
            yield printable(f"{component} {generation}")
