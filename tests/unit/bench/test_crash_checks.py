"""The crash test's own checks: each finds its fault, and nothing in what is sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from bench.crash.checks import every_check
from bench.crash.clients import Heard, Told, without_log
from bench.crash.ledger import roots_of
from bench.crash.recorded import Database, Recorded, Shard
from bootlease.evidence import Challenge, IssuedLease, LeaseAnswer, TokenEncoding
from bootlease.ledger import (
    DecisionRecord,
    Frontier,
    GrantedLease,
    LedgerSigner,
    NoteKey,
    Receipt,
    encode_leaf,
    extend,
    leaf_hash,
)
from bootlease.lineage import head_after
from bootlease.model import HashAlg
from bootlease.testing.fleet import FleetImage, FleetNode
from bootlease.token import PrivateKeySigner
from bootlease.token.receipts import attach_receipt

ORIGIN = "verifier.example/ledger/2026-11"
NODE = b"\x03" * 32
BARE_TOKEN = b"\xd2\x84\x41\xa0\xa0\x41\xa0\x41\xa0"
GRANTS = 3


def digest(*parts: object) -> bytes:
    """A digest that stands for something."""
    return hashlib.sha256(repr(parts).encode()).digest()


def challenge(number: int) -> Challenge:
    """The challenge of one decision."""
    return Challenge(digest("nonce", number), NODE, 100, 220, {HashAlg.SHA256: (0,)})


class Story:
    """One node, a lineage of three grants, and both sides' memory of it."""

    def __init__(self) -> None:
        self.signer = LedgerSigner(
            "verifier.example/ledger", PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
        )
        self.heard = Heard(nodes={NODE})
        self.decisions: list[Recorded] = []
        self.frontier = Frontier()
        self.leaves: list[bytes] = []
        self.roots: dict[int, bytes] = {}
        for number in range(GRANTS):
            self.grant(number)

    @property
    def key(self) -> NoteKey:
        """The ledger's key."""
        return self.signer.key

    @property
    def database(self) -> Database:
        """What is recorded."""
        return Database(
            sound="ok",
            nodes=frozenset({NODE}),
            decisions=tuple(self.decisions),
            spent=frozenset(each.nonce for each in self.decisions),
            shards={1: Shard(ORIGIN, tuple(enumerate(self.leaves)), dict(self.roots))},
        )

    def grant(self, number: int) -> None:
        """Decide once more, and answer."""
        before = self.decisions[-1] if self.decisions else None
        head = None if before is None else head_after(before.claims)
        claims = digest("claims", number)
        record = self.record(number, head, before)
        self.decisions.append(
            Recorded(record.digest, digest("nonce", number), (claims,), record, 1, number)
        )
        token = attach_receipt(BARE_TOKEN, self.receipt(encode_leaf(record.digest, claims)).cose())
        lease = IssuedLease(bytes(16), TokenEncoding.CWT, token, claims, 220)
        answer = LeaseAnswer(
            decision=record.digest,
            head=head_after((claims,)),
            sequence=number,
            life=120,
            expires_in=120,
            leases=(lease,),
            challenge=challenge(number + 1),
        )
        self.heard.answers.append(
            Told(NODE, digest("nonce", number), head, record.evidence, answer, float(number))
        )

    def receipt(self, leaf: bytes) -> Receipt:
        """Append a leaf."""
        extension = extend(self.frontier, [leaf_hash(leaf)])
        index, self.frontier = self.frontier.size, extension.frontier
        self.leaves.append(leaf)
        root = self.frontier.root()
        self.roots[self.frontier.size] = root
        sealed = self.signer.seal(ORIGIN, self.frontier.size, root)
        return Receipt(leaf, index, extension.path(0), sealed)

    @staticmethod
    def record(number: int, head: bytes | None, before: Recorded | None) -> DecisionRecord:
        """The record of one grant."""
        return DecisionRecord(
            issuer="https://verifier.example",
            node=NODE,
            time=100 + number,
            challenge=challenge(number).encode(),
            evidence=digest("evidence", number),
            enrolment=digest("enrolment"),
            prior=None,
            high_water=bytes(16),
            granted=True,
            findings=(),
            lineage_root=digest("evidence", 0),
            lineage_previous=head,
            sequence=number,
            references=(),
            policy_id="default",
            policy_digest=digest("policy"),
            policy_epoch=1,
            roots=digest("roots"),
            code_version="0",
            code=digest("code"),
            leases=(GrantedLease(bytes(16), ("tool:search",), "https://a", digest("key"), 220),),
            previous=None if before is None else before.digest,
        )


