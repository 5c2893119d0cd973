"""The endorsement keys of a TPM: certificates in NV memory, keys by template, their policy.

Specification: TCG EK Credential Profile for TPM Family 2.0 v2.5 §2.2.1 (certificates and templates
in NV memory), §B.3 and §B.4 (templates), §B.6 (policies).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPM2_SE
from tpm2_pytss.types import TPML_DIGEST, TPMT_SYM_DEF

from bootlease.errors import MalformedError, TransportError
from bootlease.node.tpm.ek_templates import (
    EK_CHAIN_FIRST_INDEX,
    EK_CHAIN_LAST_INDEX,
    POLICY_C,
    EKProfile,
    ek_profiles,
    split_chain,
    trimmed_certificate,
    with_nonce,
)
from bootlease.node.tpm.esapi import ENDORSEMENT_FIRST, ENDORSEMENT_LAST, Connection
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.tpm import TPMTPublic, parse_public

_NO_SYMMETRIC: Final = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)


class EndorsementKeys(Connection):
    """A connection that knows the TPM's endorsement keys."""

    def ek_certificate(self, algorithm: EKAlgorithm) -> list[bytes]:
        """Return the EK certificate of ``algorithm``, then the chain; empty if there is none."""
        _, certificate = self.profile(algorithm)
        if certificate is None:
            return []
        indices = self.nv_indices(EK_CHAIN_FIRST_INDEX, EK_CHAIN_LAST_INDEX)
        chain = b"".join(self.nv_read(index) or b"" for index in indices)
        return [certificate, *split_chain(chain)]

    @contextlib.contextmanager
    def endorsement_key(
        self, profile: EKProfile, certificate: bytes | None
    ) -> Iterator[tuple[ESYS_TR, bytes]]:
        """Refer to an endorsement key for the length of a block.

        Yields:
            Its ESYS handle and TPMT_PUBLIC.
        """
        handle = self._kept_endorsement_key(profile, certificate)
        if handle is not None:
            with self.persistent(handle) as found:
                yield found
        else:
            with self.primary(self._template(profile), ESYS_TR.ENDORSEMENT) as made:
                yield made

    def _kept_endorsement_key(self, profile: EKProfile, certificate: bytes | None) -> int | None:
        # Making an RSA EK takes a hardware TPM many seconds; most hold it persistently. Only the
        # certified key will do: another primary of the same template is another identity.
        if certificate is None:
            return None
        for handle in self.handles(ENDORSEMENT_FIRST, ENDORSEMENT_LAST):
            with self.persistent(handle) as (_, public):
                try:
                    key = parse_public(public)
                except MalformedError:
                    continue
                same_kind = key.parameters == profile.template.parameters
                if same_kind and _unique_bytes(key) in certificate:
                    return handle
        return None

    def _template(self, profile: EKProfile) -> TPMTPublic:
        own = self.nv_read(profile.template_index)
        try:
            template = parse_public(own) if own else profile.template
        except MalformedError as exc:
            raise TransportError(
                f"the EK template at 0x{profile.template_index:08x} cannot be read: {exc}"
            ) from exc
        if profile.nonce_index is None:
            return template
        nonce = self.nv_read(profile.nonce_index)
        return template if nonce is None else with_nonce(template, nonce)

    def profile(self, algorithm: EKAlgorithm) -> tuple[EKProfile, bytes | None]:
        """Return the profile that this TPM has a certificate for, else the first, and that."""
        profiles = ek_profiles(algorithm)
        for profile in profiles:
            content = self.nv_read(profile.certificate_index)
            if content is not None:
                return profile, trimmed_certificate(content)
        return profiles[0], None

    def certified_algorithm(self) -> EKAlgorithm:
        """Return the first algorithm that has a certificate, RSA-2048 where none has one."""
        for algorithm in EKAlgorithm:
            if self.profile(algorithm)[1] is not None:
                return algorithm
        return EKAlgorithm.RSA_2048

    @contextlib.contextmanager
    def endorsement_policy(self, profile: EKProfile) -> Iterator[ESYS_TR]:
        """Open the policy session that lets an endorsement key activate a credential."""
        with self.command("TPM2_StartAuthSession"):
            session = self.esapi.start_auth_session(
                ESYS_TR.NONE,
                ESYS_TR.NONE,
                TPM2_SE.POLICY,
                _NO_SYMMETRIC,
                TPM2_ALG(profile.policy_hash),
            )
        try:
            with self.command("TPM2_PolicySecret"):
                self.esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, expiration=0)
            if profile.nonce_index is None:
                with self.command("TPM2_PolicyOR"):
                    secret = bytes(self.esapi.policy_get_digest(session))
                    either = [secret, POLICY_C[profile.policy_hash]]
                    self.esapi.policy_or(session, TPML_DIGEST(either))
            yield session
        finally:
            with self.command("TPM2_FlushContext"):
                self.esapi.flush_context(session)


def _unique_bytes(key: TPMTPublic) -> bytes:
    return key.unique if isinstance(key.unique, bytes) else key.unique.x + key.unique.y
