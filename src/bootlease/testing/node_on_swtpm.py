"""A node with a running swtpm, a completed boot and the log of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.testing.boot import SimulatedBoot, power_on, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, swtpm_process

_ANY_NONCE = b"boot aggregate"
ALL_BANKS = (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)


@dataclass(slots=True)
class NodeOnSwtpm:
    """A machine: its TPM and what it booted last.

    Attributes:
        tpm: The running swtpm.
        device: The TPM as the agent sees it.
        last_boot: What was measured.
        ima: The kernel's measurement list of that boot; None where nothing started it.
    """

    tpm: SoftwareTPM
    device: ESAPIDevice
    last_boot: SimulatedBoot
    ima: SimulatedIMA | None = None

    @property
    def event_log(self) -> bytes:
        """The log that the kernel would show."""
        return self.last_boot.event_log

    @property
    def tcti(self) -> str:
        """How tpm2-tss reaches the TPM."""
        return self.tpm.tcti

    def boot(self, boot: SimulatedBoot) -> None:
        """Cycle the power and boot; the log presented is that of ``boot``."""
        power_on(self.tpm, self.device, boot)
        self.last_boot, self.ima = boot, None

    def start_ima(self) -> SimulatedIMA:
        """Let the kernel measure what is loaded from now on, the boot first.

        Raises:
            TransportError: The TPM cannot be reached.
        """
        self.ima = SimulatedIMA(self.device, self.last_boot.banks)
        bank = HashAlg.SHA256
        self.ima.start(self.device.quote(_ANY_NONCE, {bank: range(10)}).pcrs[bank], bank)
        return self.ima


@contextlib.contextmanager
def booted_node(
    state: SoftwareTPMState,
    description: BootDescription,
    banks: Sequence[HashAlg] = ALL_BANKS,
) -> Iterator[NodeOnSwtpm]:
    """Run a node on ``state`` that has booted ``description``, for the length of a block.

    Args:
        state: A manufactured TPM with the banks ``banks`` active.
        description: What it boots.
        banks: Banks the firmware extends.
    """
    boot = simulate_boot(description, banks)
    with swtpm_process(state) as tpm, ESAPIDevice(tpm.tcti) as device:
        power_on(tpm, device, boot)
        yield NodeOnSwtpm(tpm, device, boot)
