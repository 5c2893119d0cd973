"""What a boot meant, worked out when a rule first asks for it, and once."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Mapping
from typing import Final

from bootlease.bootstate import AttestedLog
from bootlease.bootstate.kernel import KernelCommandLines, kernel_command_lines
from bootlease.bootstate.keyfacts import SecureBoot, ShimState
from bootlease.bootstate.pcrs import CONFIGURATION_PCR, SECURE_BOOT_PCR
from bootlease.bootstate.secureboot import secure_boot
from bootlease.bootstate.shim import shim_state
from bootlease.eventlog import Event, EventType, ReplayedLog
from bootlease.model import HashAlg

_CONFIG: Final = int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG)
_TYPE: Final = operator.itemgetter(2)
_MAX_REMEMBERED: Final = 128 * 1024
"""Bytes of Secure Boot's events; those of real machines have up to 40 kB."""


class BootFacts:
    """What attested events of one bank mean.

    Args:
        view: The attested part of a log.
    """

    __slots__ = ("_command_lines", "_secure_boot", "_shim", "view")

    def __init__(self, view: AttestedLog) -> None:
        self.view = view
        self._secure_boot: SecureBoot | None = None
        self._shim: ShimState | None = None
        self._command_lines: dict[tuple[bytes, ...], KernelCommandLines] = {}

    @property
    def secure_boot(self) -> SecureBoot:
        """Secure Boot as PCR 7 proves it."""
        if self._secure_boot is None:
            self._secure_boot = _secure_boot(self.view)
        return self._secure_boot

    @property
    def shim(self) -> ShimState:
        """What shim measured of itself."""
        if self._shim is None:
            self._shim = shim_state(self.view)
        return self._shim

    def command_lines(self, known: Collection[bytes] = ()) -> KernelCommandLines:
        """Return all kernel command lines.

        Args:
            known: Texts to try where the log holds a digest alone.
        """
        texts = tuple(known)
        found = self._command_lines.get(texts)
        if found is None:
            found = self._command_lines[texts] = kernel_command_lines(self.view, texts)
        return found


class _Content:
    """All that the facts of Secure Boot depend on, compared byte for byte.

    Attributes:
        compared: Those things.
        view: The log, until it has been read: what is remembered must not keep it alive.
    """

    __slots__ = ("_hash", "compared", "view")

    def __init__(self, view: AttestedLog, events: tuple[Event, ...]) -> None:
        configuration = view.events(CONFIGURATION_PCR)
        # Without a variable there, nothing of that PCR is read.
        if _CONFIG not in map(_TYPE, configuration):
            configuration = ()
        self.compared = (view.bank, view.column, view.is_ccel, events, configuration)
        self.view: AttestedLog | None = view
        # Only to find it: what decides is the comparison.
        self._hash = hash(tuple([event[4] for event in events]))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self.compared == other.compared


def _secure_boot(view: AttestedLog) -> SecureBoot:
    events = view.events(SECURE_BOOT_PCR)
    if not events or sum([len(event[5]) for event in events]) > _MAX_REMEMBERED:
        return secure_boot(view)
    return _remembered(_Content(view, events))


@functools.lru_cache(maxsize=256)
def _remembered(content: _Content) -> SecureBoot:
    """Read Secure Boot's events once for all machines that measure the very same ones."""
    view, content.view = content.view, None
    if view is None:
        raise RuntimeError("facts that are remembered are not read again")
    return secure_boot(view)


class FactsByBank:
    """The facts of a log, by the bank that a quote covered.

    Args:
        replayed: The log.
        attested: PCRs by bank to which its replay led.
    """

    __slots__ = ("_attested", "_facts", "_replayed")

    def __init__(self, replayed: ReplayedLog, attested: Mapping[HashAlg, Collection[int]]) -> None:
        self._replayed = replayed
        self._attested = attested
        self._facts: dict[HashAlg, BootFacts] = {}

    def of(self, bank: HashAlg) -> BootFacts | None:
        """Return what one bank proves, ``None`` where the log has no digests of it."""
        facts = self._facts.get(bank)
        if facts is None and bank in self._replayed.log.banks:
            view = AttestedLog.of(self._replayed, bank, self._attested.get(bank, ()))
            facts = self._facts[bank] = BootFacts(view)
        return facts