def check(story: Story, database: Database | None = None) -> list[str]:
    """Make every check."""
    return every_check(story.heard, database or story.database, story.key)


def test_a_sound_story_has_no_complaint() -> None:
    """Nor has an empty one."""
    assert check(Story()) == []
    assert every_check(Heard(), Database("ok", frozenset(), (), frozenset(), {}), Story().key) == []


def test_merkle_roots_are_those_of_the_product() -> None:
    """Two implementations of RFC 9162 agree for every size."""
    leaves = [digest(number) for number in range(70)]
    roots = roots_of(leaves)
    for size in range(1, len(leaves) + 1):
        grown = extend(Frontier(), [leaf_hash(leaf) for leaf in leaves[:size]])
        assert grown.frontier.root() == roots[size]


Breaking = Callable[[Story], Database | None]


def lose_the_last(story: Story) -> Database:
    """The last decision did not survive, and nothing else is wrong with the database."""
    story.decisions.pop()
    story.leaves.pop()
    del story.roots[GRANTS]
    return story.database


def other_claims(story: Story) -> None:
    """Other claims are recorded than were given out; the ledger agrees with the record."""
    last = story.decisions[-1]
    story.decisions[-1] = dataclasses.replace(last, claims=(digest("other"),))


def retell(**changes: object) -> Breaking:
    """The last answer was another."""

    def change(story: Story) -> None:
        last = story.heard.answers[-1]
        story.heard.answers[-1] = dataclasses.replace(last, **changes)  # type: ignore[arg-type]  # any field

    return change


def reanswer(**changes: object) -> Breaking:
    """The last answer's body was another."""

    def change(story: Story) -> None:
        last = story.heard.answers[-1]
        answer = dataclasses.replace(last.answer, **changes)  # type: ignore[arg-type]  # any field
        story.heard.answers[-1] = dataclasses.replace(last, answer=answer)

    return change


def rerecord(**changes: object) -> Breaking:
    """The last record was another."""

    def change(story: Story) -> None:
        last = story.decisions[-1]
        record = dataclasses.replace(last.record, **changes)  # type: ignore[arg-type]  # any field
        story.decisions[-1] = dataclasses.replace(last, record=record)

    return change


def unspend_nothing(story: Story) -> Database:
    """A challenge is spent, and nobody knows for what."""
    return dataclasses.replace(
        story.database, spent=story.database.spent | {digest("nonce", "lost")}
    )


def use_twice(story: Story) -> None:
    """Two decisions rest on one challenge."""
    story.decisions[-1] = dataclasses.replace(story.decisions[-1], nonce=digest("nonce", 1))


def tell_twice(story: Story) -> None:
    """Another client was told another decision on a challenge that had one."""
    story.heard.answers.append(dataclasses.replace(story.heard.answers[-1], nonce=digest("n", 0)))
    story.heard.answers.append(
        dataclasses.replace(story.heard.answers[0], nonce=digest("n", 0), node=bytes(32))
    )


def forget_a_node(story: Story) -> Database:
    """A node that holds a receipt is not enrolled."""
    return dataclasses.replace(story.database, nodes=frozenset())


def damage(story: Story) -> Database:
    """SQLite finds the file damaged."""
    return dataclasses.replace(story.database, sound="row 1 missing from index")


def rewrite_a_leaf(story: Story) -> None:
    """The ledger has another leaf where a receipt was given for this one."""
    story.leaves[0] = encode_leaf(digest("another"), None)


