"""A store in a file, and all that one needs to decide about made-up nodes in it.

Records, evidence documents, leaves and receipts are real in form and digest; what they say is made
up, and no appraisal would accept it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from bootlease.endorsement import Enrolment
from bootlease.evidence import TCG_LOG, Challenge, Evidence, LeaseRequest, PlainKey
from bootlease.evidence.binding import Binding
from bootlease.ledger import (
    DecisionRecord,
    DelegationRecord,
    GrantedLease,
    LedgerSigner,
    NoteKey,
    Receipt,
    SealedRoot,
)
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import ClockInfo, Finding, HashAlg
from bootlease.ports import (
    Activated,
    CommitOutcome,
    Committed,
    DecisionCommit,
    InForce,
    NewDelegation,
    PendingEnrolment,
    RevokedKind,
    StoredDelegation,
    StoredPolicy,
    StoredReference,
    StoredRevocation,
)
from bootlease.store import Database, SQLStore
from bootlease.store.connection import Connection
from bootlease.store.retention import Plan, announce
from bootlease.token import base64url
from bootlease.token.keys import Algorithm, PrivateKeySigner
from bootlease.token.signatures import TokenSignatures

NOW: Final = 1_795_400_000
"""In November 2026."""
LIFE: Final = 120
SECRET: Final = b"s" * 32
PREFIX: Final = "verifier.example/ledger"
LOG: Final = b"log" * 1000
MARK: Final = HighWaterMark(7, 2, 5)
UNDECIDED: Final = InForce(0, 0, 0)
AUTHOR: Final = "operator:test"


def digest_of(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


class FaultySealer:
    """The ledger's key, which can be made to fail.

    Attributes:
        key: Checks what it signs.
        sealed: What it signed, whether it was committed or not.
        fault: Raised instead of a signature.
    """

    def __init__(self) -> None:
        self._signer = LedgerSigner(PREFIX, PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))
        self.key: NoteKey = self._signer.key
        self.sealed: list[SealedRoot] = []
        self.fault: Exception | None = None

    def seal(self, origin: str, size: int, root: bytes) -> SealedRoot:
        """Sign a tree."""
        if self.fault is not None:
            raise self.fault
        made = self._signer.seal(origin, size, root)
        self.sealed.append(made)
        return made


def enrolment(name: str = "a", ak: bytes = b"ak") -> Enrolment:
    """An enrolment record of a made-up TPM."""
    return Enrolment(
        node=digest_of(name.encode()),
        ek_public=b"ek-" + name.encode(),
        ek_digest=digest_of(b"spki-" + name.encode()),
        ak_public=ak,
        ak_name=b"\0\x0b" + digest_of(ak),
        endorsement=None,
        enrolled_at=0,
    )


def pending(
    record: Enrolment, *, join_token: bytes | None = None, epoch: int = 0
) -> PendingEnrolment:
    """A pending enrolment whose secret is ``SECRET``."""
    return PendingEnrolment(
        id=os.urandom(32),
        enrolment=record,
        ek_chain=(b"der",),
        secret_digest=digest_of(SECRET),
        join_token=join_token,
        policy_epoch=epoch,
        expires_at=NOW + 60,
    )


async def enrol(
    store: SQLStore,
    record: Enrolment,
    *,
    secret: bytes = SECRET,
    join_token: bytes | None = None,
    now: int = NOW,
) -> Activated:
    """Enrol a node the way the service does."""
    epoch = (await store.in_force()).epoch
    waiting = replace(pending(record, join_token=join_token, epoch=epoch), expires_at=now + 60)
    await store.add_pending(waiting, now=now, at_most=10)
    outcome, _ = await store.activate(waiting.id, digest_of(secret), now=now)
    return outcome


def challenge(node: bytes, now: int = NOW) -> Challenge:
    """A fresh challenge."""
    return Challenge(os.urandom(32), node, now, now + LIFE, {HashAlg.SHA256: (0, 1)})


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """Lend a reading connection to a database."""
    database = Database(path)
    database.demand_current()
    connection = database.connect(read_only=True)
    try:
        yield connection
    finally:
        connection.close()


def bodies(receipts: Sequence[Receipt]) -> bytes:
    """An answer that holds its receipts."""
    return b"answer:" + b"|".join(receipt.cose() for receipt in receipts)


def signatures_of(claims: Sequence[bytes]) -> bytes:
    """Made-up signatures of tokens, in their form."""
    made = tuple(os.urandom(64) for _ in claims)
    key_id = base64url.encode(digest_of(b"token key"))
    return TokenSignatures(Algorithm.ES256, key_id, made).encode() if made else b""


@dataclass
class StoredNode:
    """A made-up node and where its decisions stand.

    Attributes:
        record: Its enrolment.
        version: Of its lineage.
        prior: Its lineage.
        last: Digest of its last decision.
        mark: Its high-water mark.
        commits: Its decisions, as they were handed over.
    """

    record: Enrolment
    version: int = 0
    prior: Prior | None = None
    last: bytes | None = None
    mark: HighWaterMark = field(default_factory=HighWaterMark)
    commits: list[DecisionCommit] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        """Its id."""
        return self.record.node

    def evidence(self, question: Challenge, log: bytes, *, again: bool) -> Evidence:
        """Evidence for a challenge, with one log, in full or by its digest."""
        previous = None if self.prior is None else self.prior.head
        binding = Binding(question.nonce, previous, b"s" * 32, b"c" * 32, {TCG_LOG: digest_of(log)})
        lease = LeaseRequest(("tool:x",), "https://rp.example", PlainKey(b"\xa0"))
        made = Evidence(
            binding=binding,
            encoded_binding=binding.encode(),
            leases=(lease,),
            quote=os.urandom(145),
            signature=os.urandom(72),
            pcrs={HashAlg.SHA256: {0: bytes(32), 1: bytes(32)}},
            logs={} if again else {"tcg": log},
        )
        return replace(made, digest=digest_of(made.without_logs().encode()))

    def decide(
        self,
        question: Challenge,
        *,
        granted: bool = True,
        leases: int = 1,
        in_force: InForce = UNDECIDED,
        counters: HighWaterMark = MARK,
        log: bytes = LOG,
        now: int = NOW + 1,
    ) -> DecisionCommit:
        """A decision on this node's evidence; ``committed`` says that it was committed."""
        evidence = self.evidence(question, log, again=self.prior is not None)
        root = evidence.digest if self.prior is None else self.prior.root
        sequence = 0 if self.prior is None else self.prior.sequence + 1
        record = DecisionRecord(
            issuer="https://verifier.example",
            node=self.id,
            time=now,
            challenge=question.encode(),
            evidence=evidence.digest,
            enrolment=self.record.digest,
            prior=None if self.prior is None else self.prior.encode(),
            high_water=self.mark.encode(),
            granted=granted,
            findings=() if granted else (Finding("quote.made-up", "Refused."),),
            lineage_root=root,
            lineage_previous=None if self.prior is None else self.prior.head,
            sequence=sequence,
            references=(b"r" * 32,),
            policy_id="p",
            policy_digest=b"d" * 32,
            policy_epoch=1,
            roots=b"t" * 32,
            code_version="1",
            code=b"k" * 32,
            leases=tuple(
                GrantedLease(os.urandom(16), ("tool:x",), "https://rp.example", b"j" * 32, now)
                for _ in range(leases if granted else 0)
            ),
            previous=self.last,
        )
        claims = tuple(os.urandom(32) for _ in record.leases)
        lineage = Prior(
            root,
            claims[0] if claims else bytes(32),
            sequence,
            ClockInfo(counters.clock, counters.reset_count, counters.restart_count, safe=True),
            now + LIFE,
            {TCG_LOG: digest_of(log)},
            1,
            now,
        )
        return DecisionCommit(
            node=self.id,
            generation=1,
            nonce=question.nonce,
            lineage_version=self.version,
            lineage=lineage if granted else None,
            in_force=in_force,
            high_water=self.mark,
            counters=counters,
            digest=record.digest,
            record=record.encoded,
            claims=claims,
            signatures=signatures_of(claims),
            request=digest_of(b"request" + record.encoded),
            evidence=evidence.digest,
            document=evidence.without_logs().encode(),
            root=root,
            named_logs=evidence.named_logs(),
            logs={evidence.binding.logs[kind]: data for kind, data in evidence.logs.items()},
            granted=granted,
            finish=bodies,
            answer_expires_at=now + LIFE,
            next_challenge=challenge(self.id, now) if granted else None,
            now=now,
        )

    def committed(self, commit: DecisionCommit) -> None:
        """Take over what a committed decision changed."""
        self.version += 1
        self.prior = commit.lineage
        self.last = commit.digest
        self.mark = max(self.mark, commit.counters)
        self.commits.append(commit)


