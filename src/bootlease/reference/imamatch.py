"""Appraising what a running system loaded against sets of good files.

Each entry is judged by itself: it is good if one accepted set says so. Within one set, a path that
is listed is good with a listed digest only, whatever rule for a tree would cover it; a signature
stands in for a digest only where a rule of the set says whose, and the policy lets it.

Findings name the first few distinct things of each kind and count the rest, for a node decides how
long its list is. An entry that cannot be read refuses: a template's name is attested by nothing, so
whoever alters one must not gain by it (attack E10).

What is no file and never listed: the boot aggregate, which is compared with the quoted PCRs
elsewhere. An entry that only bears its name is judged like every file.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final, Protocol

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima.entry import DigestType, IMADigest, IMAEntry, Kind
from bootlease.ima.signature import FileSigners, verify_signature
from bootlease.ima.templates import Field, template_fields
from bootlease.model import Effect, Finding
from bootlease.reference.imafindings import (
    EXCLUDED,
    UNREADABLE,
    VIOLATION,
    FindingsByKind,
    Seen,
    excluded_finding,
    shown_name,
    unlisted_finding,
    unlisted_id,
    unreadable_finding,
    violation_finding,
)
from bootlease.reference.imaset import IMAReferenceSet, ScopeKind, has_odd_component

NO_SIGNER: Final = "ima.signature.no-signer"
MAX_FAILED_SIGNATURES: Final = 256
"""Of one list: by then it is refused, or its files are unlisted, whatever the others are worth."""
_UNTRIED: Final = frozenset({"ima.signature.missing", "ima.signature.unknown-key"})
"""Findings about signatures that cost no verification."""
NO_AGGREGATES: Final[Mapping[str, bytes]] = MappingProxyType({})

_NO_FILE: Final = "its template has no digest or no name in front, or another behind them"
_DIGEST_FIELDS: Final = frozenset({Field.DIGEST, Field.DIGEST_NG, Field.DIGEST_NGV2})
_NAME_FIELDS: Final = frozenset({Field.NAME, Field.NAME_NG})


class IMASignatures(enum.Enum):
    """What file signatures in an IMA list count for."""

    IGNORED = "ignored"
    SUFFICIENT = "sufficient"
    REQUIRED = "required"


class IMADemands(Protocol):
    """What a policy demands of the files that a system loaded."""

    @property
    def unlisted(self) -> Effect:
        """What a file that no accepted set knows does to a decision."""

    @property
    def violations(self) -> Effect:
        """What a file that was written while it was in use does."""

    @property
    def signatures(self) -> IMASignatures:
        """What file signatures count for."""


@dataclass(frozen=True, slots=True)
class IMAOutcome:
    """What comparing entries with the accepted sets came to.

    Attributes:
        findings: What was found, each kind named up to ``MAX_NAMED`` times and counted beyond.
        entries: Entries that were appraised.
        excluded: Those of them that no one judged, because a set says ``unsafe_exclude``.
        considered: Digests of the sets that were compared.
    """

    findings: tuple[Finding, ...]
    entries: int
    excluded: int
    considered: tuple[bytes, ...]


class _Rules:
    """The rules of one set, in the form in which they are asked."""

    __slots__ = (
        *("buffers", "files"),
        *("_content", "_content_below", "_excluded", "_excluded_below", "_signed"),
    )

    def __init__(self, reference: IMAReferenceSet) -> None:
        self.files: Final = reference.files
        self.buffers: Final = reference.buffers
        self._content = reference.content
        self._content_below = reference.content_below
        scopes = reference.unsafe_exclude
        self._excluded = frozenset(scope.key for scope in scopes)
        self._excluded_below = tuple(
            scope.path for scope in scopes if scope.kind is ScopeKind.BELOW
        )
        self._signed = [
            (rule.scope, FileSigners(reference.file_signer(name) for name in rule.signers))
            for rule in reference.signed
        ]

    def listed(self, seen: Seen) -> tuple[IMADigest, ...] | None:
        """Return the digests that the set lists under an entry's name."""
        return (self.buffers if seen.kind is Kind.BUFFER else self.files).get(seen.name)

    def knows_copy(self, seen: Seen) -> bool:
        """Tell whether the set knows a file's content, and lets copies of it lie where it is."""
        return (
            seen.kind is Kind.FILE
            and seen.name.startswith(self._content_below)
            and not has_odd_component(seen.name)
            and seen.digest in self._content
            and seen.name not in self.files
        )

    def excludes(self, seen: Seen) -> bool:
        """Tell whether the set wants an entry left alone."""
        if seen.kind is Kind.BUFFER:
            return (ScopeKind.BUFFER.value, seen.name) in self._excluded
        return (ScopeKind.PATH.value, seen.name) in self._excluded or (
            seen.name.startswith(self._excluded_below)
            and not has_odd_component(seen.name)
            and seen.name not in self.files
        )

    def signers(self, name: bytes) -> Iterator[FileSigners]:
        """Yield those whose signature is enough for a file of this name."""
        for scope, signers in self._signed:
            if scope.covers(name):
                yield signers


