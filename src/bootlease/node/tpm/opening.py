"""Opening a node's TPM with the keys it used before."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from bootlease.errors import TransportError
from bootlease.node.enrol import attestation_key_name
from bootlease.node.renewal.recall import MemoryStore
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.tpm import TPMAlg, parse_public

_TYPES = {AKAlgorithm.ECC_P256: TPMAlg.ECC, AKAlgorithm.RSA_2048: TPMAlg.RSA}


@dataclass(frozen=True, slots=True)
class TPMChoice:
    """Which TPM and which of its keys; None keeps what was used before.

    Attributes:
        tcti: How tpm2-tss reaches the TPM.
        ek_algorithm: Endorsement key to use.
        ak_algorithm: Kind of attestation key to have.
    """

    tcti: str
    ek_algorithm: EKAlgorithm | None = None
    ak_algorithm: AKAlgorithm | None = None


def open_with_memory(
    choice: TPMChoice, store: MemoryStore, say: Callable[[str], None]
) -> ESAPIDevice:
    """Open the TPM and load its attestation key, or make one and remember it.

    Raises:
        TransportError: There is no TPM, or it refuses.
        MalformedError: The memory is damaged.
    """
    memory = store.load()
    device = ESAPIDevice(
        choice.tcti,
        ek_algorithm=choice.ek_algorithm or memory.ek_algorithm,
        ak_algorithm=choice.ak_algorithm or AKAlgorithm.ECC_P256,
    )
    with contextlib.ExitStack() as undo:
        undo.callback(device.close)
        if memory.ak is not None:
            _load(device, memory.ak, choice.ak_algorithm, say)
        kept = dataclasses.replace(
            memory, ak=attestation_key_name(device), ek_algorithm=device.ek_algorithm
        )
        # At once: a key whose name is lost takes one of the TPM's few places for ever.
        if kept != memory:
            store.save(kept)
        undo.pop_all()
    return device


def _load(
    device: ESAPIDevice, name: bytes, wanted: AKAlgorithm | None, say: Callable[[str], None]
) -> None:
    try:
        public = device.load_ak(name)
    except TransportError as exc:
        say(f"{exc}; making another")
        return
    if wanted is not None and parse_public(public).type is not _TYPES[wanted]:
        say(f"replacing the attestation key by one of the kind {wanted.value}")
        device.remove_ak()
