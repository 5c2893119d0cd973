"""Manufacturing a software TPM: seeds, EK certificates and PCR banks.

Specifications: swtpm 0.7 ``swtpm_setup(8)``, ``swtpm_setup.conf(5)``, ``swtpm-localca.conf(5)``;
TCG EK Credential Profile for TPM Family 2.0 v2.5 §2.2.1.4 and §2.2.1.5 (NV indices), §B.3 and
§B.4 (templates).

swtpm_setup 0.7 makes an RSA-2048 EK and a P-384 EK and has swtpm_localca certify them; the P-256
EK, which it does not offer, is certified here by the same CA and written by the same means. No
file outside the given folder is read or written, apart from a temporary folder for the CA's key.

Deliberately not handled: platform certificates, TPM 1.2, locked NV memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_SU, TPMA_NV
from tpm2_pytss.types import TPM2B_NV_PUBLIC, TPMS_NV_PUBLIC

from bootlease.errors import TransportError
from bootlease.model import HashAlg
from bootlease.node.tpm.ek_templates import EK_CHAIN_FIRST_INDEX, ek_profiles
from bootlease.node.tpm.esapi import Connection
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.testing.local_ca import EKPublicKey, LocalCA
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, swtpm_process
from bootlease.tpm import accept_endorsement_key, parse_public

_SETUP_SECONDS: Final = 120
_NV_CHUNK: Final = 512
_CLOCK_STEP_MILLISECONDS: Final = 1 << 22
_EK_NV_ATTRIBUTES: Final = (
    TPMA_NV.PPWRITE
    | TPMA_NV.WRITEDEFINE
    | TPMA_NV.PPREAD
    | TPMA_NV.OWNERREAD
    | TPMA_NV.AUTHREAD
    | TPMA_NV.NO_DA
    | TPMA_NV.PLATFORMCREATE
)
# The same as the files in the source repository's folder swtpm/; a test compares them.
_SETUP_CONFIGURATION: Final = """\
create_certs_tool = {localca}
create_certs_tool_config = {folder}/swtpm-localca.conf
create_certs_tool_options = {folder}/swtpm-localca.options
"""
_LOCALCA_CONFIGURATION: Final = """\
statedir = {folder}
signingkey = {folder}/signkey.pem
issuercert = {folder}/issuercert.pem
certserial = {folder}/certserial
"""
_LOCALCA_OPTIONS: Final = """\
--platform-manufacturer bootlease
--platform-version 1
--platform-model simulated
"""


def manufacture(
    directory: Path,
    *,
    ca: LocalCA,
    banks: Sequence[HashAlg] = (HashAlg.SHA256,),
    ek_algorithms: Collection[EKAlgorithm] = tuple(EKAlgorithm),
    chain_in_nv: bool = True,
) -> SoftwareTPMState:
    """Manufacture a TPM 2.0 with its endorsement keys certified.

    Args:
        directory: New or empty folder that becomes the TPM's state.
        ca: Signs the EK certificates.
        banks: Active PCR banks: sha1, sha256, sha384, sha512.
        ek_algorithms: Endorsement keys that get a certificate.
        chain_in_nv: Store the CA's intermediate in the TPM, as many makers do.

    Returns:
        The switched-off TPM; its clock is safe at its next start.

    Raises:
        TransportError: swtpm_setup is not installed or failed.
        ValueError: No bank was given.
    """
    if not banks:
        raise ValueError("a TPM needs at least one PCR bank")
    if shutil.which("swtpm_setup") is None:
        raise TransportError("swtpm_setup is not installed; on Debian: apt install swtpm-tools")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bl-ca-") as folder:
        _run_swtpm_setup(directory, Path(folder), ca, banks)
    state = SoftwareTPMState(directory)
    with swtpm_process(state) as tpm:
        _finish(tpm, ca, frozenset(ek_algorithms), chain_in_nv=chain_in_nv)
        with Connection(tpm.tcti) as connection, connection.command("TPM2_Shutdown"):
            # Orderly, so that the clock of the first boot in use is safe.
            connection.esapi.shutdown(TPM2_SU.CLEAR)
    return state


def remove_ek_certificate(tpm: SoftwareTPM, algorithm: EKAlgorithm) -> None:
    """Remove an EK certificate, as TPMs have none whose maker left it out; the key stays."""
    with Connection(tpm.tcti) as connection, connection.command("removing an EK certificate"):
        _undefine(connection, ek_profiles(algorithm)[0].certificate_index)


def define_ek_index(connection: Connection, index: int, data: bytes) -> None:
    """Write ``data`` into a new NV index as a maker does: anybody reads it, nobody changes it."""
    esapi = connection.esapi
    public = TPMS_NV_PUBLIC(
        nvIndex=index,
        nameAlg=TPM2_ALG.SHA256,
        attributes=_EK_NV_ATTRIBUTES,
        dataSize=len(data),
    )
    with connection.command(f"defining NV index 0x{index:08x}"):
        handle = esapi.nv_define_space(None, TPM2B_NV_PUBLIC(nvPublic=public), ESYS_TR.PLATFORM)
        for offset in range(0, len(data), _NV_CHUNK):
            chunk = data[offset : offset + _NV_CHUNK]
            esapi.nv_write(handle, chunk, offset, auth_handle=ESYS_TR.PLATFORM)
        esapi.tr_close(handle)


def write_swtpm_configuration(folder: Path, ca: LocalCA) -> Path:
    """Write ``swtpm_setup.conf`` and what it refers to into ``folder``; return its path."""
    ca.write_signing_files(folder)
    (folder / "swtpm-localca.options").write_text(_LOCALCA_OPTIONS)
    (folder / "swtpm-localca.conf").write_text(_LOCALCA_CONFIGURATION.format(folder=folder))
    setup = folder / "swtpm_setup.conf"
    localca = shutil.which("swtpm_localca") or "swtpm_localca"
    setup.write_text(_SETUP_CONFIGURATION.format(folder=folder, localca=localca))
    return setup


def _run_swtpm_setup(directory: Path, folder: Path, ca: LocalCA, banks: Sequence[HashAlg]) -> None:
    configuration = write_swtpm_configuration(folder, ca)
    command = [
        "swtpm_setup", "--tpm2",
        "--tpmstate", str(directory),
        "--create-ek-cert",
        "--pcr-banks", ",".join(bank.label for bank in banks),
        "--config", str(configuration),
        "--overwrite",
    ]  # fmt: skip
    # A user's own configuration under these variables must not steer what is made here.
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    try:
        done = subprocess.run(  # noqa: S603  arguments are this module's own
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SETUP_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise TransportError(f"swtpm_setup did not end within {_SETUP_SECONDS} s") from exc
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split()[-60:])
        raise TransportError(f"swtpm_setup failed with status {done.returncode}: {said}")


def _finish(
    tpm: SoftwareTPM, ca: LocalCA, wanted: frozenset[EKAlgorithm], *, chain_in_nv: bool
) -> None:
    with Connection(tpm.tcti) as connection, connection.command("writing EK certificates"):
        esapi = connection.esapi
        for algorithm in EKAlgorithm:
            index = ek_profiles(algorithm)[0].certificate_index
            if algorithm not in wanted:
                _undefine(connection, index)
            elif algorithm is EKAlgorithm.ECC_P256:
                certificate = ca.issue_ek_certificate(_ek_key(connection, algorithm))
                define_ek_index(connection, index, certificate)
        if chain_in_nv:
            define_ek_index(connection, EK_CHAIN_FIRST_INDEX, ca.intermediate_der)
        # Only a clock that has passed its last recorded value is called safe (part 1 §36.3.2).
        now = esapi.read_clock().clockInfo.clock
        esapi.clock_set(now + _CLOCK_STEP_MILLISECONDS)


def _ek_key(connection: Connection, algorithm: EKAlgorithm) -> EKPublicKey:
    template = ek_profiles(algorithm)[0].template
    with connection.primary(template, ESYS_TR.ENDORSEMENT) as (_, public):
        return accept_endorsement_key(parse_public(public)).key


def _undefine(connection: Connection, index: int) -> None:
    if index in connection.nv_indices(index, index):
        handle = connection.esapi.tr_from_tpmpublic(index)
        connection.esapi.nv_undefine_space(handle, ESYS_TR.PLATFORM)