# A renewal brings few entries: reading the keys of the rules again would cost it more than they do.
_rules_of = lru_cache(maxsize=16)(_Rules)


def appraise_entries(
    entries: Iterable[IMAEntry],
    references: Sequence[IMAReferenceSet],
    demands: IMADemands,
    *,
    now: int,
    boot_aggregates: Mapping[str, bytes] = NO_AGGREGATES,
) -> IMAOutcome:
    """Compare attested entries with the sets that a policy accepts.

    Args:
        entries: Entries whose replay a quote attests; others must not come here.
        references: The accepted sets, each of which may say that an entry is good.
        demands: The policy.
        now: Seconds since the epoch.
        boot_aggregates: Digests by algorithm that an entry named ``boot_aggregate`` may have, as
            ``expected_boot_aggregates`` makes them of the quoted PCRs.

    Returns:
        The outcome. It refuses where a file is not what a set lists, or none is valid.
    """
    appraisal = _Appraisal(references, demands, now, boot_aggregates)
    for entry in entries:
        appraisal.judge(entry)
    return appraisal.outcome()


class _Appraisal:
    """One run over a list."""

    __slots__ = (
        *("_buffers", "_considered", "_demands", "_excluded", "_files", "_found"),
        *("_aggregates", "_entries", "_failed_signatures", "_rules"),
        *("_signed_instead", "_signed_too"),
    )

    def __init__(
        self,
        references: Sequence[IMAReferenceSet],
        demands: IMADemands,
        now: int,
        boot_aggregates: Mapping[str, bytes],
    ) -> None:
        self._found = FindingsByKind()
        self._demands = demands
        self._aggregates = boot_aggregates
        self._considered = tuple(reference.digest for reference in references)
        valid = [reference for reference in references if reference.valid_at(now)]
        self._rules = [_rules_of(reference) for reference in valid]
        self._files = [reference.files for reference in valid]
        self._buffers = [reference.buffers for reference in valid]
        self._signed_instead = demands.signatures is IMASignatures.SUFFICIENT
        self._signed_too = demands.signatures is IMASignatures.REQUIRED
        self._entries = 0
        self._excluded = 0
        self._failed_signatures = 0
        for reference in references:
            if reference not in valid:
                make = partial(_not_valid, reference)
                self._found.note("ima.reference.not-valid", reference.digest, make)
        if not valid:
            self._found.note("ima.reference.none", None, _none_valid)

    def judge(self, entry: IMAEntry) -> None:
        """Judge one entry."""
        self._entries += 1
        if entry.violation:
            effect = self._demands.violations
            self._found.note(VIOLATION, entry.data, partial(violation_finding, entry, effect))
            return
        try:
            measured = entry.measurement()
        except MalformedError as exc:
            why = str(exc)
            self._found.note(UNREADABLE, entry.number, partial(unreadable_finding, entry, why))
            return
        kind, digest, name = measured[:3]
        if digest is None or name is None or not _in_order(entry.template):
            why = _NO_FILE
            self._found.note(UNREADABLE, entry.number, partial(unreadable_finding, entry, why))
            return
        for listed in self._buffers if kind is Kind.BUFFER else self._files:
            digests = listed.get(name)
            if digests is not None and digest in digests:
                break
        else:
            self._unlisted(Seen(entry, measured, kind, digest, name))
            return
        if self._signed_too and kind is not Kind.BUFFER:
            self._demand_signature(Seen(entry, measured, kind, digest, name))

    def outcome(self) -> IMAOutcome:
        """Return what was found."""
        return IMAOutcome(self._found.all(), self._entries, self._excluded, self._considered)

    def _unlisted(self, seen: Seen) -> None:
        """Judge an entry that no set lists as it is."""
        if seen.kind is Kind.BOOT_AGGREGATE and self._is_aggregate(seen.digest):
            return
        if any(rules.knows_copy(seen) for rules in self._rules):
            if self._signed_too:
                self._demand_signature(seen)
            return
        problem = None
        if self._signed_instead and seen.kind is not Kind.BUFFER:
            problem = self._signature_problem(seen)
            if problem is None:
                return
        if any(rules.excludes(seen) for rules in self._rules):
            self._excluded += 1
            self._found.note(EXCLUDED, None, partial(excluded_finding, seen))
            return
        known = tuple(
            dict.fromkeys(digest for rules in self._rules for digest in rules.listed(seen) or ())
        )
        # That a listed file is another than the listed one no policy may wave through.
        effect = Effect.REFUSES if known else self._demands.unlisted
        name = unlisted_id(seen, known)
        self._found.note(name, seen.key, partial(unlisted_finding, seen, known, effect))
        if problem is not None and problem.id != NO_SIGNER:
            self._found.note(problem.id, seen.key, partial(_about, seen, problem, effect))

    def _is_aggregate(self, digest: IMADigest) -> bool:
        return digest.type is DigestType.IMA and self._aggregates.get(digest.alg) == digest.value

    def _demand_signature(self, seen: Seen) -> None:
        problem = self._signature_problem(seen)
        if problem is not None:
            make = partial(_about, seen, problem, Effect.REFUSES)
            self._found.note(problem.id, seen.key, make)

    def _signature_problem(self, seen: Seen) -> Finding | None:
        """Return why no signature makes a file good, or None where one does."""
        problem = Finding(NO_SIGNER, "no accepted IMA reference says who may sign it")
        # One that fails costs up to sixteen verifications: a list full of them is refused early.
        if self._failed_signatures >= MAX_FAILED_SIGNATURES:
            return Finding(
                "ima.signature.unchecked",
                f"after {MAX_FAILED_SIGNATURES} signatures that do not hold, no more are checked",
            )
        for rules in self._rules:
            for signers in rules.signers(seen.name):
                try:
                    verify_signature(seen.measured, signers)
                except VerificationError as exc:
                    problem = exc.findings[0]
                    self._failed_signatures += problem.id not in _UNTRIED
                else:
                    return None
        return problem


