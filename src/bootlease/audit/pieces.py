"""The pieces of a proof as inputs of a replay, with an account of which of them were used.

A piece that nothing names would be bytes that nobody vouches for: they would pass for part of the
proof. So everything in the file must be asked for, by a digest that the ledger's key covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bootlease import cbor
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError
from bootlease.ledger.prooffile import ProofFile
from bootlease.model import Finding, sha256
from bootlease.policy import Policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.reference import AnyReference, parse_any_canonical_reference


class ProofPieces:
    """Implements ``DecisionInputs`` over the pieces of a proof.

    Args:
        proof: Unverified.

    Attributes:
        certificates: Roots by their fingerprint.
    """

    def __init__(self, proof: ProofFile) -> None:
        self._evidence = _by_digest(each.evidence for each in proof.decisions)
        self._logs = _by_digest(proof.logs)
        self._enrolment = proof.enrolment.record
        self._policies = _by_digest(proof.policies)
        self._references = _by_digest(proof.references)
        self.certificates = _by_digest(proof.certificates)
        self._roots = {sha256(cbor.encode(list(names))): names for names in proof.roots}
        self._unused = {
            "log": set(self._logs),
            "policy": set(self._policies),
            "reference set": set(self._references),
            "root certificate": set(self.certificates),
            "set of roots": set(self._roots),
        }

    def evidence(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        return self._evidence.get(digest)

    def log(self, digest: bytes) -> bytes | None:
        """See ``DecisionInputs``."""
        self._unused["log"].discard(digest)
        return self._logs.get(digest)

    def enrolment(self, digest: bytes) -> Enrolment | None:
        """See ``DecisionInputs``."""
        # Nothing to account for: the first decision has no other to rest on.
        named = sha256(self._enrolment) == digest
        return Enrolment.parse(self._enrolment) if named else None

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        """See ``DecisionInputs``."""
        del epoch
        self._unused["policy"].discard(digest)
        policy = self._policies.get(digest)
        return None if policy is None else parse_canonical_policy(policy)

    def reference(self, digest: bytes) -> AnyReference | None:
        """See ``DecisionInputs``."""
        self._unused["reference set"].discard(digest)
        reference = self._references.get(digest)
        return None if reference is None else parse_any_canonical_reference(reference)

    def roots(self, digest: bytes) -> TrustedRoots | None:
        """See ``DecisionInputs``."""
        self._unused["set of roots"].discard(digest)
        names = self._roots.get(digest)
        if names is None:
            return None
        self._unused["root certificate"] -= set(names)
        try:
            return TrustedRoots({name: self.certificates[name] for name in names})
        except KeyError as exc:
            raise MalformedError("the proof lacks a certificate of a set of roots") from exc

    def pruned(self, time: int) -> bool:
        """See ``DecisionInputs``: a proof is whole."""
        del time
        return False

    def surplus(self) -> Iterator[Finding]:
        """Tell of pieces that nothing asked for."""
        for what, digests in self._unused.items():
            for digest in sorted(digests):
                yield Finding(
                    "proof.surplus",
                    f"The proof carries a {what} that nothing in it names.",
                    seen=digest.hex(),
                )


def _by_digest(items: Iterable[bytes]) -> dict[bytes, bytes]:
    return {sha256(item): item for item in items}
