"""A node whose TPM is a few software keys: quick, and able to lie field by field.

Specification: TPM 2.0 Library part 1 §36.7 (clock), part 2 §10.12 (attestation structures), part
3 §12.5, §18.2 and §18.4 (what the commands answer).

It implements ``bootlease.ports.TPMDevice``. Its EK certificate is genuine, signed by the CA it is
given; its quotes are genuine structures under a genuine signature unless it was told to lie. Not
simulated: authorisation, persistence, locality of commands.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict, Unpack

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bootlease.errors import TransportError, VerificationError
from bootlease.evidence import CertifiedKey
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import PCR_COUNT, ClockInfo, HashAlg, PCRValues
from bootlease.node.tpm.ek_templates import ek_profiles
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.tpm.signing_templates import (
    attestation_key_template,
    expiring_key_template,
    signing_key_template,
)
from bootlease.ports import Permit, QuotedState
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_permits import (
    SimulatedBoundKey,
    SimulatedExpiringKey,
    SimulatedSession,
)
from bootlease.tpm import (
    TPM_GENERATED,
    TPMST,
    Credential,
    PCRSelection,
    TPMAlg,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSECCPoint,
    TPMSQuoteInfo,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTPublic,
    TPMTSignature,
)
from bootlease.tpm import activate_credential as activate_in_software

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_FIRMWARE_VERSION: Final = 0x2019102300163636
_P256_BYTES: Final = 32
_DRTM_PCRS: Final = range(17, 23)


class Lies(TypedDict, total=False):
    """What a quote may claim against the truth.

    The first nine go into the signed TPMS_ATTEST; ``pcrs`` are values handed over beside it.
    """

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    selections: tuple[PCRSelection, ...]
    pcr_digest: bytes
    attested: TPMSQuoteInfo | TPMSCertifyInfo | bytes
    pcrs: PCRValues


class SimulatedNode:
    """A TPM in software with its event log.

    Attributes:
        event_log: The log of the last boot, as the kernel would show it.
        ima: The kernel's measurement list of the last boot; None where nothing started it.
        clock_info: Clock and reset counters, without the time that passes.
    """

    def __init__(
        self,
        ca: LocalCA,
        *,
        boot: SimulatedBoot | None = None,
        banks: Sequence[HashAlg] = (HashAlg.SHA256,),
        ek_algorithm: EKAlgorithm = EKAlgorithm.ECC_P256,
        ak_algorithm: AKAlgorithm = AKAlgorithm.ECC_P256,
    ) -> None:
        """Make a node.

        Args:
            ca: Certifies the EK.
            boot: What the node has booted; nothing if None.
            banks: Active PCR banks, if there is no boot to say so.
            ek_algorithm: Kind of the EK.
            ak_algorithm: Kind of the AK.
        """
        self._ek_key = _new_key(ek_algorithm)
        self._ek = _public_of(ek_profiles(ek_algorithm)[0].template, self._ek_key)
        self._chain = (ca.issue_ek_certificate(self._ek_key.public_key()), ca.intermediate_der)
        self.replace_ak(ak_algorithm)
        self._banks = tuple(banks) if boot is None else boot.banks
        self._lies: Lies = {}
        self._pcrs: dict[HashAlg, dict[int, bytes]] = {}
        self._started = time.monotonic()
        self._permits: SimulatedSession | None = None
        self.event_log = b""
        self.ima: SimulatedIMA | None = None
        self.clock_info = ClockInfo(clock=0, reset_count=0, restart_count=0, safe=True)
        self.reboot()
        if boot is not None:
            boot.extend(self)
            self.event_log = boot.event_log

    # -- TPMDevice

    def ek_chain(self) -> Sequence[bytes]:
        """Return the EK certificate and the CA's intermediate."""
        return self._chain

    def ek_public(self) -> bytes:
        """Return TPMT_PUBLIC of the EK."""
        return self._ek.marshal()

    def ak_public(self) -> bytes:
        """Return TPMT_PUBLIC of the AK."""
        return self._ak.marshal()

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential made for this EK and AK.

        Raises:
            TransportError: It is meant for another EK or another AK, as a TPM would say.
        """
        credential = Credential(id_object, encrypted_secret)
        try:
            return activate_in_software(self._ek_key, self._ek, self._ak.name, credential)
        except VerificationError as exc:
            raise TransportError(f"TPM2_ActivateCredential failed: {exc}") from exc

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote PCRs, with whatever lies were told to be told."""
        lies = self._lies
        pcrs = self.read_pcrs(selection)
        values = b"".join(value for bank in pcrs.values() for value in bank.values())
        truth = TPMSQuoteInfo(
            tuple(PCRSelection(alg, tuple(sorted(pcrs[alg]))) for alg in selection),
            hashlib.sha256(values).digest(),
        )
        attested = TPMSQuoteInfo(
            lies.get("selections", truth.selections), lies.get("pcr_digest", truth.pcr_digest)
        )
        attest = TPMSAttest(
            lies.get("magic", TPM_GENERATED),
            lies.get("type", TPMST.ATTEST_QUOTE),
            lies.get("qualified_signer", self._ak.qualified_name()),
            lies.get("extra_data", qualifying_data),
            lies.get("clock_info", self.read_clock()),
            lies.get("firmware_version", _FIRMWARE_VERSION),
            lies.get("attested", attested),
        ).marshal()
        return QuotedState(attest, self.sign_as_ak(attest), lies.get("pcrs", pcrs))

    def bound_key(self) -> SimulatedBoundKey:
        """Return a fresh signing key, certified by the AK."""
        key = ec.generate_private_key(ec.SECP256R1())
        return SimulatedBoundKey(key, self._certified(_public_of(signing_key_template(b""), key)))

    def expiring_key(self, policy: bytes) -> SimulatedExpiringKey:
        """Return a fresh signing key that needs a permit, certified by the AK."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = _public_of(expiring_key_template(b"", policy), key)
        return SimulatedExpiringKey(key, self._certified(public))

    def begin_permits(self) -> bytes:
        """Begin a policy session in place of the one before it."""
        self._permits = SimulatedSession()
        return self._permits.nonce

    def redeem(self, authority: bytes, permits: Sequence[Permit]) -> None:
        """Let keys be used under permits of the session that began last, and end that.

        Raises:
            TransportError: There is none, or a permit is not for it.
        """
        session, self._permits = self._permits, None
        if session is None:
            raise TransportError("no session has begun that permits could be for")
        session.redeem(authority, permits)

    def _certified(self, public: TPMTPublic) -> CertifiedKey:
        attest = TPMSAttest(
            TPM_GENERATED,
            TPMST.ATTEST_CERTIFY,
            self._ak.qualified_name(),
            CERTIFY_LABEL,
            self.read_clock(),
            _FIRMWARE_VERSION,
            TPMSCertifyInfo(public.name, public.qualified_name()),
        ).marshal()
        return CertifiedKey(public.marshal(), attest, self.sign_as_ak(attest))

    # -- what a machine does to its TPM

    def read_pcrs(self, selection: Mapping[HashAlg, Sequence[int]]) -> PCRValues:
        """Return PCR values.

        Raises:
            TransportError: A selected bank is not active.
        """
        for alg in selection:
            if alg not in self._pcrs:
                raise TransportError(f"the simulated TPM has no active PCR bank {alg.label}")
        return {
            alg: {pcr: self._pcrs[alg][pcr] for pcr in sorted(pcrs)}
            for alg, pcrs in selection.items()
        }

    def pcr_extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        """Extend one PCR; digests for banks that are not active are ignored, as by a TPM."""
        for alg, digest in digests.items():
            if alg in self._pcrs:
                self._pcrs[alg][pcr] = alg.digest(self._pcrs[alg][pcr] + digest)

    def replace_ak(self, algorithm: AKAlgorithm = AKAlgorithm.ECC_P256) -> None:
        """Make another AK; the EK, the PCRs and the counters stay what they are."""
        self._ak_key = _new_key(algorithm)
        self._ak = _public_of(attestation_key_template(algorithm, b""), self._ak_key)

    def read_clock(self) -> ClockInfo:
        """Return clock and reset counters."""
        passed = int((time.monotonic() - self._started) * 1000)
        return dataclasses.replace(self.clock_info, clock=self.clock_info.clock + passed)

    def start_ima(self) -> SimulatedIMA:
        """Let the kernel measure what is loaded from now on, the boot first."""
        self.ima = SimulatedIMA(self, self._banks)
        alg = HashAlg.SHA256 if HashAlg.SHA256 in self._pcrs else self._banks[0]
        self.ima.start(self._pcrs[alg], alg)
        return self.ima

    def reboot(self, *, orderly: bool = True, locality: int = 0) -> None:
        """Cycle the power: PCRs are reset, resetCount rises by one."""
        self.ima = None
        self.clock_info = dataclasses.replace(
            self.clock_info, reset_count=self.clock_info.reset_count + 1, safe=orderly
        )
        self._pcrs = {
            alg: {
                pcr: (b"\xff" if pcr in _DRTM_PCRS else b"\0") * alg.size
                for pcr in range(PCR_COUNT)
            }
            for alg in self._banks
        }
        for alg, bank in self._pcrs.items():
            bank[0] = locality.to_bytes(alg.size, "big")

    def boot(self, boot: SimulatedBoot) -> None:
        """Cycle the power and boot."""
        self.reboot(locality=boot.startup_locality)
        boot.extend(self)
        self.event_log = boot.event_log

    # -- lying

    def lie(self, **lies: Unpack[Lies]) -> None:
        """Tell lies in every quote from now on; without arguments, be honest again."""
        self._lies = lies

    def sign_as_ak(self, data: bytes) -> bytes:
        """Return the AK's TPMT_SIGNATURE over any bytes, which no real AK would give."""
        if isinstance(self._ak_key, rsa.RSAPrivateKey):
            signature = self._ak_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
            return TPMTSignature(
                TPMAlg.RSASSA, TPMSSignatureRSA(HashAlg.SHA256, signature)
            ).marshal()
        r, s = decode_dss_signature(self._ak_key.sign(data, ec.ECDSA(hashes.SHA256())))
        body = TPMSSignatureECC(
            HashAlg.SHA256, r.to_bytes(_P256_BYTES, "big"), s.to_bytes(_P256_BYTES, "big")
        )
        return TPMTSignature(TPMAlg.ECDSA, body).marshal()


def _new_key(algorithm: EKAlgorithm | AKAlgorithm) -> PrivateKey:
    if algorithm.value == EKAlgorithm.RSA_2048.value:
        return rsa.generate_private_key(65537, 2048)
    p384 = algorithm is EKAlgorithm.ECC_P384
    return ec.generate_private_key(ec.SECP384R1() if p384 else ec.SECP256R1())


def _public_of(template: TPMTPublic, key: PrivateKey) -> TPMTPublic:
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        return dataclasses.replace(template, unique=modulus.to_bytes(key.key_size // 8, "big"))
    point = key.public_key().public_numbers()
    size = (key.key_size + 7) // 8
    unique = TPMSECCPoint(point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big"))
    return dataclasses.replace(template, unique=unique)
