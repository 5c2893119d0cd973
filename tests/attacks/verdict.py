"""How a test of this folder says what it attacks, and how its claims are held to what happened.

A test carries ``attack("A1", "quote.magic.wrong")``: a row of the catalogue and the findings that
refuse it. The page on attacks prints these markers, so the fixture ``verdict`` sees to it that a
test which passes has really seen every finding that its markers name.

What refuses without a finding is named too: ``problem:KIND`` for a problem document without
findings and for malformed input, ``tpm:refuses`` where the TPM itself does not do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx2
import pytest

from bootlease.appraisal import AttestationResult
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import LeaseAnswer
from bootlease.model import Effect, Finding

PROBLEM: Final = "problem:"
MALFORMED: Final = "problem:malformed"
TPM_REFUSES: Final = "tpm:refuses"


def attack(row: str, *findings: str) -> pytest.MarkDecorator:
    """Mark a test as one that shows a row refused by these findings."""
    return pytest.mark.attack(row, *findings)


def benign(row: str, *notes: str) -> pytest.MarkDecorator:
    """Mark a test as one that shows an oddity of a row accepted, with these notes."""
    return pytest.mark.attack(row, *notes, benign=True)


@dataclass(slots=True)
class Verdict:
    """What a test has seen refused and accepted.

    Attributes:
        refused_by: What refused, over the whole test.
        noted: Ids of findings that refused nothing.
        acceptances: How often something was accepted.
    """

    refused_by: set[str] = field(default_factory=set)
    noted: set[str] = field(default_factory=set)
    acceptances: int = 0

    def refused(self, answer: httpx2.Response | AttestationResult, *findings: str) -> None:
        """Demand that no token came, and that ``findings`` are among what says why."""
        if isinstance(answer, AttestationResult):
            seen = _refusing(answer.findings)
            assert not answer.leases
        else:
            seen = _refusing_in(answer)
        self._add(seen, findings)

    @contextmanager
    def refuses(self, *findings: str) -> Iterator[None]:
        """Demand that the block ends in a refusal with ``findings`` among its reasons."""
        try:
            yield
        except VerificationError as exc:
            seen = _refusing(exc.findings)
        except MalformedError:
            seen = {MALFORMED}
        except TransportError:
            seen = {TPM_REFUSES}
        else:
            pytest.fail("nothing was refused")
        self._add(seen, findings)

    def accepted(self, answer: httpx2.Response | AttestationResult, *notes: str) -> None:
        """Demand a token, or at least that nothing refuses, with ``notes`` among the findings."""
        if isinstance(answer, AttestationResult):
            noted = {finding.id for finding in answer.findings}
            assert answer.leases, sorted(map(str, answer.findings))
        else:
            assert answer.status_code in {200, 201}, answer.text
            noted = set()
        assert set(notes) <= noted
        self.noted |= noted
        self.acceptances += 1

    def expects(self, result: AttestationResult, finding: str) -> None:
        """Demand a refusal with this finding, or a token where it is empty."""
        if finding:
            self.refused(result, finding)
        else:
            self.accepted(result)

    def found(self, findings: tuple[Finding, ...]) -> None:
        """Take in the findings of a check that decides alone."""
        assert findings
        self._add(_refusing(findings), ())

    def noticed(self, findings: tuple[Finding, ...]) -> None:
        """Take in the findings of a check that must refuse nothing."""
        assert not _refusing(findings)
        self.noted |= {finding.id for finding in findings}
        self.acceptances += 1

    def _add(self, seen: set[str], findings: tuple[str, ...]) -> None:
        assert seen, "refused without a reason"
        assert set(findings) <= seen, seen
        self.refused_by |= seen


def _refusing(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.id for finding in findings if finding.effect is Effect.REFUSES}


def _refusing_in(answer: httpx2.Response) -> set[str]:
    """Return what a problem document says, having seen that it is one and no lease."""
    assert answer.status_code >= httpx2.codes.BAD_REQUEST, answer.content
    assert answer.headers["content-type"] == "application/problem+json"
    with pytest.raises(MalformedError):
        LeaseAnswer.parse(answer.content)
    members = answer.json()
    assert "leases" not in members
    findings = members.get("findings", [])
    seen = {each["id"] for each in findings if each["effect"] == Effect.REFUSES.value}
    return seen or {PROBLEM + members["type"].rpartition("/")[2]}
