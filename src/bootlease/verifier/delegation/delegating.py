"""Child leases: from a holder's grant to a token for another key, durable before it is given.

Specifications: RFC 8693 §2 (token exchange), RFC 9449 §5 (proof of the key that a token is for).
What a grant is stands in ``token.grants``; over HTTP this is ``routes.tokens``. The order, labelled
in the code:

1. the parent: a token of this verifier that has not expired, and its chain;
2. what it stands under: no lease of the chain has ended, its node is not revoked, its epoch counts;
3. the grant: made by the parent's holder, within what it holds and what policy allows, in time;
4. the request: asks for nothing else than the grant says;
5. possession: the key granted to made a proof for this very request, now, and for the first time;
6. its one use: a grant that has become a lease gives that lease again, and no other;
7. lease id, record, claims, token;
8. the lease is known to live before it is committed, and looked at again afterwards: whatever ends
   the parent meanwhile ends it.

Until 7 nothing is recorded: a refusal is any stranger's to cause, so refusals are only counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import DelegationRecord
from bootlease.model import Finding
from bootlease.policy import PolicyEpoch
from bootlease.ports import Clock, NewDelegation, Store, StoredDelegation
from bootlease.token import (
    ExecutionClaims,
    KeySet,
    PublicKey,
    TokenFormat,
    base64url,
    parse_token,
    sign_cwt,
    sign_jwt,
    verify_proof,
    verify_token,
)
from bootlease.token.child import child_claims, root_of
from bootlease.token.delegation import holding_of
from bootlease.token.grants import Holding, VerifiedGrant, parse_grant
from bootlease.token.pop import DEFAULT_MAX_AGE, proof_key
from bootlease.token.receipts import attach_receipt
from bootlease.token.signatures import TokenSignatures
from bootlease.token.verified import MAX_TOKEN_BYTES
from bootlease.token.verify import DEFAULT_LEEWAY
from bootlease.verifier.answers import VERIFIER_ID, Issuer
from bootlease.verifier.continuity.indexes import Indexes
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.delegation.exchanges import (
    Exchanged,
    ExchangeError,
    ExchangeFault,
    ExchangeRequest,
    demand_same,
    granted,
)
from bootlease.verifier.delegation.usedproofs import UsedProofs
from bootlease.verifier.limits import Limits, Rate
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.registry import Registry, Snapshot

TOKEN_PATH: Final = "/v1/token"  # noqa: S105 - a path
METHOD: Final = "POST"


_ENDED: Final = Finding(
    "delegation.parent.ended",
    "The lease that the grant passes on, or one that it came from, has ended.",
)
_NO_PROOF: Final = Finding(
    "delegation.proof.missing", "The request carries no proof of the key that the lease is for."
)
_OTHER_KEY: Final = Finding(
    "delegation.proof.key-mismatch", "The proof is made with another key than the grant is to."
)
_USED: Final = Finding(
    "delegation.grant.used", "The holder has used the id of this grant for another one."
)
_TOO_LONG: Final = Finding(
    "delegation.token.too-long",
    f"The child's token would have more than {MAX_TOKEN_BYTES} bytes: its chain is too long.",
)


@dataclass(frozen=True, slots=True)
class _Child:
    """What is about to be given.

    Attributes:
        parent: Claims of the lease that is passed on.
        grant: What its holder granted.
        key: The key granted to.
        lease_id: Of the child.
        policy: What allowed its depth.
        now: Seconds since the epoch.
    """

    parent: ExecutionClaims
    grant: VerifiedGrant
    key: PublicKey
    lease_id: bytes
    policy: PolicyEpoch
    now: int


class Delegating:
    """Gives child leases for grants.

    Args:
        store: Where everything is kept.
        registry: The operator's decisions.
        issuer: Signs tokens.
        clock: Tells the time.
        limits: Bounds.
        live: Knows which leases live.
        keys: Gives the keys whose tokens count.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        issuer: Issuer,
        *,
        clock: Clock,
        limits: Limits,
        live: LiveLeases,
        keys: Callable[[], KeySet],
    ) -> None:
        self._store = store
        self._registry = registry
        self._issuer = issuer
        self._keys = keys
        self._clock = clock
        self._live = live
        self._indexes = Indexes(store, live)
        self._at_most = limits.delegations_per_life
        self._counter = RateCounter(Rate(self._at_most, 1), limits.tracked_clients, shared=False)
        # A proof may pass from leeway before its iat to its age and leeway after.
        self._proofs = UsedProofs(
            keep=DEFAULT_MAX_AGE + 2 * DEFAULT_LEEWAY + 1, at_most=limits.used_proofs
        )

    @property
    def url(self) -> str:
        """What a proof for an exchange names."""
        return self._issuer.url + TOKEN_PATH

    async def exchange(self, request: ExchangeRequest) -> Exchanged:
        """Give what a grant grants.

        Raises:
            ExchangeError: It is refused; nothing was recorded.
            ProblemError: The verifier cannot do it now.
        """
        now = self._clock.now()
        snapshot = self._registry.now
        # 1.
        form, parent = self._parent(request.parent, now)
        try:
            holding = holding_of(parent)
        except VerificationError as exc:
            raise ExchangeError.of(ExchangeFault.REQUEST, exc) from exc
        # 2.
        await self._demand_standing(parent, holding, snapshot, now)
        # 3.
        policy = snapshot.policy
        grant = granted(request.grant, holding, policy.policy.lease.delegation_depth, now)
        # 4.
        demand_same(request, grant)
        # 5.
        key = self._possessed(request.proof, grant, now)
        # 6.
        stored = await self._store.delegations.given(grant.use)
        if stored is not None:
            return self._given(stored, grant, now, again=True)
        self._demand_few(parent.subject, snapshot, now)
        # 7.
        (lease_id,) = await self._indexes.lease_ids(1, now)
        wanted = request.form or (form if form is TokenFormat.CWT else TokenFormat.JWT)
        child = _Child(parent, grant, key, lease_id, policy, now)
        new = self._made(child, wanted)
        # 8.
        if not self._live.delegated(parent.lease_id, lease_id, grant.expires_at, now=now):
            raise ExchangeError(ExchangeFault.REQUEST, _ENDED.message, _ENDED)
        committed = await self._store.delegations.commit(new)
        return self._given(committed, grant, now, again=committed.new.lease_id != lease_id)

    def _parent(self, token: str, now: int) -> tuple[TokenFormat, ExecutionClaims]:
        try:
            _, unverified = parse_token(token)
            # Whom it is for is the grant's to repeat; this verifier is no relying party.
            verified = verify_token(
                token,
                self._keys(),
                now=now,
                issuer=self._issuer.url,
                audience=unverified.audience,
                leeway=0,
            )
        except MalformedError as exc:
            raise ExchangeError(ExchangeFault.REQUEST, f"subject_token: {exc}.") from exc
        except VerificationError as exc:
            raise ExchangeError.of(ExchangeFault.REQUEST, exc) from exc
        return verified.format, verified.claims

    async def _demand_standing(
        self, parent: ExecutionClaims, holding: Holding, snapshot: Snapshot, now: int
    ) -> None:
        findings = []
        if not all(self._live.is_live(each, now) for each in holding.lease_ids):
            findings.append(_ENDED)
        if parent.policy.epoch < snapshot.min_epoch(now):
            findings.append(
                Finding(
                    "delegation.epoch.ended",
                    "The lease was granted under a policy epoch that does not count any more.",
                    expected=f"at least {snapshot.min_epoch(now)}",
                    seen=str(parent.policy.epoch),
                )
            )
        node = await self._store.node(bytes.fromhex(parent.subject))
        revoked = _ENDED if node is None else snapshot.revoked.finding(node.enrolment)
        if revoked is not None and revoked not in findings:
            findings.append(revoked)
        if findings:
            raise ExchangeError(ExchangeFault.REQUEST, findings[0].message, *findings)

    def _possessed(self, proof: str | None, grant: VerifiedGrant, now: int) -> PublicKey:
        if proof is None:
            raise ExchangeError(ExchangeFault.PROOF, _NO_PROOF.message, _NO_PROOF)
        try:
            key = proof_key(proof)
            _demand_key(key, grant)
            verified = verify_proof(
                proof,
                confirmation=key,
                htm=METHOD,
                htu=self.url,
                access_token=None,
                now=now,
            )
            self._proofs.take(verified, now=now)
        except MalformedError as exc:
            raise ExchangeError(ExchangeFault.PROOF, f"DPoP: {exc}.") from exc
        except VerificationError as exc:
            raise ExchangeError.of(ExchangeFault.PROOF, exc) from exc
        return key

    def _demand_few(self, node: str, snapshot: Snapshot, now: int) -> None:
        # Every child is a record that is kept: a node that is admitted must not let the ledger grow
        # as fast as the disk writes.
        self._counter.rate = Rate(self._at_most, snapshot.policy.policy.lease.life)
        if wait := self._counter.count((node,), now):
            raise ProblemError(
                ProblemKind.BUSY_CLIENT,
                "From the node's leases as many were delegated as may be in the life of one.",
                retry_after=wait,
            )

    def _made(self, child: _Child, form: TokenFormat) -> NewDelegation:
        grant = child.grant
        record = self._record(child)
        claims = child_claims(
            child.parent,
            grant,
            child.key,
            lease_id=child.lease_id,
            decision=record.digest,
            verifier=VERIFIER_ID,
            now=child.now,
        )
        signer = self._issuer.signer
        if form is TokenFormat.CWT:
            token = sign_cwt(claims, signer)
        else:
            token = sign_jwt(claims, signer, form).encode("ascii")
        if len(token) > MAX_TOKEN_BYTES:
            raise ExchangeError(ExchangeFault.GRANT, _TOO_LONG.message, _TOO_LONG)
        return NewDelegation(
            digest=record.digest,
            record=record.encoded,
            lease_id=child.lease_id,
            parent=child.parent.lease_id,
            use=grant.use,
            expires_at=grant.expires_at,
            encoding=form.value,
            claims=claims.encoded(),
            signatures=TokenSignatures.under([token], signer).encode(),
            now=child.now,
        )

    def _record(self, child: _Child) -> DelegationRecord:
        parent, grant = child.parent, child.grant
        before = () if parent.delegation is None else parent.delegation.links
        return DelegationRecord(
            issuer=self._issuer.url,
            node=bytes.fromhex(parent.subject),
            time=child.now,
            decision=root_of(parent).decision,
            parent=parent.lease_id,
            parent_claims=parent.digest,
            lease_id=child.lease_id,
            scope=grant.scope,
            audience=grant.audience,
            thumbprint=grant.thumbprint,
            expires_at=grant.expires_at,
            grants=(*(parse_grant(link.grant).digest for link in before), grant.digest),
            policy_digest=child.policy.policy.digest,
            policy_epoch=child.policy.epoch,
        )

    def _given(
        self, stored: StoredDelegation, grant: VerifiedGrant, now: int, *, again: bool
    ) -> Exchanged:
        new = stored.new
        if DelegationRecord.parse(new.record).grants[-1] != grant.digest:
            raise ExchangeError(ExchangeFault.GRANT, _USED.message, _USED)
        # Whatever ended the parent while this was written ended the child too.
        if not self._live.is_live(new.lease_id, now):
            raise ExchangeError(ExchangeFault.REQUEST, _ENDED.message, _ENDED)
        form = TokenFormat(new.encoding)
        claims = ExecutionClaims.from_cwt(cbor.decode(new.claims, max_bytes=MAX_TOKEN_BYTES))
        (token,) = TokenSignatures.parse(new.signatures).tokens([(claims, form)])
        receipt = None
        if form is TokenFormat.CWT:
            text = base64url.encode(attach_receipt(token, stored.receipt.cose()))
        else:
            text, receipt = token.decode("ascii"), stored.receipt.tlog_proof().decode()
        left = new.expires_at - now
        return Exchanged(text, form, receipt, left, claims.scope, new.lease_id, again)


def _demand_key(key: PublicKey, grant: VerifiedGrant) -> None:
    if key.thumbprint() != grant.thumbprint:
        raise VerificationError(_OTHER_KEY)
