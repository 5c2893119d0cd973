"""A bounded memo of what the logs of a boot came to.

A renewal presents the log, PCR values, references and policy of the renewal before, so what
depends on these alone need not be computed again. The memo changes no result: its key holds
everything the result depends on. Threads may share it where the caller lends it a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from bootlease.bootstate.tri import Tri
from bootlease.frozen import quick_init
from bootlease.model import Finding
from bootlease.reference import ReferenceSet
from bootlease.token import ReferenceClaim

DEFAULT_ENTRIES: Final = 16_384
"""An entry is a key of a few digests and a shared verdict: below 1 kB."""


@quick_init
@dataclass(frozen=True, slots=True)
class BootVerdict:
    """What a boot's logs and PCR values came to.

    Attributes:
        selection_findings: What policy demands and the quote does not cover.
        log_findings: Where the log does not explain the PCRs or is not well formed.
        meaning_findings: Where the boot, or the log itself, is not what policy lets it mean.
        reference_findings: Where the boot is not what a reference describes.
        reference: The reference set that matches, if one does.
        considered: Digests of the sets that were compared.
        covers_boot_chain: The matching set constrains all that runs before the operating system.
        secure_boot: Secure Boot, as attested events prove it in every bank that policy demands.
    """

    selection_findings: tuple[Finding, ...]
    log_findings: tuple[Finding, ...]
    reference_findings: tuple[Finding, ...]
    reference: ReferenceSet | None
    considered: tuple[bytes, ...]
    covers_boot_chain: bool = False
    meaning_findings: tuple[Finding, ...] = ()
    secure_boot: Tri = Tri.UNKNOWN

    @property
    def claim(self) -> ReferenceClaim | None:
        """What tokens say of the set that matches."""
        return None if self.reference is None else self.reference.claim


VerdictKey = tuple[object, ...]

_NO_LOCK: Final = nullcontext()


class AppraisalCache:
    """Verdicts by all that they depend on; the least recently used one leaves first.

    Args:
        entries: Verdicts to keep.
        lock: Held during each access, for example a ``threading.Lock``; without one, the memo
            belongs to one thread.
    """

    __slots__ = ("_entries", "_lock", "_verdicts")

    def __init__(
        self,
        entries: int = DEFAULT_ENTRIES,
        lock: AbstractContextManager[object] = _NO_LOCK,
    ) -> None:
        if entries < 1:
            raise ValueError("a cache holds at least one entry")
        self._entries = entries
        self._lock = lock
        self._verdicts: OrderedDict[VerdictKey, BootVerdict] = OrderedDict()

    def get(self, key: VerdictKey) -> BootVerdict | None:
        """Return the verdict for ``key``, if it is known."""
        # In what order the first half came does not matter: none of it leaves before what is used
        # while the second half comes has moved behind it. A renewal waits for each hash of a key.
        if len(self._verdicts) * 2 <= self._entries:
            return self._verdicts.get(key)
        # Between the look-up and the move, another thread may push the verdict out.
        with self._lock:
            verdict = self._verdicts.get(key)
            if verdict is not None:
                self._verdicts.move_to_end(key)
            return verdict

    def put(self, key: VerdictKey, verdict: BootVerdict) -> None:
        """Remember a verdict."""
        with self._lock:
            self._verdicts[key] = verdict
            if len(self._verdicts) > self._entries:
                self._verdicts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._verdicts)
