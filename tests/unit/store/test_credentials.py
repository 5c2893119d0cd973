"""Admin credentials, the two-person rule, and what waits for a second person."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from bootlease.ledger import GovernanceRecord
from bootlease.ports import (
    Act,
    Approval,
    CredentialRevocation,
    Proposal,
    Role,
    RuleChange,
    StoreBusyError,
    StoredCredential,
    StoredPolicy,
)
from bootlease.store import SQLStore
from bootlease.store.credentials import are_two_persons
from bootlease.store.proposals import MAX_OF_ONE, MAX_PROPOSALS
from bootlease.testing.store_scene import AUTHOR, NOW, StoreScene

ROOT, ALICE, BOB = b"r" * 32, b"a" * 32, b"b" * 32
LATER = NOW + 100


def credential(name: str, maker: str | None = None, *, joint: bool = False) -> StoredCredential:
    """A credential that another made."""
    digest = name.encode().ljust(32, b".")
    made_by = None if maker is None else maker.encode().ljust(32, b".")
    return StoredCredential(digest, name, (Role.OPERATOR,), NOW, made_by, joint)


KNOWN = {
    each.label: each
    for each in (
        credential("init"),
        credential("alice", "init"),
        credential("bob", "init"),
        credential("aide", "alice"),
        credential("second-aide", "aide"),
        credential("of-bob", "bob", joint=True),
        credential("also-of-bob", "bob", joint=True),
        credential("of-of-bob", "of-bob", joint=True),
        credential("of-init", "init", joint=True),
        credential("of-alice", "alice", joint=True),
        credential("lost-maker", "nobody", joint=True),
    )
}


@pytest.mark.parametrize(
    ("first", "second", "two"),
    [
        ("alice", "bob", True),
        ("aide", "bob", True),
        ("of-bob", "alice", True),
        ("of-bob", "of-alice", True),
        ("lost-maker", "alice", True),
        ("alice", "alice", False),
        ("alice", "init", False),
        ("aide", "alice", False),
        ("second-aide", "alice", False),
        ("of-bob", "bob", False),
        ("of-bob", "also-of-bob", False),
        ("of-of-bob", "also-of-bob", False),
        ("of-of-bob", "bob", False),
        ("of-init", "alice", False),
    ],
)
def test_two_credentials_are_two_persons(first: str, second: str, *, two: bool) -> None:
    """Nobody is another person than whoever made, or could see, the other's credential."""
    by_digest = {each.digest: each for each in KNOWN.values()}
    for one, other in ((first, second), (second, first)):
        assert are_two_persons(KNOWN[one], KNOWN[other], by_digest) is two


async def people(store: SQLStore, *roles: Role) -> None:
    """Make three operators: one at the machine, who made the two others."""
    for digest, label, maker in ((ROOT, "init", None), (ALICE, "alice", ROOT), (BOB, "bob", ROOT)):
        await store.add_credential(
            digest, label=label, now=NOW, author=AUTHOR, roles=roles or tuple(Role), maker=maker
        )


def kinds(scene: StoreScene) -> list[str]:
    """The kinds of the governance records, the oldest first."""
    return [row[0] for row in scene.rows("SELECT kind FROM governance ORDER BY number")]


def test_a_credential_keeps_its_roles_and_who_made_it(scene: StoreScene) -> None:
    """Roles are in table and ledger in one order, whatever order they were given in."""

    async def story() -> None:
        given = (Role.ENROLLER, Role.AUDITOR)
        await scene.store.add_credential(
            ALICE, label="alice", now=NOW, author=AUTHOR, roles=given, maker=ROOT, joint=True
        )
        kept = (await scene.store.credentials())[0]
        expected = (Role.AUDITOR, Role.ENROLLER)
        assert kept == StoredCredential(ALICE, "alice", expected, NOW, ROOT, joint=True)
        record = GovernanceRecord.parse(
            scene.rows("SELECT record FROM governance ORDER BY number DESC")[0][0]
        )
        assert dict(record.details) == {
            "label": "alice",
            "digest": ALICE,
            "roles": "auditor enroller",
            "joint": 1,
            "maker": ROOT,
        }

    asyncio.run(story())


def test_a_name_that_is_no_role_gives_no_right(scene: StoreScene) -> None:
    """What a later version knows, or somebody wrote into the table, is nothing here."""

    async def story() -> None:
        await people(scene.store)
        with sqlite3.connect(scene.path) as raw:
            raw.execute("UPDATE credentials SET roles = 'emperor operators'")
        raw.close()
        assert [each.roles for each in await scene.store.credentials()] == [(), (), ()]

    asyncio.run(story())


