"""Where tokens go: files for people and scripts, and several outputs at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bootlease.errors import TransportError
from bootlease.model import Finding
from bootlease.node.files import remove, replace_private
from bootlease.node.lease import EndReason, HeldLease, Holding, LeaseOutput
from bootlease.node.logline import Event
from bootlease.node.wishbook import WishId


@dataclass(frozen=True, slots=True)
class LeaseFiles:
    """Hands out one token in files, readable by their owner only.

    Attributes:
        token: Where the token goes; None for nowhere.
        key: Where the confirmation key goes as PEM; None for nowhere.
        wish: The wish whose token is meant; None for the first.
    """

    token: Path | None = None
    key: Path | None = None
    wish: WishId | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are written and removed."""
        return tuple(path for path in (self.token, self.key) if path is not None)

    def granted(self, lease: HeldLease) -> None:
        """Write key and token; see ``LeaseOutput``."""
        holding = lease.holdings[0] if self.wish is None else lease.of(self.wish)
        if holding is None:
            self._remove()
        else:
            self._write(holding)

    def _write(self, holding: Holding) -> None:
        # The key first: who sees a new token finds the key that it names.
        exported = None if self.key is None else holding.key.export()
        if self.key is not None and exported is not None:
            replace_private(self.key, exported, "key file")
        if self.token is not None:
            replace_private(self.token, holding.encoded, "token file")

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Remove token and key; see ``LeaseOutput``."""
        del reason, findings
        self._remove()

    def _remove(self) -> None:
        if self.token is not None:
            remove(self.token, "token file")
        if self.key is not None:
            remove(self.key, "key file")


class Outputs:
    """Hands out to several outputs; what fails in one of them ends nothing in the others.

    Args:
        outputs: At the beginning.
        say: Told in one line what failed.
    """

    def __init__(self, outputs: Iterable[LeaseOutput], say: Callable[[str], None]) -> None:
        self._outputs = list(outputs)
        self._say = say
        self._lock = threading.Lock()
        self._told: dict[int, tuple[EndReason, tuple[Finding, ...]]] = {}

    def add(self, output: LeaseOutput) -> None:
        """Hand out there too, from the next grant on."""
        with self._lock:
            self._outputs.append(output)

    def drop(self, output: LeaseOutput) -> None:
        """Take back what was handed out there, and hand out no more.

        Raises:
            TransportError: It cannot be taken back.
        """
        with self._lock:
            self._outputs.remove(output)
            self._told.pop(id(output), None)
            output.ended(EndReason.UNWANTED, ())

    def granted(self, lease: HeldLease) -> None:
        """Hand out; see ``LeaseOutput``.

        Raises:
            TransportError: Nothing could be handed out anywhere.
        """
        with self._lock:
            self._told.clear()
            failed = [exc for each in self._outputs if (exc := self._grant(each, lease))]
            if failed and len(failed) == len(self._outputs):
                raise failed[0]

    def _grant(self, output: LeaseOutput, lease: HeldLease) -> TransportError | None:
        try:
            output.granted(lease)
        except TransportError as exc:
            self._say(Event("output.failed", str(exc)))
            # Not an older token either: what it says of its end is no longer looked after.
            with contextlib.suppress(TransportError):
                output.ended(EndReason.UNUSABLE, ())
            return exc
        return None

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Take back; see ``LeaseOutput``. Told again, it tells those that failed only.

        Raises:
            TransportError: It cannot be taken back somewhere.
        """
        failed = None
        with self._lock:
            for output in self._outputs:
                if self._told.get(id(output)) == (reason, findings):
                    continue
                try:
                    output.ended(reason, findings)
                except TransportError as exc:
                    failed = failed or exc
                else:
                    self._told[id(output)] = (reason, findings)
        if failed is not None:
            raise failed
