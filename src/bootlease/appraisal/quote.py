"""What a verified quote must cover, and how its TPM's counters may have moved.

Specifications: RFC 9334 §7 (appraisal); TPM 2.0 Library part 1 §36 (clock, resetCount,
restartCount) and §16 (qualified names).

Every function is pure and returns findings; none of them makes a quote trustworthy,
which is ``bootlease.tpm.verify_quote``'s to say. Not handled on purpose: obfuscated
counters of keys outside the endorsement and platform hierarchies, which tell nothing.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from bootlease.lineage import HighWaterMark
from bootlease.model import Effect, Finding, HashAlg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bootlease.model import ClockInfo
    from bootlease.tpm import TPMSQuoteInfo, VerifiedQuote


def check_selection(
    quote: VerifiedQuote | TPMSQuoteInfo, required: Mapping[HashAlg, Iterable[int]]
) -> tuple[Finding, ...]:
    """Demand PCRs in the *signed* selection, in the bank that policy names.

    A value that came along unquoted, or a quote over another bank, covers nothing (A5,
    A6): firmware may leave a bank unextended, and then anybody can fill it.

    Args:
        quote: The verified quote; an unverified one only to explain a refusal further.
        required: PCRs by bank; must not be empty.

    Returns:
        A finding for each bank and each PCR that is not covered.

    Raises:
        ValueError: Nothing is required: an empty demand would accept every quote.
    """
    if not any(required.values()):
        raise ValueError("a quote must be required to cover at least one PCR")
    covered = {selection.alg: selection.pcrs for selection in quote.selections}
    found = []
    for bank, pcrs in required.items():
        quoted = covered.get(bank)
        if not quoted:
            found.append(
                Finding(
                    "quote.bank.missing",
                    f"The quote does not cover bank {bank.label}.",
                    expected=bank.label,
                    seen=_labels(covered),
                )
            )
            continue
        if set(pcrs).issubset(quoted):
            continue
        found += [
            Finding(
                "quote.pcr.missing",
                f"The quote does not cover PCR {pcr} in bank {bank.label}.",
                pcr=pcr,
            )
            for pcr in sorted(pcrs)
            if pcr not in quoted
        ]
    return tuple(found)


def _labels(banks: Iterable[int]) -> str:
    return ", ".join(bank.label if isinstance(bank, HashAlg) else f"0x{bank:04x}" for bank in banks)


def check_clock(
    prior: ClockInfo | None,
    clock: ClockInfo,
    min_reset_count: int = 0,
    *,
    high_water: HighWaterMark | None = None,
    unsafe: Effect,
) -> tuple[Finding, ...]:
    """Demand that the TPM's counters only went forward (A22, A23).

    A counter that went back means a TPM whose state was copied or rolled back. A TPM reset
    in between is no finding here: whether it ends anything is the lineage's to say.

    Args:
        prior: The counters last accepted of this TPM, if any.
        clock: The counters of the quote at hand.
        min_reset_count: A resetCount that this TPM is known to have reached.
        high_water: The furthest that this TPM's counters were ever seen to stand, if known.
        unsafe: What a clock that the TPM calls unsafe does to the decision.

    Returns:
        What went back, and whether the clock is unsafe.
    """
    mark = high_water or HighWaterMark()
    if prior is not None and mark < (prior.reset_count, prior.restart_count, prior.clock):
        mark = HighWaterMark.of(prior)
    stands = (clock.reset_count, clock.restart_count, clock.clock)
    found: tuple[Finding, ...] = ()
    if stands < mark or clock.reset_count < min_reset_count:
        found = (_went_back(mark, clock, max(min_reset_count, mark.reset_count)),)
    if not clock.safe:
        finding = Finding(
            "clock.unsafe",
            "The TPM says that its clock may have gone back after an unorderly shutdown.",
            effect=unsafe,
        )
        found = (*found, finding)
    return found


def _went_back(mark: HighWaterMark, clock: ClockInfo, floor: int) -> Finding:
    if clock.reset_count < floor:
        return Finding(
            "clock.reset-count.rollback",
            "The TPM has counted fewer resets than before: its state was rolled back.",
            expected=f"at least {floor}",
            seen=str(clock.reset_count),
        )
    if clock.restart_count < mark.restart_count:
        return Finding(
            "clock.restart-count.rollback",
            "The TPM has counted fewer restarts than before since the same reset.",
            expected=f"at least {mark.restart_count}",
            seen=str(clock.restart_count),
        )
    return Finding(
        "clock.backwards",
        "The TPM's clock went back without a reset or restart.",
        expected=f"at least {mark.clock}",
        seen=str(clock.clock),
    )


def check_signer(quote: VerifiedQuote, qualified_name: bytes) -> tuple[Finding, ...]:
    """Demand that the TPM names the signing key as a child of where it must be (A24).

    Args:
        quote: The verified quote.
        qualified_name: Of the attestation key under its expected parent.

    Returns:
        One finding if the TPM stated another qualified name.
    """
    if hmac.compare_digest(quote.qualified_signer, qualified_name):
        return ()
    return (
        Finding(
            "quote.signer.mismatch",
            "The quote was signed by a key in another place of the TPM's hierarchies.",
            expected=qualified_name.hex(),
            seen=quote.qualified_signer.hex(),
        ),
    )


def note_oddities(quote: VerifiedQuote) -> tuple[Finding, ...]:
    """Tell of statements that a TPM in good order does not make; policy weighs them.

    Args:
        quote: The verified quote.

    Returns:
        Notes: none of them refuses.
    """
    found = []
    if not quote.qualified_signer:
        found.append(
            Finding(
                "quote.signer.unnamed",
                "The quote does not name the key that signed it.",
                effect=Effect.NOTES,
            )
        )
    if not quote.firmware_version:
        found.append(
            Finding(
                "quote.firmware-version.zero",
                "The TPM states no firmware version.",
                effect=Effect.NOTES,
            )
        )
    return tuple(found)
