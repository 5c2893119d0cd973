"""One quote for all wishes: the key of each, then TPM and logs."""

from __future__ import annotations

from dataclasses import dataclass

from bootlease.evidence import TCG_LOG
from bootlease.node.confirm import ConfirmationKey
from bootlease.node.ima import IMASource
from bootlease.node.memory import Lineage, Question
from bootlease.node.renewal.attest import Attestation, attest
from bootlease.node.renewal.keyring import KeyRing
from bootlease.node.wishbook import Wished
from bootlease.ports import Clock, TPMDevice


@dataclass(frozen=True, slots=True)
class Quoted:
    """Evidence that was made.

    Attributes:
        made: It.
        wished: What it asks for.
        keys: The confirmation key of each.
    """

    made: Attestation
    wished: tuple[Wished, ...]
    keys: tuple[ConfirmationKey, ...]

    def is_of(self, lineage: Lineage) -> bool:
        """Tell whether it was quoted in the boot of ``lineage``."""
        clock = self.made.clock
        quoted = (clock.reset_count, clock.restart_count)
        return quoted == (lineage.reset_count, lineage.restart_count)


class Quoter:
    """Makes evidence.

    Args:
        device: The node's TPM.
        keys: The keys of the lineage.
        ima: Its IMA list, where its kernel keeps one.
        clock: CLOCK_BOOTTIME.

    Attributes:
        seconds: How long TPM and logs took since it was set to None; None where nothing was made.
    """

    def __init__(
        self, device: TPMDevice, keys: KeyRing, ima: IMASource | None, clock: Clock
    ) -> None:
        self._device = device
        self._keys = keys
        self._ima = ima
        self._clock = clock
        self.seconds: float | None = None

    def quote(
        self, question: Question, lineage: Lineage | None, log: bytes, wished: tuple[Wished, ...]
    ) -> Quoted:
        """Make evidence for all that is wished for, and that the TPM has keys for.

        Args:
            question: The challenge.
            lineage: What it continues; None to begin a lineage.
            log: The event log of this boot.
            wished: What to ask for.

        Raises:
            TransportError: The TPM cannot be reached or refuses, or the IMA list cannot be read.
            MalformedError: The TPM gave something that is no quote.
        """
        began = self._clock.boottime()
        wished, keys = self._keys.keys(wished, node=question.challenge.node, anew=lineage is None)
        made = attest(
            self._device,
            question.challenge,
            [each.wish.request(key) for each, key in zip(wished, keys, strict=True)],
            previous=None if lineage is None else lineage.head,
            log=log,
            include_log=lineage is None,
            ima=self._ima,
        )
        self.seconds = (self.seconds or 0.0) + self._clock.boottime() - began
        if lineage is not None and made.evidence.binding.logs[TCG_LOG] != lineage.log:
            made = made.with_log()
        return Quoted(made, wished, keys)
