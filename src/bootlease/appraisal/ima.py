"""What the running system loaded: its IMA list, up to the PCR 10 that was quoted.

Specification: Linux ``Documentation/security/IMA-templates.rst`` and ``security/integrity/ima``, by
way of ``bootlease.ima``; which files are good, ``bootlease.reference.imaset``.

The list is no part of what the AK signed: it is read after the quote, because the kernel measures
on while a quote is made. What authenticates it is PCR 10. So one list may stand in for another
behind the same quote only where both lead to that value, and asking for the list again in full
costs no other quote.

A renewal brings the entries since the last that was accepted and is judged by these alone; what
came before was judged by the same rules (``ima_rules``) in the same boot. Under other rules, the
list has to be seen from its beginning. The number of accepted entries never goes back in a lineage.

PCR 10 is judged here and nowhere else: it moves with every file, so no verdict that is remembered,
no reference set and no event log has a say in it (``Policy.boot_selection``).

Not claimed: that everything was measured. What the kernel's own IMA policy leaves out, the list
does not show; that policy is not attested.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import VerifiedEvidence
from bootlease.ima import (
    IMA_PCR,
    AttestedList,
    IMAState,
    attest_list,
    boot_aggregate_findings,
    expected_boot_aggregates,
)
from bootlease.lineage import IMAProgress, Prior
from bootlease.model import Effect, Finding
from bootlease.policy import Policy
from bootlease.reference.imamatch import appraise_entries
from bootlease.reference.imaset import IMAReferenceSet

IMA_RULES_TYPE: Final = "bootlease/ima-rules/1"
LIST_WANTED: Final = "ima.list.wanted"


@dataclass(frozen=True, slots=True)
class IMAVerdict:
    """What the IMA list came to.

    Attributes:
        findings: What is wrong with it, or worth noting.
        considered: Digests of the sets that it was compared with.
        progress: How far it was appraised; None where it was not, or leads nowhere.
        replayed: The list led to the quoted PCR 10, or was not looked at.
    """

    findings: tuple[Finding, ...] = ()
    considered: tuple[bytes, ...] = ()
    progress: IMAProgress | None = None
    replayed: bool = True


_NOT_APPRAISED: Final = IMAVerdict()


def accepted_ima(
    references: Sequence[IMAReferenceSet], policy: Policy
) -> tuple[IMAReferenceSet, ...]:
    """Return the sets that a policy accepts, in their order."""
    names = policy.ima.accept
    return tuple([reference for reference in references if reference.name in names])


def ima_rules(policy: Policy, references: Sequence[IMAReferenceSet], now: int) -> bytes:
    """Return the digest of all that the entries of a list are judged by.

    Args:
        policy: The policy.
        references: The sets that it accepts, in their order.
        now: Seconds since the epoch: a set may begin or cease to count.
    """
    return _rules(policy, tuple([(each.digest, each.valid_at(now)) for each in references]))


@functools.lru_cache(maxsize=64)
def _rules(policy: Policy, references: tuple[tuple[bytes, bool], ...]) -> bytes:
    banks = [int(bank) for bank in policy.quote.banks]
    judged = [IMA_RULES_TYPE, policy.ima.wire(), banks, [list(each) for each in references]]
    return hashlib.sha256(cbor.encode(judged)).digest()


def whole_list_wanted(
    evidence: VerifiedEvidence,
    prior: Prior | None,
    references: Sequence[IMAReferenceSet],
    policy: Policy,
    *,
    now: int,
) -> tuple[Finding, ...]:
    """Tell whether the entries presented cannot be judged without those before them.

    Neither the node's state nor its wish is at fault then, so whoever asks for the whole list
    spends no challenge and ends no lineage. That entries are missing altogether is a refusal, not
    a question.

    Args:
        evidence: Verified evidence.
        prior: Where the node's live lineage stands.
        references: The registered sets.
        policy: The policy.
        now: Seconds since the epoch.
    """
    if not policy.ima.required or evidence.ima is None:
        return ()
    begun = _begin(evidence, prior, ima_rules(policy, accepted_ima(references, policy), now))
    if isinstance(begun, Finding):
        return (begun,)
    if evidence.ima_list() is None:
        return (
            Finding(
                LIST_WANTED,
                "The evidence names entries of the IMA list without bringing them; send it whole.",
            ),
        )
    return ()


def appraise_ima(
    evidence: VerifiedEvidence,
    prior: Prior | None,
    references: Sequence[IMAReferenceSet],
    policy: Policy,
    *,
    now: int,
) -> IMAVerdict:
    """Judge the entries that verified evidence brings.

    Proves, without findings that refuse: the kernel that this lineage runs measured these entries
    after those that were accepted before, and nothing else until the quote; each is allowed by
    ``policy`` and an accepted set. Does not prove that all that ran was measured.

    Args:
        evidence: Verified evidence.
        prior: Where the node's live lineage stands, if it has one.
        references: The registered sets; policy decides which are accepted.
        policy: The policy.
        now: Seconds since the epoch.

    Returns:
        The verdict; the same for the same arguments.
    """
    if not policy.ima.required:
        return _NOT_APPRAISED
    accepted = accepted_ima(references, policy)
    rules = ima_rules(policy, accepted, now)
    considered = tuple(reference.digest for reference in accepted)
    findings = _set_findings(policy, accepted)
    attested = _attested(evidence, prior, policy, rules)
    if not isinstance(attested, AttestedList):
        return IMAVerdict((*findings, *attested), considered, replayed=False)
    aggregates = expected_boot_aggregates(evidence.quote.pcrs)
    findings += _position_findings(evidence, prior, attested)
    # E4, E12: a whole list begins with this boot, and whatever a kexec appends is of this boot.
    findings += boot_aggregate_findings(attested, evidence.quote.pcrs)
    outcome = appraise_entries(
        attested.entries(), accepted, policy.ima, now=now, boot_aggregates=aggregates
    )
    return IMAVerdict(
        (*findings, *outcome.findings), considered, IMAProgress(attested.state, rules)
    )


def _set_findings(policy: Policy, accepted: Sequence[IMAReferenceSet]) -> tuple[Finding, ...]:
    names = {reference.name for reference in accepted}
    return tuple(
        Finding(
            "ima.reference.unknown",
            f"The policy accepts IMA reference {name}, of which no set is registered, or only"
            " revoked ones.",
            effect=Effect.NOTES,
            expected=name,
        )
        for name in policy.ima.accept
        if name not in names
    )


def _begin(evidence: VerifiedEvidence, prior: Prior | None, rules: bytes) -> IMAState | Finding:
    """Return where the entries presented go on from, or what is wanted instead."""
    first = 0 if evidence.ima is None else evidence.ima.first
    if first == 0:
        return IMAState.START
    # Whoever begins a lineage leaves behind what was accepted in the one before.
    progress = None if prior is None or evidence.previous is None else prior.ima
    if progress is None:
        return _wanted("this lineage has accepted none of the entries before", first)
    if progress.rules != rules:
        return _wanted("the entries before were judged by other rules than now hold", first)
    if progress.state.entries != first:
        return _wanted(f"this lineage has accepted {progress.state.entries} entries", first)
    return progress.state


def _wanted(why: str, first: int) -> Finding:
    return Finding(
        LIST_WANTED,
        f"The IMA list must be sent from its first entry: {why}.",
        expected="entry 0",
        seen=f"entry {first}",
    )


def _attested(
    evidence: VerifiedEvidence, prior: Prior | None, policy: Policy, rules: bytes
) -> AttestedList | tuple[Finding, ...]:
    """Return the entries that the quote vouches for, or why there are none."""
    data = evidence.ima_list()
    if data is None:
        return (
            Finding("ima.list.missing", "The policy looks at IMA, and the evidence has no list."),
        )
    state = _begin(evidence, prior, rules)
    if isinstance(state, Finding):
        return (state,)
    quoted = {
        bank: value
        for bank in policy.quote.banks
        if (value := evidence.quote.pcrs.get(bank, {}).get(IMA_PCR)) is not None
    }
    if len(quoted) != len(policy.quote.banks):
        # A4: what was not quoted says nothing, and another bank says nothing of this one.
        return (
            Finding(
                "ima.pcr.unquoted",
                "The quote does not cover PCR 10 in every bank that the policy demands.",
                pcr=IMA_PCR,
            ),
        )
    try:
        return attest_list(state, data, quoted)
    except VerificationError as exc:
        return exc.findings
    except MalformedError as exc:
        return (Finding("ima.malformed", f"The IMA list does not parse: {exc}.", pcr=IMA_PCR),)


def _position_findings(
    evidence: VerifiedEvidence, prior: Prior | None, attested: AttestedList
) -> tuple[Finding, ...]:
    # Within a boot PCR 10 only grows. A shorter list in the same lineage is a TPM that was reset
    # under its kernel (E12), or whose state was copied.
    before = None if prior is None or evidence.previous is None else prior.ima
    if before is None or attested.state.entries >= before.state.entries:
        return ()
    return (
        Finding(
            "ima.list.shrunk",
            "PCR 10 vouches for fewer entries than were accepted before in this lineage.",
            pcr=IMA_PCR,
            expected=f"at least {before.state.entries}",
            seen=str(attested.state.entries),
        ),
    )
