"""The node's TPM as the commands of ``bootlease node`` open it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bootlease.errors import TransportError
from bootlease.node.state import StateDirectory
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm

if TYPE_CHECKING:
    from bootlease.node.tpm.device import ESAPIDevice
    from bootlease.node.tpm.opening import TPMChoice


def _needs_extra(exc: ImportError) -> TransportError:
    return TransportError(
        "talking to a TPM needs tpm2-pytss and the tpm2-tss libraries: pip install"
        " 'bootlease[node]'; on Debian: apt install libtss2-esys-3.0.2-0 libtss2-tcti-device0"
        f" ({' '.join(str(exc).split())[:120]})"
    )


def tpm_choice(tcti: str, ek_algorithm: str | None, ak_algorithm: str | None) -> TPMChoice:
    """Return which TPM and which of its keys the options name.

    Raises:
        TransportError: The libraries to reach a TPM are not installed.
    """
    try:
        from bootlease.node.tpm.opening import TPMChoice  # noqa: PLC0415 - needs the extra "node"
    except ImportError as exc:
        raise _needs_extra(exc) from exc
    return TPMChoice(
        tcti,
        None if ek_algorithm is None else EKAlgorithm(ek_algorithm),
        None if ak_algorithm is None else AKAlgorithm(ak_algorithm),
    )


@contextlib.contextmanager
def open_tpm(
    choice: TPMChoice, directory: StateDirectory, say: Callable[[str], None]
) -> Iterator[ESAPIDevice]:
    """Open the TPM with the keys it used before, for the length of a block."""
    from bootlease.node.tpm.opening import open_with_memory  # noqa: PLC0415 - needs the extra "node"

    with contextlib.closing(open_with_memory(choice, directory, say)) as device:
        yield device


@contextlib.contextmanager
def open_bare_tpm(tcti: str, algorithm: AKAlgorithm) -> Iterator[ESAPIDevice]:
    """Open a TPM of which nothing is remembered, for the length of a block."""
    try:
        from bootlease.node.tpm.device import ESAPIDevice  # noqa: PLC0415 - needs the extra "node"
    except ImportError as exc:
        raise _needs_extra(exc) from exc
    with contextlib.closing(ESAPIDevice(tcti, ak_algorithm=algorithm)) as device:
        yield device
