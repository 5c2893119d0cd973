"""All that an explanation asks for, in one piece, so that it can be made elsewhere.

A verifier hands it to its operator, whose own program makes the decision again and explains it.
Every part is looked for by the digest that the record names, so an altered one is not found. Only
the count of refusals in between is the verifier's word.

Form: deterministic CBOR, a map of type, ``decisions`` ``[[record, [claims digest...]]...]``,
``evidence``, ``logs``, ``enrolments``, ``policies`` and ``references`` (bytes, canonical forms),
``roots`` (certificates of each set), ``before`` ``[digest / null, refusals, time / null]``,
``pruned`` (evidence of then may be gone).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bootlease import cbor
from bootlease.appraisal import CodeIdentity
from bootlease.audit.build import Recorded
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError
from bootlease.explain.recorded import (
    Before,
    DecisionSource,
    ExplanationSource,
    explain_decision,
    look_back,
)
from bootlease.ledger import DecisionRecord
from bootlease.model import sha256
from bootlease.policy import Policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.reference import AnyReference, parse_any_canonical_reference

PIECES_TYPE: Final = "bootlease/explanation-pieces/1"
MAX_PIECES: Final = 128 * 1024 * 1024
"""Two event logs, two IMA lists and what surrounds them."""

_BYTES: Final = ("evidence", "logs", "enrolments", "policies", "references")
_MAYBE_BYTES: Final = (bytes, type(None))
_MAYBE_INTEGER: Final = (int, type(None))
_MEMBERS: Final = frozenset({"type", "decisions", "roots", "before", "pruned", *_BYTES})


class LookingBack:
    """A source that finds what came before by following the decisions themselves.

    Args:
        source: Where they are kept.
    """

    def __init__(self, source: DecisionSource) -> None:
        self._source = source
        self.evidence = source.evidence
        self.log = source.log
        self.enrolment = source.enrolment
        self.roots = source.roots
        self.reference = source.reference
        self.policy = source.policy
        self.pruned = source.pruned
        self.decision = source.decision

    def before(self, record: DecisionRecord) -> Before:
        """See ``ExplanationSource``."""
        return look_back(self._source, record)


def gather(digest: bytes, source: ExplanationSource, code: CodeIdentity | None = None) -> bytes:
    """Return all that the explanation of a decision asks for.

    Raises:
        VerificationError: There is no such decision.
        MalformedError: A record does not parse.
    """
    asked = _Asked(source)
    explain_decision(digest, asked, code=code)
    return cbor.encode(asked.members())


class _Asked:
    """Passes on what it is asked for, and remembers what came of it."""

    def __init__(self, source: ExplanationSource) -> None:
        self._source = source
        self._kept: dict[str, dict[bytes, bytes]] = {name: {} for name in _BYTES}
        self._roots: dict[bytes, list[bytes]] = {}
        self._decisions: dict[bytes, Recorded] = {}
        self._before = Before(None, 0, None)
        self._pruned = False

    def evidence(self, digest: bytes) -> bytes | None:
        return self._keep("evidence", digest, self._source.evidence(digest))

    def log(self, digest: bytes) -> bytes | None:
        return self._keep("logs", digest, self._source.log(digest))

    def enrolment(self, digest: bytes) -> Enrolment | None:
        found = self._source.enrolment(digest)
        self._keep("enrolments", digest, None if found is None else found.encode())
        return found

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        found = self._source.policy(digest, epoch)
        self._keep("policies", digest, None if found is None else found.encode())
        return found

    def reference(self, digest: bytes) -> AnyReference | None:
        found = self._source.reference(digest)
        self._keep("references", digest, None if found is None else found.encode())
        return found

    def roots(self, digest: bytes) -> TrustedRoots | None:
        found = self._source.roots(digest)
        if found is not None:
            self._roots[digest] = [found.members[name] for name in sorted(found.members)]
        return found

    def pruned(self, time: int) -> bool:
        self._pruned = self._pruned or self._source.pruned(time)
        return self._pruned

    def decision(self, digest: bytes) -> Recorded | None:
        found = self._source.decision(digest)
        if found is not None:
            self._decisions[digest] = found
        return found

    def before(self, record: DecisionRecord) -> Before:
        self._before = found = self._source.before(record)
        if found.good is not None:
            self._decisions[sha256(found.good.record)] = found.good
        return found

    def _keep(self, name: str, digest: bytes, data: bytes | None) -> bytes | None:
        if data is not None:
            self._kept[name][digest] = data
        return data

    def members(self) -> dict[str, Any]:
        """Return everything as the form has it."""
        good = self._before.good
        before = [
            None if good is None else sha256(good.record),
            self._before.refusals,
            self._before.refused_since,
        ]
        return {
            "type": PIECES_TYPE,
            **{name: [kept[key] for key in sorted(kept)] for name, kept in self._kept.items()},
            "roots": [self._roots[key] for key in sorted(self._roots)],
            "decisions": [
                [each.record, list(each.claims)]
                for _, each in sorted(self._decisions.items(), key=lambda item: item[0])
            ],
            "before": before,
            "pruned": self._pruned,
        }


class Pieces:
    """Implements ``ExplanationSource`` over what ``gather`` returned; unverified."""

    def __init__(self, data: bytes) -> None:
        """Parse the form.

        Raises:
            MalformedError: The bytes are not of it.
        """
        members = cbor.decode(data, max_bytes=MAX_PIECES)
        if type(members) is not dict or members.keys() != _MEMBERS:
            raise MalformedError("these are no pieces of an explanation")
        if members["type"] != PIECES_TYPE:
            raise MalformedError("pieces of an explanation of another version")
        self._kept = {name: _by_digest(_octets(members[name])) for name in _BYTES}
        sets = [list(_octets(each)) for each in _list(members["roots"])]
        self._roots = {
            sha256(cbor.encode(sorted(map(sha256, ders)))): _by_digest(ders) for ders in sets
        }
        self._decisions: dict[bytes, Recorded] = {}
        for each in _list(members["decisions"]):
            record, claims = _list(each, 2)
            (encoded,) = _octets([record])
            self._decisions[sha256(encoded)] = Recorded(encoded, tuple(_octets(claims)))
        good, refusals, since = _list(members["before"], 3)
        types = type(refusals) is int, type(good) in _MAYBE_BYTES, type(since) in _MAYBE_INTEGER
        if not all(types) or type(members["pruned"]) is not bool:
            raise MalformedError("pieces of an explanation lack what came before")
        self._before = Before(self._decisions.get(good), refusals, since)
        self._pruned: bool = members["pruned"]

    def evidence(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        return self._kept["evidence"].get(digest)

    def log(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        return self._kept["logs"].get(digest)

    def enrolment(self, digest: bytes) -> Enrolment | None:
        """See ``DecisionInputs``."""
        record = self._kept["enrolments"].get(digest)
        return None if record is None else Enrolment.parse(record)

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        """See ``DecisionInputs``."""
        del epoch
        policy = self._kept["policies"].get(digest)
        return None if policy is None else parse_canonical_policy(policy)

    def reference(self, digest: bytes) -> AnyReference | None:
        """See ``DecisionInputs``."""
        reference = self._kept["references"].get(digest)
        return None if reference is None else parse_any_canonical_reference(reference)

    def roots(self, digest: bytes) -> TrustedRoots | None:
        """See ``DecisionInputs``."""
        members = self._roots.get(digest)
        return None if members is None else TrustedRoots(members)

    def pruned(self, time: int) -> bool:
        """See ``DecisionInputs``."""
        del time
        return self._pruned

    def decision(self, digest: bytes) -> Recorded | None:
        """See ``DecisionSource``."""
        return self._decisions.get(digest)

    def before(self, record: DecisionRecord) -> Before:
        """See ``ExplanationSource``."""
        del record
        return self._before


def _list(value: object, size: int | None = None) -> list[Any]:
    if type(value) is not list or (size is not None and len(value) != size):
        raise MalformedError("pieces of an explanation: an array is missing or has another length")
    return value


def _octets(value: object) -> Iterable[bytes]:
    items = _list(value)
    if any(type(item) is not bytes for item in items):
        raise MalformedError("pieces of an explanation: bytes are missing")
    return items


def _by_digest(items: Iterable[bytes]) -> dict[bytes, bytes]:
    return {sha256(item): item for item in items}