def fork_the_ledger(story: Story) -> None:
    """A restart appended other leaves over those that receipts were given for."""
    story.leaves[-1] = encode_leaf(digest("another"), None)
    story.roots[GRANTS] = roots_of(story.leaves)[GRANTS]
    last = story.decisions[-1]
    story.decisions[-1] = dataclasses.replace(last, position=GRANTS)
    story.leaves.append(encode_leaf(last.digest, last.claims[0]))
    story.roots[GRANTS + 1] = roots_of(story.leaves)[GRANTS + 1]


def leave_the_end_unsealed(story: Story) -> None:
    """A leaf has no checkpoint."""
    story.leaves.append(encode_leaf(digest("another"), None))


def leave_a_gap(story: Story) -> Database:
    """A position of the ledger is empty."""
    shard = story.database.shards[1]
    gap = dataclasses.replace(shard, leaves=(*shard.leaves, (GRANTS + 1, b"x")))
    return dataclasses.replace(story.database, shards={1: gap})


def strip_the_receipt(story: Story) -> None:
    """A token came without its receipt."""
    last = story.heard.answers[-1]
    lease = dataclasses.replace(last.answer.leases[0], token=BARE_TOKEN)
    reanswer(leases=(lease,))(story)


def borrow_a_receipt(story: Story) -> None:
    """A token came with the receipt of another."""
    lease = story.heard.answers[-1].answer.leases[0]
    other = story.heard.answers[0].answer.leases[0]
    reanswer(leases=(dataclasses.replace(lease, token=other.token),))(story)


def complain(story: Story) -> None:
    """A client saw what no verifier may answer."""
    story.heard.complaints.append("seen by a client")


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (lose_the_last, "the decision is not recorded"),
        (other_claims, "other claims are recorded"),
        (retell(document=bytes(32)), "other evidence is recorded"),
        (retell(nonce=bytes(32)), "recorded for another node or challenge"),
        (forget_a_node, "was told that it is enrolled, and is not"),
        (use_twice, "has 2 decisions"),
        (tell_twice, "clients were told 2 decisions"),
        (unspend_nothing, "is spent without a decision"),
        (rerecord(previous=bytes(32)), "does not follow its node's last one"),
        (rerecord(lineage_root=bytes(32)), "does not continue its lineage"),
        (rerecord(sequence=GRANTS), "does not continue its lineage"),
        (rerecord(lineage_previous=bytes(32)), "does not continue its lineage"),
        (rerecord(sequence=0), "begins a lineage with a head before it"),
        (retell(previous=None), "the node's lineage did not continue"),
        (reanswer(sequence=GRANTS), "the node's lineage did not continue"),
        (reanswer(sequence=GRANTS), "recorded at another place of its lineage"),
        (reanswer(head=bytes(32)), "the head is not that of its claims"),
        (rewrite_a_leaf, "is not that of its leaves"),
        (rewrite_a_leaf, "is not where the ledger should have it"),
        (fork_the_ledger, "is of a tree that the ledger is no continuation of"),
        (leave_the_end_unsealed, "its last leaves have no checkpoint"),
        (leave_a_gap, "has gaps between its leaves"),
        (strip_the_receipt, "0 receipts came with it"),
        (borrow_a_receipt, "its receipt does not verify"),
        (damage, "the database is damaged"),
        (complain, "seen by a client"),
    ],
)
def test_each_check_finds_its_fault(breaking: Breaking, words: str) -> None:
    """What was broken is named."""
    story = Story()
    database = breaking(story)
    assert any(words in complaint for complaint in check(story, database))


def test_evidence_has_one_name_with_its_log_and_without() -> None:
    """The digest that a record holds is that of the document without logs."""
    node = FleetNode(FleetImage())
    node.enrolled_as(NODE)
    node.take_challenge(challenge(0))
    full = node.evidence(full=True)
    short = without_log(full)
    assert without_log(short) == short
    assert len(short) < 1_200 < len(full)
    tail = full.index(b"\x64pcrs", len(full) - len(short))
    assert short.endswith(full[tail:])
