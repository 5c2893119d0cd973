"""Opening the node's TPM where the TPM libraries may be missing altogether."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootlease.errors import TransportError
from bootlease.node.key_kinds import AKAlgorithm, EKAlgorithm

if TYPE_CHECKING:
    from bootlease.node.tpm_device import ESAPIDevice


def open_device(
    tcti: str,
    *,
    ek_algorithm: EKAlgorithm | None = None,
    ak_algorithm: AKAlgorithm = AKAlgorithm.ECC_P256,
    ak_handle: int | None = None,
) -> ESAPIDevice:
    """Open a TPM; the arguments are those of ``ESAPIDevice``.

    Raises:
        TransportError: There is no TPM, it may not be used, or the libraries to reach one are
            not installed.
    """
    try:
        # A verifier installs without tpm2-pytss and must be able to import this package.
        from bootlease.node.tpm_device import ESAPIDevice  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        raise TransportError(
            "talking to a TPM needs tpm2-pytss and tpm2-tss: pip install 'bootlease[node]'; "
            f"on Debian: apt install libtss2-esys-3.0.2-0 libtss2-tcti-device0 ({exc})"
        ) from exc
    return ESAPIDevice(
        tcti, ek_algorithm=ek_algorithm, ak_algorithm=ak_algorithm, ak_handle=ak_handle
    )
