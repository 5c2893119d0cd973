"""Stored delegations: each row, and the lease that its chain began with, made again.

A delegated lease follows from three things: its parent, the grant that the parent's holder signed,
and the moment and id that the verifier gave it. So each is made again: from the claims of its
parent, which are those of a decision made again or of another row, and from the grant in its own
chain. What comes out must be, byte for byte, what is stored; and its record must say of it what
follows from it.

Where the evidence of the decision was let go by retention, its leases cannot be made again. Then
they are compared with what the decision's record says of them, and the rest of a child's claims,
which it has from there, is covered by the leaf alone. That is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from bootlease import cbor
from bootlease.audit.gather import DecisionInputs
from bootlease.audit.replay import Replayer
from bootlease.audit.rows import Checked, DelegationRow
from bootlease.audit.tokens import UNCHECKED, signature_findings
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import DecisionRecord, DelegationRecord, encode_leaf
from bootlease.model import Effect, Finding, sha256
from bootlease.token import ExecutionClaims, KeySet, TokenFormat
from bootlease.token.child import child_claims
from bootlease.token.delegation import Delegation, VerifiedChain, verify_chain
from bootlease.token.grants import parse_grant
from bootlease.token.signatures import TokenSignatures
from bootlease.token.verified import MAX_TOKEN_BYTES

FindDecision = Callable[[bytes], tuple[bytes, tuple[bytes, ...]] | None]
"""Gives record and claims digests of a decision, by its digest."""

FindClaims = Callable[[bytes], bytes | None]
"""Gives the stored claims of a delegated lease, by its id."""


class DelegationCheck:
    """Checks rows of delegations.

    Args:
        inputs: Where policies are found.
        replayer: Makes decisions again.
        decision: Finds decisions.
        claims: Finds delegated leases.
        tokens: The keys that sign tokens, where they are known.
    """

    def __init__(
        self,
        inputs: DecisionInputs,
        replayer: Replayer,
        *,
        decision: FindDecision,
        claims: FindClaims,
        tokens: KeySet | None,
    ) -> None:
        self._inputs = inputs
        self._replayer = replayer
        self._decision = decision
        self._claims = claims
        self._tokens = tokens

    def check(
        self,
        rows: Iterable[DelegationRow],
        leaves: Mapping[tuple[int, int], bytes],
        *,
        first: int,
    ) -> Checked:
        """Check some rows.

        Args:
            rows: In the order of their numbers.
            leaves: The leaves of the ledger at the places that the rows name.
            first: The number that the first of them must have.
        """
        checked = Checked()
        for number, row in enumerate(rows, first):
            checked.rows += 1
            checked.account(row.shard, 1)
            where = f"delegation {row.number}"
            if row.number != number:
                checked.say(where, [_column("number")])
            checked.say(where, list(self._row(row, leaves)))
        return checked

    def _row(
        self, row: DelegationRow, leaves: Mapping[tuple[int, int], bytes]
    ) -> Iterator[Finding]:
        leaf = encode_leaf(row.digest, sha256(row.claims)) if len(row.digest) == _DIGEST else b""
        if leaves.get((row.shard, row.position)) != leaf:
            yield Finding(
                "stored.entry.differs",
                "The ledger has another entry where the delegation's must be.",
            )
        try:
            record = DelegationRecord.parse(row.record)
            claims = _parse(row.claims)
        except MalformedError as exc:
            yield Finding("stored.record.malformed", f"{exc}.")
            return
        if record.digest != row.digest:
            yield Finding(
                "stored.record.altered",
                "The record is not the one that was recorded under its digest.",
            )
        yield from self._signatures(row, claims)
        delegation = claims.delegation
        if delegation is None:
            yield _differs("its token was not delegated")
            return
        yield from _columns(row, record, delegation)
        try:
            chain = verify_chain(claims)
        except VerificationError as exc:
            yield from exc.findings
            return
        yield from self._again(record, claims, chain)
        yield from self._depth(record, chain)

    def _signatures(self, row: DelegationRow, claims: ExecutionClaims) -> Iterator[Finding]:
        try:
            signatures = TokenSignatures.parse(row.signatures)
            form = TokenFormat(row.encoding)
            (token,) = signatures.tokens([(claims, form)])
        except (MalformedError, ValueError) as exc:
            yield Finding("stored.token.malformed", f"{exc}.")
            return
        if self._tokens is None:
            yield UNCHECKED
        elif self._tokens.get(signatures.key_id) is None:
            yield Finding(
                "stored.token.key.unknown",
                "Another key than the verifier's signed the tokens.",
                seen=signatures.key_id,
            )
        else:
            yield from signature_findings(token, form, self._tokens)

    def _again(
        self, record: DelegationRecord, claims: ExecutionClaims, chain: VerifiedChain
    ) -> Iterator[Finding]:
        """Make the lease again from its parent, and compare."""
        if chain.depth > 1:
            stored = self._claims(chain.lease_ids[-2])
            if stored is None:
                yield _differs("the lease that it was delegated from is not here")
                return
            try:
                parent = _parse(stored)
            except MalformedError:
                # The parent's own row tells of it.
                return
        else:
            found = self._root(chain)
            if isinstance(found, Finding):
                yield found
                return
            parent = found
        again = child_claims(
            parent,
            chain.grants[-1],
            claims.confirmation,
            lease_id=record.lease_id,
            decision=record.digest,
            verifier=claims.verifier,
            now=record.time,
        )
        if again != claims:
            yield _differs("made again from its parent, its token says something else")
        if _record_of(record, parent, claims, chain) != record:
            yield _differs("its record does not say what follows from its token")

    def _root(self, chain: VerifiedChain) -> ExecutionClaims | Finding:
        """Return the claims of the lease that a chain began with, made again."""
        root = chain.root
        found = self._decision(root.decision)
        if found is None:
            return _differs("the decision that its chain began with is not here")
        try:
            record = DecisionRecord.parse(found[0])
        except MalformedError:
            # The decision's own row tells of it.
            return _ROOT_UNMADE
        place = next(
            (at for at, lease in enumerate(record.leases) if lease.lease_id == root.lease_id), None
        )
        if place is None or found[1][place : place + 1] != (root.digest,):
            return _differs("the decision that its chain began with granted another lease")
        replayed = self._replayer.replay(record, found[1])
        if replayed.record is None or len(replayed.claims) != len(record.leases):
            lease = record.leases[place]
            said = (lease.scope, lease.audience, lease.expires_at, lease.thumbprint)
            stated = (root.scope, root.audience, root.expires_at, root.confirmation.thumbprint())
            return _ROOT_UNMADE if said == stated else _differs("its chain began with more")
        return replayed.claims[place]

    def _depth(self, record: DelegationRecord, chain: VerifiedChain) -> Iterator[Finding]:
        try:
            policy = self._inputs.policy(record.policy_digest, record.policy_epoch)
        except MalformedError:
            # The policy's own row tells of it.
            return
        if policy is None or policy.digest != record.policy_digest:
            yield _differs("it names a policy that was not in force")
        elif chain.depth + chain.holding.depth > policy.lease.delegation_depth:
            yield _differs("its policy does not allow its depth")


_DIGEST: Final = 32
_ROOT_UNMADE: Final = Finding(
    "stored.delegation.root-unmade",
    "The lease that a chain of delegations began with cannot be made again: its evidence was let"
    " go, or its decision is altered.",
    effect=Effect.NOTES,
)


def _parse(data: bytes) -> ExecutionClaims:
    claims = ExecutionClaims.from_cwt(cbor.decode(data, max_bytes=MAX_TOKEN_BYTES))
    if claims.encoded() != data:
        raise MalformedError("stored claims have another form than a token's")
    return claims


def _columns(
    row: DelegationRow, record: DelegationRecord, delegation: Delegation
) -> Iterator[Finding]:
    try:
        use = parse_grant(delegation.links[-1].grant).use
    except MalformedError:
        # Its chain does not hold, which is told besides.
        use = row.grant_use
    columns = {
        "lease_id": (row.lease_id, record.lease_id),
        "parent": (row.parent, record.parent),
        "grant_use": (row.grant_use, use),
        "expires_at": (row.expires_at, record.expires_at),
    }
    for name, (stored, said) in columns.items():
        if stored != said:
            yield _column(name)


def _record_of(
    record: DelegationRecord, parent: ExecutionClaims, claims: ExecutionClaims, chain: VerifiedChain
) -> DelegationRecord | None:
    """Return the record that follows from a delegated lease and its parent, if any does."""
    try:
        return replace(
            record,
            issuer=claims.issuer,
            node=bytes.fromhex(claims.subject),
            time=claims.issued_at,
            decision=chain.root.decision,
            parent=parent.lease_id,
            parent_claims=parent.digest,
            lease_id=claims.lease_id,
            scope=claims.scope,
            audience=claims.audience,
            thumbprint=claims.confirmation.thumbprint(),
            expires_at=claims.expires_at,
            grants=tuple(grant.digest for grant in chain.grants),
        )
    except ValueError:
        return None


def _column(name: str) -> Finding:
    return Finding("stored.column.differs", f"The column {name} is not what the record says.")


def _differs(what: str) -> Finding:
    return Finding("stored.delegation.differs", f"A delegation is not as it must be: {what}.")
