"""A machine with a real TPM, in software, whose owner uses it against the verifier.

Everything here is what anybody can do who is root on a machine: make other keys, have the TPM
attest other things, sign what it lets him sign. Nothing is forged that the TPM does not give.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_SE, TPMA_NV, TPMA_SESSION
from tpm2_pytss.types import (
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMS_NV_PUBLIC,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
)

from bootlease.evidence import CertifiedKey
from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.node.tpm.signing_templates import signing_key_template
from bootlease.ports import QuotedState
from bootlease.testing.boot import SimulatedBoot, power_on
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, swtpm_process
from bootlease.tpm import TPMTPublic

_BY_KEY: Final = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
_NV_INDEX: Final = 0x01800001
_NV_ATTRIBUTES: Final = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
_CLOCK_STEP: Final = 1 << 22
"""Milliseconds between two records of the clock; it is safe once it has passed the last."""
_OWN_AK_FIRST: Final = 0x8101A000

Statement = tuple[bytes, bytes]
"""TPMS_ATTEST and TPMT_SIGNATURE."""


class Machine(ESAPIDevice):
    """A TPM, the log of what it was extended by, and a way to exchange its quotes.

    Attributes:
        tpm: The running swtpm.
        event_log: What the kernel would show.
        instead: Makes what is presented in place of a quote, from the quote and its data.
    """

    def __init__(self, tpm: SoftwareTPM) -> None:
        super().__init__(tpm.tcti, ek_algorithm=EKAlgorithm.ECC_P256)
        self.tpm = tpm
        self.event_log = b""
        self.instead: Callable[[bytes, QuotedState], Statement] | None = None

    def boot(self, boot: SimulatedBoot) -> None:
        """Cycle the power and boot."""
        power_on(self.tpm, self, boot)
        self.event_log = boot.event_log

    def pass_time(self) -> None:
        """Move the clock past its last recorded value, as hours of running do."""
        with self.command("TPM2_ClockSet"):
            self.esapi.clock_set(self.esapi.read_clock().clockInfo.clock + _CLOCK_STEP)

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote PCRs, or present what is presented instead."""
        state = super().quote(qualifying_data, selection)
        if self.instead is None:
            return state
        return QuotedState(*self.instead(qualifying_data, state), state.pcrs)

    def use_ak_of(self, template: TPMTPublic) -> None:
        """Attest with a new key of this template from now on.

        Raises:
            TransportError: The TPM makes no such key.
        """
        taken = self.handles(_OWN_AK_FIRST, _OWN_AK_FIRST + 0xFF)
        handle = max(taken, default=_OWN_AK_FIRST - 1) + 1
        with self.primary(template, ESYS_TR.ENDORSEMENT) as (transient, _):
            kept = self.esapi.evict_control(ESYS_TR.OWNER, transient, handle)
            self.esapi.tr_close(kept)
        self._use_ak(handle)

    # -- what an attestation key signs besides quotes

    def sign_with_ak(self, data: bytes) -> bytes:
        """Have the TPM hash outside data and sign the digest: TPMT_SIGNATURE.

        Raises:
            TransportError: The key is restricted and the data begins with TPM_GENERATED.
        """
        with self._attestation_key() as ak, self.command("TPM2_Sign"):
            digest, ticket = self.esapi.hash(data, TPM2_ALG.SHA256, ESYS_TR.OWNER)
            signature = self.esapi.sign(ak, digest, _BY_KEY, ticket)
        return bytes(signature.marshal())

    def attest_time(self, data: bytes) -> Statement:
        """TPM2_GetTime."""
        with self._attestation_key() as ak, self.command("TPM2_GetTime"):
            attest, signature = self.esapi.get_time(ak, data, _BY_KEY)
        return bytes(attest), bytes(signature.marshal())

    def attest_nv(self, data: bytes, content: bytes) -> Statement:
        """TPM2_NV_Certify of content that the owner chose."""
        public = TPMS_NV_PUBLIC(
            nvIndex=_NV_INDEX,
            nameAlg=TPM2_ALG.SHA256,
            attributes=_NV_ATTRIBUTES,
            dataSize=len(content),
        )
        with self._attestation_key() as ak, self.command("TPM2_NV_Certify"):
            index = self.esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))
            try:
                self.esapi.nv_write(index, content, auth_handle=ESYS_TR.OWNER)
                attest, signature = self.esapi.nv_certify(ak, index, data, _BY_KEY, len(content))
            finally:
                self.esapi.nv_undefine_space(index)
        return bytes(attest), bytes(signature.marshal())

    def attest_session(self, data: bytes) -> Statement:
        """TPM2_GetSessionAuditDigest over commands that the owner chose."""
        with self._attestation_key() as ak, self.command("TPM2_GetSessionAuditDigest"):
            session = self.esapi.start_auth_session(
                ESYS_TR.NONE,
                ESYS_TR.NONE,
                TPM2_SE.HMAC,
                TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
                TPM2_ALG.SHA256,
            )
            try:
                self.esapi.trsess_set_attributes(
                    session, TPMA_SESSION.AUDIT | TPMA_SESSION.CONTINUESESSION
                )
                self.esapi.pcr_read("sha256:0,7", session1=session)
                attest, signature = self.esapi.get_session_audit_digest(ak, session, data, _BY_KEY)
            finally:
                self.esapi.flush_context(session)
        return bytes(attest), bytes(signature.marshal())

    def attest_creation(self, data: bytes) -> CertifiedKey:
        """TPM2_CertifyCreation of a signing key that was just made."""
        template = signing_key_template(os.urandom(32))
        area, _ = TPMT_PUBLIC.unmarshal(template.marshal())
        with self._attestation_key() as ak, self.command("TPM2_CertifyCreation"):
            handle, public, _, creation_hash, ticket = self.esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area), ESYS_TR.ENDORSEMENT
            )
            try:
                attest, signature = self.esapi.certify_creation(
                    ak, handle, data, creation_hash, _BY_KEY, ticket
                )
            finally:
                self.esapi.flush_context(handle)
        return CertifiedKey(
            bytes(public.publicArea.marshal()), bytes(attest), bytes(signature.marshal())
        )


@contextlib.contextmanager
def machine(state: SoftwareTPMState, boot: SimulatedBoot | None = None) -> Iterator[Machine]:
    """Run a machine on ``state``, booted if a boot is given, for the length of a block."""
    with swtpm_process(state) as tpm, Machine(tpm) as running:
        if boot is not None:
            running.boot(boot)
        yield running