@dataclass
class StoreScene:
    """A store with nodes that can be decided about.

    Attributes:
        path: The database.
        sealer: Signs for its ledger.
        store: The store.
    """

    path: Path
    sealer: FaultySealer
    store: SQLStore
    _questions: dict[bytes, Challenge] = field(default_factory=dict)

    async def node(self, name: str = "a", *, now: int = NOW) -> StoredNode:
        """Enrol a node and ask it a question."""
        made = StoredNode(replace(enrolment(name), enrolled_at=now))
        if await enrol(self.store, made.record, now=now) is not Activated.ENROLLED:
            raise RuntimeError("the node could not be enrolled")
        await self.ask(made, now=now)
        return made

    async def ask(self, node: StoredNode, *, now: int = NOW) -> Challenge:
        """Ask a node another question."""
        question = challenge(node.id, now)
        if not await self.store.add_challenge(question, now=now, at_most=4):
            raise RuntimeError("the node has too many challenges")
        self._questions[node.id] = question
        return question

    def question(self, node: StoredNode) -> Challenge:
        """The question that a node has to answer."""
        return self._questions[node.id]

    async def commit(self, node: StoredNode, commit: DecisionCommit) -> Committed:
        """Commit a decision that will be accepted."""
        committed = await self.store.commit_decision(commit)
        if committed.outcome is not CommitOutcome.COMMITTED:
            raise RuntimeError(f"the decision was not committed: {committed.outcome.value}")
        node.committed(commit)
        if commit.next_challenge is not None:
            self.ask_next(node, commit.next_challenge)
        return committed

    def ask_next(self, node: StoredNode, question: Challenge) -> None:
        """Let a node answer a question that it has been asked in an answer."""
        self._questions[node.id] = question

    async def renew(
        self,
        node: StoredNode,
        *,
        granted: bool = True,
        leases: int = 1,
        log: bytes = LOG,
        now: int = NOW + 1,
    ) -> Committed:
        """Decide about a node by what is in force, and commit that."""
        in_force = await self.store.in_force()
        question = self.question(node)
        return await self.commit(
            node,
            node.decide(
                question, granted=granted, leases=leases, in_force=in_force, log=log, now=now
            ),
        )

    async def fill(self, *, now: int = NOW) -> StoredNode:
        """Put a row into every table that is append-only, except what needs its own occasion."""
        store = self.store
        await store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", now), author=AUTHOR)
        await store.add_reference(StoredReference("r", b"d" * 32, b"text", now), author=AUTHOR)
        await store.add_root(b"der", now=now, author=AUTHOR)
        node = await self.node(now=now)
        await self.renew(node, now=now + 1)
        return node

    async def delegate(self, name: bytes = b"a", *, now: int = NOW) -> StoredDelegation:
        """Record a made-up delegation of a lease that nobody granted."""
        record = DelegationRecord(
            issuer="https://verifier.example",
            node=b"n" * 32,
            time=now,
            decision=b"d" * 32,
            parent=b"p" * 16,
            parent_claims=b"c" * 32,
            lease_id=digest_of(name)[:16],
            scope=("tool:x",),
            audience="https://rp.example",
            thumbprint=b"t" * 32,
            expires_at=now + LIFE,
            grants=(digest_of(b"grant" + name),),
            policy_digest=b"d" * 32,
            policy_epoch=1,
        )
        return await self.store.delegations.commit(
            NewDelegation(
                *(record.digest, record.encoded, record.lease_id, record.parent),
                *(digest_of(b"use" + name), record.expires_at, "cwt", b"claims" + name),
                *(signatures_of([b"claims"]), now),
            )
        )

    async def prune_nothing(self) -> None:
        """Record a pruning that allows nothing to be deleted."""
        nothing = Plan(0, (), (), 0)
        await self.store._writer.submit_recorded(  # noqa: SLF001 - what no caller needs
            NOW, lambda db, to: announce(db, to, nothing, now=NOW, author=AUTHOR)
        )

    async def revoke(self, node: StoredNode) -> None:
        """Revoke a node."""
        revocation = StoredRevocation(
            RevokedKind.NODE, node.id.hex(), in_force=True, reason="stolen", author=AUTHOR, at=NOW
        )
        await self.store.continuity.add_revocation(revocation)

    def rows(self, question: str) -> list[Any]:
        """Ask the file, over a connection of one's own."""
        with closing(sqlite3.connect(self.path)) as raw:
            return raw.execute(question).fetchall()

    def open(self) -> SQLStore:
        """Open the store once more; the caller closes it."""
        return SQLStore.open(self.path, self.sealer, PREFIX)
