"""Enrolment: who may, and the proof that AK and EK are in one TPM.

Specification: design section 4, step 1; docs/protocol.md, "Enrolment". The steps are
numbered in the code.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.appraisal import AcceptedEnrolment, accept_enrolment
from bootlease.errors import VerificationError
from bootlease.evidence import (
    Activation,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
)
from bootlease.model import Finding, HashAlg
from bootlease.ports import Activated, Clock, PendingEnrolment, Store
from bootlease.tpm import Credential, make_credential
from bootlease.verifier.continuity.ending import Ending, EndKind
from bootlease.verifier.limits import Limits
from bootlease.verifier.operators.access import secret_digest
from bootlease.verifier.problems import ProblemError, ProblemKind, too_many
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.registry import Registry

_SECRET_BYTES: Final = 32
_JOIN_TOKEN_REFUSED: Final = Finding(
    "enrolment.join-token.refused",
    "The join token is unknown, has expired or belongs to another node.",
)
_ACTIVATION_FINDINGS: Final = {
    Activated.WRONG_SECRET: Finding(
        "enrolment.secret.mismatch",
        "The secret is not the one that was given to the TPM: EK and AK are not in one TPM.",
    ),
    Activated.JOIN_TOKEN_TAKEN: _JOIN_TOKEN_REFUSED,
    Activated.POLICY_MOVED: Finding(
        "enrolment.policy.moved",
        "Another policy was activated since the enrolment began; begin it again.",
    ),
}


class Enrolling:
    """Answers enrolment requests and activations.

    Args:
        store: Where enrolments are kept.
        registry: The operator's decisions.
        clock: Tells the time.
        limits: Bounds.
        ending: Ends leases.
    """

    def __init__(
        self, store: Store, registry: Registry, clock: Clock, limits: Limits, ending: Ending
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._limits = limits
        self._ending = ending
        self._enrolled = RateCounter(
            limits.enrolments_per_node, limits.tracked_clients, shared=False
        )

    async def begin(self, body: bytes) -> CredentialChallenge:
        """Check an enrolment request and answer with a credential for its TPM.

        Raises:
            MalformedError: The request or a structure in it does not parse.
            VerificationError: The node may not enrol; with every finding.
            ProblemError: No policy is active, or the node has enrolled too often.
            StoreBusyError: Too many enrolments are pending.
        """
        now = self._clock.now()
        snapshot = self._registry.now
        policy = snapshot.policy.policy
        request = EnrolmentRequest.parse(body)
        # 1. Keys, endorsement and policy's admission.
        accepted = accept_enrolment(request, snapshot.roots, policy, now=now)
        enrolment = accepted.enrolment(now=now)
        revoked = snapshot.revoked.finding(enrolment)
        if revoked is not None:
            raise VerificationError(revoked)
        # Only whoever has the EK can enrol, so nobody else makes a node wait.
        if wait := self._enrolled.wait((accepted.node.hex(),), now):
            raise too_many(wait)
        # 2. The join token, looked at now and bound in the transaction that enrols.
        join_token: bytes | None = None
        if accepted.needs_join_token:
            join_token = secret_digest(request.join_token or "")
            if not await self._store.join_token_admits(join_token, accepted.node, now=now):
                raise VerificationError(_JOIN_TOKEN_REFUSED)
        # 3. The credential, for the AK's name as recomputed here (attack B4).
        secret = secrets.token_bytes(_SECRET_BYTES)
        credential = _credential(accepted, secret)
        pending = PendingEnrolment(
            id=secrets.token_bytes(32),
            enrolment=enrolment,
            ek_chain=request.ek_chain,
            secret_digest=hashlib.sha256(secret).digest(),
            join_token=join_token,
            policy_epoch=snapshot.policy.epoch,
            expires_at=now + self._limits.enrolment_time,
        )
        await self._store.add_pending(pending, now=now, at_most=self._limits.pending_enrolments)
        return CredentialChallenge(pending.id, credential.id_object, credential.encrypted_secret)

    async def finish(self, enrolment: bytes, body: bytes) -> EnrolmentReceipt:
        """Enrol the node whose TPM returned the secret.

        Raises:
            MalformedError: The message does not parse.
            ProblemError: There is no such pending enrolment, or it may not be finished so.
        """
        # 4. Activation: one try, compared in constant time and deleted (attack B6).
        digest = hashlib.sha256(Activation.parse(body).secret).digest()
        now = self._clock.now()
        outcome, node = await self._store.activate(enrolment, digest, now=now)
        if outcome in {Activated.ENROLLED, Activated.REPLACED} and node is not None:
            self._enrolled.count((node.hex(),), now)
            self._ending.node_ended(EndKind.ENROLLED_AGAIN, node, "the node enrolled", now)
            if outcome is Activated.REPLACED:
                await self._replaced(node, now)
            return EnrolmentReceipt(node)
        if outcome is Activated.UNKNOWN:
            raise ProblemError(
                ProblemKind.UNKNOWN_ENROLMENT,
                "There is no such pending enrolment: it was tried before or has expired.",
            )
        raise ProblemError(
            ProblemKind.ENROLMENT_REFUSED,
            "The enrolment is refused; begin a new one.",
            findings=[_ACTIVATION_FINDINGS[outcome]],
        )

    async def _replaced(self, node: bytes, now: int) -> None:
        """End what the nodes hold whose place a node has taken."""
        # Nothing is granted to them any more: a decision that is under way finds itself outdated.
        for old in await self._store.operators.replaced_by(node):
            self._ending.node_ended(EndKind.REVOKED, old, f"replaced by {node.hex()}", now)
        await self._registry.reload()


def _credential(accepted: AcceptedEnrolment, secret: bytes) -> Credential:
    ek = accepted.ek
    if isinstance(ek.key, rsa.RSAPublicKey):
        seed = secrets.token_bytes(HashAlg(ek.public.name_alg).size)
        return make_credential(ek, accepted.ak.name, secret, seed=seed)
    ephemeral = ec.generate_private_key(ek.key.curve)
    return make_credential(ek, accepted.ak.name, secret, ephemeral=ephemeral)