def test_a_revoked_credential_stays_on_record(scene: StoreScene) -> None:
    """Revoked once, it is listed as such, and who revoked it is in the ledger."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        revoke = operators.revoke_credential
        assert await revoke(BOB, now=LATER, author=AUTHOR) is CredentialRevocation.REVOKED
        assert await revoke(BOB, now=LATER, author=AUTHOR) is CredentialRevocation.UNKNOWN
        assert await revoke(b"?" * 32, now=NOW, author=AUTHOR) is CredentialRevocation.UNKNOWN
        by_label = {each.label: each.revoked_at for each in await scene.store.credentials()}
        assert by_label == {"init": None, "alice": None, "bob": LATER}
        assert kinds(scene).count("credential.revoked") == 1

    asyncio.run(story())


def test_the_last_operator_cannot_be_revoked(scene: StoreScene) -> None:
    """Whoever else has a credential, of another role, could not make an operator again."""

    async def story() -> None:
        store = scene.store
        await store.add_credential(ROOT, label="init", now=NOW, author=AUTHOR, roles=tuple(Role))
        await store.add_credential(
            ALICE, label="alice", now=NOW, author=AUTHOR, roles=[Role.AUDITOR, Role.POLICY_AUTHOR]
        )
        outcome = await store.operators.revoke_credential(ROOT, now=NOW, author=AUTHOR)
        assert outcome is CredentialRevocation.LAST_OPERATOR
        assert (await store.credentials())[0].revoked_at is None

    asyncio.run(story())


def test_the_rule_needs_two_operators_who_are_two_persons(scene: StoreScene) -> None:
    """Else nobody could ever switch it off; nor can the last two be taken apart."""

    async def story() -> None:
        store, operators = scene.store, scene.store.operators

        async def switch(*, demanded: bool) -> RuleChange:
            return await operators.set_two_person(demanded=demanded, now=NOW, author=AUTHOR)

        await store.add_credential(ROOT, label="init", now=NOW, author=AUTHOR, roles=tuple(Role))
        await store.add_credential(
            ALICE, label="alice", now=NOW, author=AUTHOR, roles=tuple(Role), maker=ROOT
        )
        assert await switch(demanded=True) is RuleChange.NO_PAIR
        assert not await operators.two_person()
        await store.add_credential(
            BOB, label="bob", now=NOW, author=AUTHOR, roles=tuple(Role), maker=ROOT
        )
        assert await switch(demanded=True) is RuleChange.CHANGED
        assert await switch(demanded=True) is RuleChange.SAME
        assert await operators.two_person()
        outcome = await operators.revoke_credential(BOB, now=NOW, author=AUTHOR)
        assert outcome is CredentialRevocation.LAST_PAIR
        # The machine's own credential made both, and is no second person to either.
        outcome = await operators.revoke_credential(ROOT, now=NOW, author=AUTHOR)
        assert outcome is CredentialRevocation.REVOKED
        assert await switch(demanded=False) is RuleChange.CHANGED
        assert not await operators.two_person()
        assert kinds(scene)[-3:] == [
            "two-person.demanded",
            "credential.revoked",
            "two-person.lifted",
        ]

    asyncio.run(story())


PROPOSAL = Proposal(
    b"d" * 32, Act.POLICY, b"text", {"revoke_now": "1"}, ALICE, "operator:alice", 0, NOW, LATER
)


def test_a_proposal_is_kept_byte_for_byte_until_another_approves_it(scene: StoreScene) -> None:
    """It is approved once, and the ledger has who proposed and who approved."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        assert await operators.propose(PROPOSAL) == PROPOSAL
        assert await operators.proposals(now=NOW) == (PROPOSAL,)
        assert await operators.proposal(PROPOSAL.digest, now=NOW) == PROPOSAL
        approve = operators.approve
        name = PROPOSAL.digest
        assert await approve(name, ALICE, now=NOW, author=AUTHOR) is Approval.SAME_PERSON
        assert await approve(name, ROOT, now=NOW, author=AUTHOR) is Approval.SAME_PERSON
        assert await approve(name, b"?" * 32, now=NOW, author=AUTHOR) is Approval.UNKNOWN
        assert await approve(name, BOB, now=NOW, author="operator:bob") is Approval.APPROVED
        assert await approve(name, BOB, now=NOW, author=AUTHOR) is Approval.UNKNOWN
        assert await operators.proposals(now=NOW) == ()
        rows = scene.rows("SELECT record FROM governance ORDER BY number DESC LIMIT 2")
        approved, proposed = (GovernanceRecord.parse(row[0]) for row in rows)
        assert (proposed.kind, proposed.author) == ("policy.proposed", "operator:alice")
        assert (approved.kind, approved.author) == ("policy.approved", "operator:bob")
        assert approved.details["proposer"] == "operator:alice"

    asyncio.run(story())


