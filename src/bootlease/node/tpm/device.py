"""The node's TPM behind the ``TPMDevice`` port, through any TCTI of tpm2-tss.

Specifications: TPM 2.0 Library part 3 §12.5 (ActivateCredential), §18.2 (Certify), §18.4
(Quote), §24.1 (CreatePrimary), §28.5 (EvictControl); TCG EK Credential Profile for TPM Family
2.0 v2.5 §2.2.1 (certificates in NV memory), §B.6 (EK policies); TCG Registry of Reserved TPM 2.0
Handles and Localities 1.1 §2.3.1 (persistent handles).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG
from tpm2_pytss.types import (
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_SIMPLE_OBJECT,
    TPMS_CONTEXT,
    TPMT_SIG_SCHEME,
)

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence import CertifiedKey
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import HashAlg, PCRValues
from bootlease.node.tpm.endorsement_keys import EndorsementKeys
from bootlease.node.tpm.esapi import ENDORSEMENT_FIRST, ENDORSEMENT_LAST, as_2b, pcr_selection
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.tpm.permits import PermitSession, Ticket, ticket_session
from bootlease.node.tpm.signing_templates import (
    ENTROPY_BYTES,
    attestation_key_template,
    expiring_key_template,
    signing_key_template,
)
from bootlease.ports import Permit, QuotedState
from bootlease.tpm import TPMSQuoteInfo, parse_attest, parse_public

# The lower part of the range is where makers and installers put their endorsement keys.
_AK_FIRST: Final = 0x81018000
_QUOTE_TRIES: Final = 8
_P256_BYTES: Final = 32
_BY_KEY: Final = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)


class ESAPIDevice(EndorsementKeys):
    """A TPM 2.0; implements ``bootlease.ports.TPMDevice``.

    Attributes:
        ek_algorithm: The endorsement key in use.
        ak_algorithm: Kind of the attestation key that :meth:`create_ak` makes.
    """

    def __init__(
        self,
        tcti: str,
        *,
        ek_algorithm: EKAlgorithm | None = None,
        ak_algorithm: AKAlgorithm = AKAlgorithm.ECC_P256,
        ak_handle: int | None = None,
        owner_auth: bytes = b"",
        endorsement_auth: bytes = b"",
    ) -> None:
        """Open the TPM.

        Args:
            tcti: For example ``device:/dev/tpmrm0`` or ``swtpm:path=/run/tpm``.
            ek_algorithm: The endorsement key to use; by default the first that has a
                certificate, else RSA-2048.
            ak_algorithm: Kind of attestation key to make, if one is made.
            ak_handle: Persistent handle of the attestation key from an earlier run.
            owner_auth: Password of the owner hierarchy (an AK is made persistent with it).
            endorsement_auth: Password of the endorsement hierarchy.

        Raises:
            TransportError: There is no TPM, it may not be used, or it has no key at
                ``ak_handle``.
        """
        super().__init__(tcti, owner_auth=owner_auth, endorsement_auth=endorsement_auth)
        self._ak = contextlib.ExitStack()
        self.ak_algorithm = ak_algorithm
        self._ak_handle: int | None = None
        self._ak_public = b""
        self._permits: PermitSession | None = None
        try:
            self.ek_algorithm = ek_algorithm or self.certified_algorithm()
            if ak_handle is not None:
                self.load_ak(ak_handle)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the attestation key stays in the TPM."""
        self._end_permits()
        self._ak.close()
        super().close()

    # -- endorsement key

    def ek_chain(self) -> Sequence[bytes]:
        """Return the certificate of the EK and what else of its chain the TPM holds."""
        return self.ek_certificate(self.ek_algorithm)

    def ek_public(self) -> bytes:
        """Return TPMT_PUBLIC of the EK."""
        profile, certificate = self.profile(self.ek_algorithm)
        with self.endorsement_key(profile, certificate) as (_, public):
            return public

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential made for this EK and the loaded AK.

        Args:
            id_object: TPM2B_ID_OBJECT.
            encrypted_secret: TPM2B_ENCRYPTED_SECRET.

        Raises:
            TransportError: The TPM refuses it: it is meant for another EK or another AK.
        """
        blob = _unmarshalled(TPM2B_ID_OBJECT, id_object, "id_object")
        secret = _unmarshalled(TPM2B_ENCRYPTED_SECRET, encrypted_secret, "encrypted_secret")
        profile, certificate = self.profile(self.ek_algorithm)
        with (
            self._attestation_key() as ak,
            self.endorsement_key(profile, certificate) as (ek, _),
            self.endorsement_policy(profile) as session,
            self.command("TPM2_ActivateCredential"),
        ):
            activated = self.esapi.activate_credential(
                ak, ek, blob, secret, session1=ESYS_TR.PASSWORD, session2=session
            )
        return bytes(activated)

    # -- attestation key

    @property
    def ak_handle(self) -> int | None:
        """Persistent handle of the attestation key, to be kept for the next run."""
        return self._ak_handle

    def ak_public(self) -> bytes:
        """Return TPMT_PUBLIC of the AK; makes and keeps one if none is loaded."""
        return self._ak_public if self._ak_handle is not None else self.create_ak()

    def create_ak(self, algorithm: AKAlgorithm | None = None) -> bytes:
        """Make an attestation key in the endorsement hierarchy, make it persistent, load it.

        Returns:
            Its TPMT_PUBLIC; its handle is :attr:`ak_handle`.

        Raises:
            TransportError: The TPM refuses, or has no free handle.
        """
        self._make_ak(algorithm or self.ak_algorithm)
        return self._ak_public

    def load_ak(self, key: int | bytes) -> bytes:
        """Use an attestation key that is in the TPM already.

        Args:
            key: Its persistent handle, or its name.

        Returns:
            Its TPMT_PUBLIC.

        Raises:
            TransportError: The TPM does not hold it: it is another TPM, or it was cleared.
        """
        kept = self.handles(ENDORSEMENT_FIRST, ENDORSEMENT_LAST)
        for handle in kept:
            if isinstance(key, int) and handle != key:
                continue
            with self.persistent(handle) as (_, public):
                found = handle == key or _name(public) == key
            if found:
                self._use_ak(handle)
                return public
        wanted = f"at 0x{key:08x}" if isinstance(key, int) else f"named {key.hex()}"
        raise TransportError(f"TPM {self.tcti} holds no attestation key {wanted}; was it cleared?")

    def remove_ak(self) -> None:
        """Remove the attestation key from the TPM; what it signed can never be signed again."""
        if self._ak_handle is None:
            raise RuntimeError("no attestation key is loaded")
        self._ak.close()
        with self.command("TPM2_EvictControl"):
            reference = self.esapi.tr_from_tpmpublic(self._ak_handle)
            self.esapi.evict_control(ESYS_TR.OWNER, reference, self._ak_handle)
            self.esapi.tr_close(reference)
        self._ak_handle, self._ak_public = None, b""

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote PCRs and read the values that the quote speaks of.

        Raises:
            TransportError: The TPM refuses, or the PCRs would not hold still.
        """
        wanted = pcr_selection(selection)
        for _ in range(_QUOTE_TRIES):
            with self._attestation_key() as ak, self.command("TPM2_Quote"):
                attest, signature = self.esapi.quote(ak, wanted, qualifying_data, _BY_KEY)
            attested = bytes(attest)
            pcr_digest = self._quoted_digest(attested)
            pcrs = self.read_pcrs(selection)
            # Somebody (IMA above all) may extend between the two commands.
            if _pcr_digest(pcrs) == pcr_digest:
                return QuotedState(attested, bytes(signature.marshal()), pcrs)
        raise TransportError(f"the PCRs of TPM {self.tcti} changed during {_QUOTE_TRIES} quotes")

    # -- confirmation key

    def bound_key(self) -> ESAPIBoundKey:
        """Make a signing key inside the TPM and have the AK certify it."""
        public, context = self.create_signing_key()
        return ESAPIBoundKey(self, context, self.certify_key(context, public, CERTIFY_LABEL))

    def create_signing_key(self, policy: bytes | None = None) -> tuple[bytes, TPMS_CONTEXT]:
        """Make a P-256 signing key and swap it out: it takes no slot while it is idle.

        Args:
            policy: Its authPolicy, without which it then does nothing; None for none.

        Returns:
            TPMT_PUBLIC, and the context under which the TPM takes it back until its next reset.
        """
        entropy = os.urandom(ENTROPY_BYTES)
        template = (
            signing_key_template(entropy)
            if policy is None
            else expiring_key_template(entropy, policy)
        )
        with self.primary(template, ESYS_TR.ENDORSEMENT) as (handle, public):
            with self.command("TPM2_ContextSave"):
                context = self.esapi.context_save(handle)
            return public, context

    def certify_key(
        self, context: TPMS_CONTEXT, public: bytes, qualifying_data: bytes
    ) -> CertifiedKey:
        """Have the AK certify the signing key of ``context``."""
        with (
            self._attestation_key() as ak,
            self._swapped_in(context) as key,
            self.command("TPM2_Certify"),
        ):
            attest, signature = self.esapi.certify(key, ak, qualifying_data, _BY_KEY)
        return CertifiedKey(public, bytes(attest), bytes(signature.marshal()))

    def sign(
        self, context: TPMS_CONTEXT, digest: bytes, session: ESYS_TR = ESYS_TR.PASSWORD
    ) -> bytes:
        """Sign a SHA-256 digest with the signing key of ``context``: raw ``r || s``."""
        with self.alone(), self._swapped_in(context) as key, self.command("TPM2_Sign"):
            signature = self.esapi.sign(key, as_2b(TPM2B_DIGEST, digest), _BY_KEY, session1=session)
        parts = signature.signature.ecdsa
        return b"".join(
            bytes(part).rjust(_P256_BYTES, b"\0") for part in (parts.signatureR, parts.signatureS)
        )

    def expiring_key(self, policy: bytes) -> ESAPIExpiringKey:
        """Make a signing key that needs a permit, and have the AK certify it."""
        public, context = self.create_signing_key(policy)
        certification = self.certify_key(context, public, CERTIFY_LABEL)
        return ESAPIExpiringKey(self, context, certification)

    def begin_permits(self) -> bytes:
        """Begin a policy session, and end the one before it."""
        self._end_permits()
        self._permits = PermitSession(self)
        return self._permits.nonce

    def redeem(self, authority: bytes, permits: Sequence[Permit]) -> None:
        """Let keys be used under permits of the session that began last, and end that.

        Raises:
            TransportError: A permit is not for it, or too late; none of them is used then.
        """
        if self._permits is None:
            raise TransportError("no session has begun that permits could be for")
        asked = [(each.policy_ref, each.seconds, each.signature) for each in permits]
        try:
            tickets = self._permits.redeem(authority, asked)
        finally:
            self._end_permits()
        for permit, ticket in zip(permits, tickets, strict=True):
            if not isinstance(permit.key, ESAPIExpiringKey):
                raise TypeError("a permit is for an expiring key of this TPM")
            permit.key.ticket = ticket

    # -- inside

    def _end_permits(self) -> None:
        session, self._permits = self._permits, None
        if session is not None:
            # One that a resource manager or a reset has taken away has ended too.
            with contextlib.suppress(TransportError):
                session.close()

    @contextlib.contextmanager
    def _swapped_in(self, context: TPMS_CONTEXT) -> Iterator[ESYS_TR]:
        with self.command("TPM2_ContextLoad"):
            handle = self.esapi.context_load(context)
        try:
            yield handle
        finally:
            with self.command("TPM2_FlushContext"):
                self.esapi.flush_context(handle)

    def _make_ak(self, algorithm: AKAlgorithm) -> int:
        template = attestation_key_template(algorithm, os.urandom(ENTROPY_BYTES))
        handle = self._free_handle()
        with (
            self.primary(template, ESYS_TR.ENDORSEMENT) as (transient, _),
            self.command("TPM2_EvictControl"),
        ):
            kept = self.esapi.evict_control(ESYS_TR.OWNER, transient, handle)
            self.esapi.tr_close(kept)
        self._use_ak(handle)
        return handle

    def _use_ak(self, handle: int) -> None:
        # The reference stays open: opening it anew would cost two commands in every quote.
        self._ak.close()
        _, self._ak_public = self._ak.enter_context(self.persistent(handle))
        self._ak_handle = handle

    @contextlib.contextmanager
    def _attestation_key(self) -> Iterator[ESYS_TR]:
        handle = self._make_ak(self.ak_algorithm) if self._ak_handle is None else self._ak_handle
        with self.persistent(handle) as (reference, _):
            yield reference

    def _quoted_digest(self, attest: bytes) -> bytes:
        parsed = parse_attest(attest)
        if not isinstance(parsed.attested, TPMSQuoteInfo):
            raise TransportError("the TPM answered TPM2_Quote with something that is no quote")
        if parsed.qualified_signer != parse_public(self._ak_public).qualified_name():
            raise TransportError(
                f"TPM {self.tcti} holds another key at 0x{self._ak_handle:08x} than before"
            )
        return parsed.attested.pcr_digest

    def _free_handle(self) -> int:
        taken = set(self.handles(_AK_FIRST, ENDORSEMENT_LAST))
        for handle in range(_AK_FIRST, ENDORSEMENT_LAST + 1):
            if handle not in taken:
                return handle
        raise TransportError(f"TPM {self.tcti} has no free persistent handle")


