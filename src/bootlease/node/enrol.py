"""Enrolment: two calls after which the verifier knows this TPM."""

from __future__ import annotations

import hmac
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import Activation, EnrolmentRequest
from bootlease.evidence.enrolment import node_id
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import Verifier
from bootlease.node.memory import Enrolment
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.ports import TPMDevice
from bootlease.tpm import accept_endorsement_key, parse_public

EK_ALGORITHM: Final = "enrolment.ek-algorithm.mismatch"
"""The finding of a verifier that enrols nodes by an EK of another kind; names that kind."""


def attestation_key_name(device: TPMDevice) -> bytes:
    """Return the name of the device's AK.

    Raises:
        TransportError: The TPM cannot be reached, or gave no key.
    """
    try:
        return parse_public(device.ak_public()).name
    except MalformedError as exc:
        raise TransportError(f"the TPM gave an attestation key that is none: {exc}") from exc


def enrol(verifier: Verifier, device: TPMDevice, bundle: JoinBundle) -> Enrolment:
    """Enrol the device's EK and AK.

    Raises:
        VerificationError: The verifier does not let this node in.
        MalformedError: The verifier cannot read the request.
        TransportError: Verifier or TPM cannot be reached, or the verifier named another node.
    """
    ek_public = device.ek_public()
    ak_name = attestation_key_name(device)
    request = EnrolmentRequest(
        ek_public=ek_public,
        ak_public=device.ak_public(),
        ek_chain=tuple(device.ek_chain()),
        join_token=bundle.join_token,
    )
    try:
        credential = verifier.enrol(request)
    except VerificationError as exc:
        if algorithm := _wanted_algorithm(exc):
            exc.add_note(
                f"hint: run with --ek-algorithm {algorithm.value}, or write"
                f' ek_algorithm = "{algorithm.value}" under [node] in its configuration'
            )
        raise
    secret = device.activate_credential(credential.id_object, credential.encrypted_secret)
    receipt = verifier.activate(credential.enrolment, Activation(secret))
    node = _node_id(ek_public)
    if not hmac.compare_digest(receipt.node, node):
        raise TransportError(
            "the verifier enrolled this TPM under another node id than its endorsement key's"
        )
    return Enrolment(verifier=bundle.digest, node=node, ak=ak_name)


def _node_id(ek_public: bytes) -> bytes:
    try:
        return node_id(accept_endorsement_key(parse_public(ek_public)).spki)
    except (MalformedError, VerificationError) as exc:
        raise TransportError(
            f"the verifier enrolled an endorsement key that is none: {exc}"
        ) from exc


def _wanted_algorithm(refused: VerificationError) -> EKAlgorithm | None:
    wanted = {finding.expected for finding in refused.findings if finding.id == EK_ALGORITHM}
    return next((kind for kind in EKAlgorithm if kind.value in wanted), None)