def test_a_proposal_expires(scene: StoreScene) -> None:
    """Nobody approves what was forgotten; nor is it kept."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        await operators.propose(PROPOSAL)
        assert await operators.proposals(now=LATER) == ()
        assert await operators.proposal(PROPOSAL.digest, now=LATER) is None
        outcome = await operators.approve(PROPOSAL.digest, BOB, now=LATER, author=AUTHOR)
        assert outcome is Approval.UNKNOWN
        await scene.store.sweep(now=LATER)
        assert scene.rows("SELECT count(*) FROM proposals") == [(0,)]

    asyncio.run(story())


def test_the_same_content_waits_once(scene: StoreScene) -> None:
    """Whoever proposes it too is told of the first, whose proposal it stays."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        await operators.propose(PROPOSAL)
        again = replace(PROPOSAL, proposer=BOB, author="operator:bob", proposed_at=NOW + 1)
        assert await operators.propose(again) == PROPOSAL

    asyncio.run(story())


def test_a_policy_is_not_approved_after_another_one(scene: StoreScene) -> None:
    """It was written to follow the one before; a reference set has nothing to follow."""

    async def story() -> None:
        store, operators = scene.store, scene.store.operators
        await people(store)
        reference = replace(PROPOSAL, digest=b"e" * 32, act=Act.REFERENCE)
        await operators.propose(PROPOSAL)
        await operators.propose(reference)
        await store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW), author=AUTHOR)
        outcome = await operators.approve(PROPOSAL.digest, BOB, now=NOW, author=AUTHOR)
        assert outcome is Approval.OUTDATED
        outcome = await operators.approve(reference.digest, BOB, now=NOW, author=AUTHOR)
        assert outcome is Approval.APPROVED

    asyncio.run(story())


@pytest.mark.parametrize("gone", [ALICE, BOB])
def test_who_was_revoked_is_no_voice(scene: StoreScene, gone: bytes) -> None:
    """Neither the proposer's nor the approver's, from the moment of the revocation."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        await operators.propose(PROPOSAL)
        await operators.revoke_credential(gone, now=NOW, author=AUTHOR)
        outcome = await operators.approve(PROPOSAL.digest, BOB, now=NOW, author=AUTHOR)
        assert outcome is Approval.UNKNOWN

    asyncio.run(story())


def test_so_many_wait_at_most(scene: StoreScene) -> None:
    """A proposal may be large; what has expired makes room."""

    async def story() -> None:
        operators = scene.store.operators
        voices = [bytes([number]) * 32 for number in range(1, 4)]
        for voice in voices:
            await scene.store.add_credential(
                voice, label="voice", now=NOW, author=AUTHOR, roles=(Role.OPERATOR,)
            )
        for number in range(MAX_PROPOSALS):
            by = voices[number % len(voices)]
            await operators.propose(replace(PROPOSAL, digest=bytes([number]) * 32, proposer=by))
        late = replace(PROPOSAL, digest=b"z" * 32, proposer=voices[2])
        with pytest.raises(StoreBusyError, match="too many"):
            await operators.propose(late)
        await operators.propose(replace(late, proposed_at=LATER, expires_at=LATER + 1))

    asyncio.run(story())


@pytest.mark.parametrize("other", [ALICE, ROOT, b"?" * 32])
def test_one_person_keeps_nobody_from_proposing(scene: StoreScene, other: bytes) -> None:
    """Whatever credentials they made or saw: the others' places stay theirs."""

    async def story() -> None:
        await people(scene.store)
        operators = scene.store.operators
        for number in range(MAX_OF_ONE):
            by = ALICE if number else other
            await operators.propose(replace(PROPOSAL, digest=bytes([number]) * 32, proposer=by))
        one_more = replace(PROPOSAL, digest=b"z" * 32)
        with pytest.raises(StoreBusyError, match="of this person"):
            await operators.propose(one_more)
        # What waits already waits on, and another person is heard.
        assert await operators.propose(replace(PROPOSAL, digest=bytes(32)))
        await operators.propose(replace(one_more, proposer=BOB))
        await operators.propose(replace(one_more, proposed_at=LATER, expires_at=LATER + 1))

    asyncio.run(story())