def _not_valid(reference: IMAReferenceSet) -> Finding:
    return Finding(
        "ima.reference.not-valid",
        f"IMA reference {reference.label} is outside its validity and counts for nothing.",
        effect=Effect.NOTES,
        expected=f"{reference.not_before or 0} to {reference.not_after or 'any time'}",
    )


def _none_valid() -> Finding:
    return Finding(
        "ima.reference.none",
        "No IMA reference set that the policy accepts is registered and valid.",
    )


def _about(seen: Seen, problem: Finding, effect: Effect) -> Finding:
    return replace(
        problem,
        message=f"{shown_name(seen.name)}: {problem.message}.",
        effect=effect,
        pcr=seen.entry.pcr,
        event=seen.entry.number,
    )


@lru_cache(maxsize=64)
def _in_order(template: bytes) -> bool:
    """Tell whether a template has digest and name in front, as every built-in one, and no others.

    Its name is attested by nothing. Under one that swaps ``d-ng`` and ``d-modsig``, whose data look
    alike, a file would be judged by what it is without the bytes that were appended to it; under
    one that swaps the name and what an extended attribute holds, by a path of its owner's choice.
    """
    first, second, *others = (*template_fields(template), None)
    return (
        first in _DIGEST_FIELDS
        and second in _NAME_FIELDS
        and (_DIGEST_FIELDS | _NAME_FIELDS).isdisjoint(others)
    )
