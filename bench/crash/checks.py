"""What must hold between what clients were told and what is recorded, however often it crashed.

Each check returns a line for each thing that is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from bench.crash.clients import Heard, Told
from bench.crash.ledger import ledger_is_whole, receipts_hold
from bench.crash.recorded import Database, Recorded
from bootlease.ledger import NoteKey
from bootlease.lineage import head_after


def every_check(heard: Heard, database: Database, key: NoteKey) -> list[str]:
    """Make every check.

    Args:
        heard: What clients were told.
        database: What is recorded.
        key: The ledger's key.
    """
    complaints = list(heard.complaints)
    if database.sound != "ok":
        complaints.append(f"the database is damaged: {database.sound}")
    for check in (
        nothing_told_is_lost,
        no_challenge_was_used_twice,
        lineages_are_chains,
        clients_saw_chains,
        ledger_is_whole,
    ):
        complaints += check(heard, database)
    return [*complaints, *receipts_hold(heard, database, key)]


def nothing_told_is_lost(heard: Heard, database: Database) -> Iterator[str]:
    """Every token's decision and claims are recorded, every receipt's node is enrolled."""
    recorded = {each.digest: each for each in database.decisions}
    for node in heard.nodes - database.nodes:
        yield f"node {node.hex()} was told that it is enrolled, and is not"
    for told in heard.answers:
        decision = recorded.get(told.answer.decision)
        if decision is None:
            yield f"{_name(told)}: the decision is not recorded"
            continue
        record = decision.record
        if not record.granted or decision.claims != _claims(told):
            yield f"{_name(told)}: other claims are recorded than the client's tokens hold"
        if (record.node, decision.nonce) != (told.node, told.nonce):
            yield f"{_name(told)}: recorded for another node or challenge"
        if record.evidence != told.document:
            yield f"{_name(told)}: other evidence is recorded than was sent"


def no_challenge_was_used_twice(heard: Heard, database: Database) -> Iterator[str]:
    """A nonce has one decision, one answer, and is marked as spent."""
    uses = Counter(each.nonce for each in database.decisions)
    for nonce, count in uses.items():
        if count > 1:
            yield f"challenge {nonce.hex()} has {count} decisions"
    decisions: dict[bytes, set[bytes]] = defaultdict(set)
    for told in heard.answers:
        decisions[told.nonce].add(told.answer.decision)
    for nonce, several in decisions.items():
        if len(several) > 1:
            yield f"clients were told {len(several)} decisions on challenge {nonce.hex()}"
    for nonce in database.spent - uses.keys():
        yield f"challenge {nonce.hex()} is spent without a decision"


def lineages_are_chains(_heard: Heard, database: Database) -> Iterator[str]:
    """Each node's records follow each other: no head has two successors."""
    last: dict[bytes, Recorded] = {}
    for decision in database.decisions:
        record = decision.record
        before = last.get(record.node)
        if record.previous != (before.digest if before else None):
            yield f"decision {decision.digest.hex()} does not follow its node's last one"
        if record.sequence > 0:
            continues = (
                before is not None
                and before.record.granted
                and record.lineage_root == before.record.lineage_root
                and record.sequence == before.record.sequence + 1
                and record.lineage_previous == head_after(before.claims)
            )
            if not continues:
                yield f"decision {decision.digest.hex()} does not continue its lineage"
        elif record.lineage_previous is not None:
            yield f"decision {decision.digest.hex()} begins a lineage with a head before it"
        last[record.node] = decision


def clients_saw_chains(heard: Heard, database: Database) -> Iterator[str]:
    """What each node was told is one chain: nobody had to begin again, nothing was skipped."""
    recorded = {each.digest: each.record for each in database.decisions}
    last: dict[bytes, Told] = {}
    for told in heard.answers:
        before = last.get(told.node)
        expected = (None, 0) if before is None else (before.answer.head, before.answer.sequence + 1)
        if (told.previous, told.answer.sequence) != expected:
            yield f"{_name(told)}: the node's lineage did not continue"
        record = recorded.get(told.answer.decision)
        if record is not None and (record.lineage_previous, record.sequence) != (
            told.previous,
            told.answer.sequence,
        ):
            yield f"{_name(told)}: recorded at another place of its lineage"
        if told.answer.head != head_after(_claims(told)):
            yield f"{_name(told)}: the head is not that of its claims"
        last[told.node] = told


def _claims(told: Told) -> tuple[bytes, ...]:
    return tuple(lease.claims_digest for lease in told.answer.leases)


def _name(told: Told) -> str:
    return f"answer {told.answer.decision.hex()} of node {told.node.hex()}"