class ESAPIBoundKey:
    """A confirmation key inside the TPM; dies with the TPM's next reset."""

    def __init__(
        self, device: ESAPIDevice, context: TPMS_CONTEXT, certification: CertifiedKey
    ) -> None:
        """Refer to the key of ``context`` in ``device``."""
        self._device = device
        self._context = context
        self._certification = certification

    @property
    def certification(self) -> CertifiedKey:
        """The AK's certificate over this key."""
        return self._certification

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""
        return self._device.sign(self._context, hashlib.sha256(data).digest())


class ESAPIExpiringKey(ESAPIBoundKey):
    """A confirmation key that the TPM lets nobody use but under a ticket.

    Attributes:
        ticket: The last one; None before the first permit.
    """

    ticket: Ticket | None = None

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``).

        Raises:
            TransportError: The TPM refuses: the ticket's time is over. Nothing here looks at it.
        """
        if self.ticket is None:
            raise TransportError("no permit to use the key has been redeemed yet")
        device = self._device
        with device.alone(), ticket_session(device, self.ticket) as session:
            return self._device.sign(self._context, hashlib.sha256(data).digest(), session)


def _name(public: bytes) -> bytes:
    try:
        return parse_public(public).name
    except MalformedError:
        return b""


def _pcr_digest(pcrs: PCRValues) -> bytes:
    values = b"".join(value for bank in pcrs.values() for value in bank.values())
    return hashlib.sha256(values).digest()


def _unmarshalled(
    kind: type[TPM2B_SIMPLE_OBJECT], content: bytes, name: str
) -> TPM2B_SIMPLE_OBJECT:
    try:
        parsed, used = kind.unmarshal(content)
    except (RuntimeError, ValueError) as exc:
        raise MalformedError(f"{name} is no {kind.__name__}") from exc
    if used != len(content):
        raise MalformedError(f"{name} has bytes behind its end", offset=used)
    return parsed
