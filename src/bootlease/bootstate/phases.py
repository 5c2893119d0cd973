"""Boot phases, which systemd extends into PCR 11 after the firmware's log has ended.

Source: systemd, "TPM2 PCR Measurements Made by systemd", PCR 11 boot phases: the services
systemd-pcrphase-initrd, -sysinit and systemd-pcrphase extend the digest of the phase's name in
UTF-8, without a NUL.

The firmware's log holds none of it, so the replay of PCR 11 and the quoted value differ by the
phases that were reached. They are found by trying: a phase is never *claimed* by the node.

Not handled: phases of an administrator's own units, and measurements that user space makes into
other PCRs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootlease.eventlog.hashes import hash_constructor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootlease.eventlog.hashes import NewHash
    from bootlease.model import HashAlg


PHASES: Final = ("enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final")
"""The phases of systemd in the order of a boot; the search through n costs up to 2^n hashes."""


def find_phases(logged: bytes, quoted: bytes, bank: HashAlg) -> tuple[str, ...] | None:
    """Return the phases whose extends lead from the log's PCR 11 to the quoted one.

    Phases keep their order and any of them may be missing: a machine without an initrd reaches
    "sysinit" first. What a path is worth is for policy to decide; a machine that is past
    "shutdown" should be given nothing.

    Args:
        logged: PCR 11 as the log's replay gives it; zeros where the log extends nothing there.
        quoted: PCR 11 as the TPM signed it.
        bank: Bank of both.

    Returns:
        The phases, empty if the values are equal; ``None`` if no path of them leads there.
    """
    if logged == quoted:
        return ()
    new_hash = hash_constructor(bank)
    if new_hash is None:
        return None
    digests = [new_hash(phase.encode()).digest() for phase in PHASES]
    path = _search(new_hash, logged, quoted, digests)
    return None if path is None else tuple(PHASES[index] for index in path)


def _search(
    new_hash: NewHash, start: bytes, goal: bytes, digests: Sequence[bytes]
) -> tuple[int, ...] | None:
    """Return the indices of the shortest path from ``start`` to ``goal``."""
    reached: list[tuple[bytes, tuple[int, ...]]] = [(start, ())]
    while reached:
        following: list[tuple[bytes, tuple[int, ...]]] = []
        for value, path in reached:
            for index in range(path[-1] + 1 if path else 0, len(digests)):
                extended = new_hash(value + digests[index]).digest()
                if extended == goal:
                    return (*path, index)
                following.append((extended, (*path, index)))
        reached = following
    return None
