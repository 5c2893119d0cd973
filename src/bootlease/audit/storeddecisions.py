"""Stored decisions: each row, what it names, and the chain that they form.

A decision's record must have its digest, its columns must repeat the record, its leaves must stand
where it says, its evidence must be that of its digest, and made again it must come out the same.
The decisions of a node must form one chain, through its lineages and its TPM's counters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from bootlease.appraisal import prior_after
from bootlease.audit.replay import Replayed, Replayer
from bootlease.audit.rows import UNKNOWN_STATE, Checked, DecisionRow, Difference, Link, NodeRow
from bootlease.audit.tokens import check_tokens
from bootlease.errors import MalformedError
from bootlease.ledger import DecisionRecord, encode_leaf
from bootlease.lineage import HighWaterMark, head_after
from bootlease.model import Finding, sha256
from bootlease.token import KeySet

_DIGEST: Final = 32
_START: Final = HighWaterMark().encode()

Leaves = Mapping[tuple[int, int], bytes]
"""Leaves of the ledger by shard and position."""


def check_decisions(
    rows: Iterable[DecisionRow], leaves: Leaves, replayer: Replayer, tokens: KeySet | None
) -> Checked:
    """Check rows of decisions.

    Args:
        rows: In the order of their numbers.
        leaves: The leaves of the ledger at the places that the rows name.
        replayer: Makes decisions again.
        tokens: The keys that sign tokens, where they are known.
    """
    checked = Checked()
    for row in rows:
        checked.rows += 1
        where = f"decision {row.number}"
        try:
            record = DecisionRecord.parse(row.record)
        except MalformedError as exc:
            checked.say(where, [_finding("stored.record.malformed", f"{exc}.")])
            continue
        checked.granted += record.granted
        claims = _digests(row.claims)
        replayed = replayer.replay(record, claims)
        checked.say(where, [*_row_findings(row, record, replayed), *replayed.findings])
        expected = [encode_leaf(record.digest, each) for each in claims or (None,)]
        checked.say(where, list(_leaf_findings(row, expected, leaves)))
        checked.say(where, list(check_tokens(row.signatures, record, replayed, tokens)))
        checked.account(row.shard, len(expected))
        checked.links.append(_link(row, record, claims, replayed))
    return checked


def _digests(data: bytes) -> list[bytes]:
    # A rest that is no digest is a difference of its own: the column's length is compared.
    return [data[at : at + _DIGEST] for at in range(0, len(data) - _DIGEST + 1, _DIGEST)]


def _row_findings(
    row: DecisionRow, record: DecisionRecord, replayed: Replayed
) -> Iterator[Finding]:
    if record.digest != row.digest:
        yield _finding(
            "stored.record.altered",
            "The record is not the one that was recorded under its digest.",
            expected=row.digest,
            seen=record.digest,
        )
    columns = {
        "node": (row.node, record.node),
        "evidence": (row.evidence, record.evidence),
        "granted": (row.granted, int(record.granted)),
        "decided_at": (row.decided_at, record.time),
        "root": (row.root, record.lineage_root),
        "claims": (len(row.claims), _DIGEST * len(record.leases)),
    }
    for name, (stored, said) in columns.items():
        if stored != said:
            yield _column(name)
    if row.document is None:
        return
    if row.document_digest != row.evidence:
        yield _column("digest of the evidence")
    evidence = replayed.evidence
    # Evidence that does not verify is told by the replay.
    if evidence is not None and b"".join(evidence.named_logs()) != row.logs:
        yield _column("logs")


def _leaf_findings(row: DecisionRow, expected: list[bytes], leaves: Leaves) -> Iterator[Finding]:
    for offset, leaf in enumerate(expected):
        stored = leaves.get((row.shard, row.position + offset))
        if stored != leaf:
            yield _finding(
                "stored.entry.differs",
                "The ledger has another entry where the decision's must be.",
                expected=leaf,
                seen=stored,
            )


def _link(
    row: DecisionRow, record: DecisionRecord, claims: list[bytes], replayed: Replayed
) -> Link:
    after: bytes | None = UNKNOWN_STATE
    counters = b""
    result = replayed.result
    if result is not None and replayed.evidence is not None:
        counters = HighWaterMark.of(result.clock_info).encode()
        after = None
        if claims and result.accepted:
            logs = dict(replayed.evidence.log_digests)
            after = sha256(prior_after(result, head_after(claims), logs).encode())
    return Link(
        number=row.number,
        place=(row.shard, row.position),
        node=record.node,
        digest=record.digest,
        previous=record.previous,
        prior=None if record.prior is None else sha256(record.prior),
        after=after,
        high_water=record.high_water,
        counters=counters,
    )


class Chains:
    """Follows the decisions of every node, in the order of their numbers.

    Args:
        readmitted: Where in the ledger operators re-admitted nodes, and which, the oldest first:
            from there on nothing is remembered of where a TPM's counters stood.
    """

    def __init__(self, readmitted: Iterable[tuple[tuple[int, int], bytes]] = ()) -> None:
        self._readmitted = deque(readmitted)
        self._last: dict[bytes, Link] = {}
        self._marks: dict[bytes, bytes] = {}
        self._next = 1
        self._place = (0, 0)

    def follow(self, links: Iterable[Link]) -> Iterator[Difference]:
        """Take further decisions and tell where a chain is broken."""
        for link in links:
            self._readmit_before(link.place)
            where = f"decision {link.number}"
            if link.number != self._next:
                yield Difference(
                    where,
                    _finding("stored.decision.missing", "Decisions before this one are gone."),
                )
            if link.place <= self._place:
                yield Difference(
                    where,
                    _finding("stored.chain.broken", "The ledger has it before the one before it."),
                )
            self._next, self._place = link.number + 1, link.place
            for problem in self._problems(link):
                yield Difference(where, _finding("stored.chain.broken", problem))
            self._last[link.node] = link
            # What the quote showed is unknown where it was let go: then the next record's word is
            # all there is.
            mark = self._marks.get(link.node, _START) or link.high_water
            self._marks[link.node] = max(mark, link.counters) if link.counters else b""

    def _readmit_before(self, place: tuple[int, int] | None) -> None:
        while self._readmitted and (place is None or self._readmitted[0][0] < place):
            self._marks.pop(self._readmitted.popleft()[1], None)

    def _problems(self, link: Link) -> Iterator[str]:
        before = self._last.get(link.node)
        mark = self._marks.get(link.node, _START)
        if (None if before is None else before.digest) != link.previous:
            yield "The decision does not name the node's decision before it."
        if mark and link.high_water != mark:
            yield "The decision started from another high-water mark than the one before left."
        if link.prior is None or before is None or before.after == UNKNOWN_STATE:
            if link.prior is not None and before is None:
                yield "The decision continues a lineage that nothing began."
            return
        if link.prior != before.after:
            yield "The decision started from another state than the one before left."

    def end(
        self,
        nodes: Iterable[NodeRow],
        enrolled: Container[tuple[bytes, bytes]],
        *,
        demanded: bool = True,
    ) -> Iterator[Difference]:
        """Compare where each node stands with its last decision.

        Args:
            nodes: Every node.
            enrolled: Node and digest of every enrolment record.
            demanded: Each node that was decided about must be there.
        """
        self._readmit_before(None)
        left = dict(self._last)
        for row in nodes:
            last = left.pop(row.node, None)
            mark = self._marks.get(row.node, _START)
            where = f"node {row.node.hex()}"
            if (row.node, row.enrolment) not in enrolled:
                yield Difference(where, _finding("stored.node.differs", "Its enrolment."))
            if row.decision != (None if last is None else last.digest):
                yield Difference(where, _finding("stored.node.differs", "Its last decision."))
            if mark and row.high_water != mark:
                yield Difference(where, _finding("stored.node.differs", "Its high-water mark."))
            known = last is None or last.after != UNKNOWN_STATE
            state = None if last is None else last.after
            if row.prior is not None and known and sha256(row.prior) != state:
                yield Difference(where, _finding("stored.node.differs", "Its lineage's state."))
        for node in left if demanded else ():
            yield Difference(
                f"node {node.hex()}", _finding("stored.node.missing", "Its row is gone.")
            )


def _column(name: str) -> Finding:
    return _finding("stored.column.differs", f"The column {name} is not what the record says.")


def _finding(
    id_: str, message: str, *, expected: bytes | None = None, seen: bytes | None = None
) -> Finding:
    return Finding(
        id_,
        message,
        expected=None if expected is None else expected.hex(),
        seen=None if seen is None else seen.hex(),
    )
