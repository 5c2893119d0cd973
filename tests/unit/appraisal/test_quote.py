"""What a verified quote must cover, and how counters may move."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from bootlease.appraisal.quote import check_clock, check_selection, check_signer, note_oddities
from bootlease.model import ClockInfo, Effect, Finding, HashAlg
from bootlease.tpm import PCRSelection, TPMSQuoteInfo, VerifiedQuote

SIGNER: Final = b"\x00\x0b" + bytes(range(32))
CLOCK: Final = ClockInfo(clock=1000, reset_count=5, restart_count=2, safe=True)


def quote(*selections: PCRSelection) -> VerifiedQuote:
    """Make a verified quote over a selection."""
    return VerifiedQuote(CLOCK, 1, SIGNER, b"", selections, {}, b"")


def ids(findings: tuple[Finding, ...]) -> list[tuple[str, int | None]]:
    """Return ids and PCRs."""
    return [(finding.id, finding.pcr) for finding in findings]


def test_a_quote_that_covers_more_than_required_is_fine() -> None:
    """Only what is required has to be covered."""
    wide = quote(PCRSelection(HashAlg.SHA1, (0,)), PCRSelection(HashAlg.SHA256, (0, 1, 7)))
    assert check_selection(wide, {HashAlg.SHA256: frozenset({0, 7})}) == ()


def test_each_missing_pcr_has_its_finding() -> None:
    """A required PCR left out of the signed selection is named (A5)."""
    found = check_selection(
        quote(PCRSelection(HashAlg.SHA256, (0, 1))), {HashAlg.SHA256: frozenset({0, 4, 7})}
    )
    assert ids(found) == [("quote.pcr.missing", 4), ("quote.pcr.missing", 7)]


@pytest.mark.parametrize(
    "selections",
    [(PCRSelection(HashAlg.SHA1, (0, 7)),), (PCRSelection(HashAlg.SHA256, ()),), ()],
    ids=["another bank", "an empty bank", "none"],
)
def test_a_missing_bank_has_its_finding(selections: tuple[PCRSelection, ...]) -> None:
    """PCRs of another bank cover nothing (A6)."""
    found = check_selection(quote(*selections), {HashAlg.SHA256: frozenset({0, 7})})
    assert ids(found) == [("quote.bank.missing", None)]


def test_an_unverified_selection_serves_to_explain() -> None:
    """A refused quote can be told what else it lacks."""
    info = TPMSQuoteInfo((PCRSelection(0x7777, (0,)),), b"")
    found = check_selection(info, {HashAlg.SHA256: frozenset({0})})
    assert found[0].seen == "0x7777"


@pytest.mark.parametrize("required", [{}, {HashAlg.SHA256: frozenset[int]()}])
def test_requiring_nothing_is_misuse(required: dict[HashAlg, frozenset[int]]) -> None:
    """An empty demand would accept every quote (D21)."""
    with pytest.raises(ValueError, match="at least one PCR"):
        check_selection(quote(PCRSelection(HashAlg.SHA256, (0,))), required)


def clock(clock: int, resets: int, restarts: int) -> ClockInfo:
    """Make a safe clock."""
    return ClockInfo(clock, resets, restarts, safe=True)


@pytest.mark.parametrize(
    "now",
    [CLOCK, clock(1001, 5, 2), clock(1, 6, 0), clock(999, 5, 3)],
    ids=["same", "later", "reset", "restart"],
)
def test_counters_that_went_forward_are_fine(now: ClockInfo) -> None:
    """Time passes, a machine reboots, a machine resumes: none of these is a rollback."""
    assert check_clock(CLOCK, now, 5, unsafe=Effect.REFUSES) == ()


@pytest.mark.parametrize(
    ("now", "finding"),
    [
        (clock(2000, 4, 9), "clock.reset-count.rollback"),
        (clock(2000, 5, 1), "clock.restart-count.rollback"),
        (clock(999, 5, 2), "clock.backwards"),
    ],
)
def test_a_counter_that_went_back_is_told(now: ClockInfo, finding: str) -> None:
    """A TPM whose state was copied or rolled back shows it (A23)."""
    assert ids(check_clock(CLOCK, now, unsafe=Effect.NOTES)) == [(finding, None)]


def test_the_high_water_mark_counts_without_a_prior_quote() -> None:
    """A new lineage cannot start below the highest resetCount ever seen."""
    found = check_clock(None, CLOCK, 6, unsafe=Effect.NOTES)
    assert ids(found) == [("clock.reset-count.rollback", None)]
    assert found[0].expected == "at least 6"
    assert check_clock(None, CLOCK, 5, unsafe=Effect.NOTES) == ()


@pytest.mark.parametrize("effect", Effect)
def test_an_unsafe_clock_does_what_the_caller_chose(effect: Effect) -> None:
    """Policy weighs an unsafe clock (A22)."""
    found = check_clock(None, ClockInfo(1, 1, 0, safe=False), unsafe=effect)
    assert [(finding.id, finding.effect) for finding in found] == [("clock.unsafe", effect)]


def test_the_qualified_signer_is_compared_whole() -> None:
    """Another qualified name, even an empty one or a prefix, is another place (A24)."""
    good = quote(PCRSelection(HashAlg.SHA256, (0,)))
    assert check_signer(good, SIGNER) == ()
    for other in (b"", SIGNER[:-1], SIGNER + b"\0"):
        assert ids(check_signer(good, other)) == [("quote.signer.mismatch", None)]


def test_oddities_are_noted_and_refuse_nothing() -> None:
    """A quote without a signer's name or firmware version says so."""
    good = quote(PCRSelection(HashAlg.SHA256, (0,)))
    assert note_oddities(good) == ()
    for changed, finding in (
        (replace(good, qualified_signer=b""), "quote.signer.unnamed"),
        (replace(good, firmware_version=0), "quote.firmware-version.zero"),
    ):
        (found,) = note_oddities(changed)
        assert (found.id, found.effect) == (finding, Effect.NOTES)
