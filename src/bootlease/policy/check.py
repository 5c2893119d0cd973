"""Looking for what is wrong with a policy before a fleet finds out.

A policy that parses is valid in itself. What is looked for here is what no single value shows:
rules that contradict each other, reference sets that no boot can match under this policy, sets
that have expired, and what is written but used by nothing. Everything found is worth mending;
``Effect.REFUSES`` marks what refuses boots, ``Effect.NOTES`` what merely does nothing.

Not handled: whether rules are wise, and sets that some boot could match but none in the fleet does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from bootlease.bootstate.kernel import COMMAND_LINE_PCRS
from bootlease.bootstate.pcrs import SECURE_BOOT_PCR
from bootlease.ima import IMA_PCR
from bootlease.model import Effect, Finding
from bootlease.policy.cedarcheck import check_authorization
from bootlease.policy.values import Policy
from bootlease.reference import (
    AnyReference,
    EventsReference,
    IMAReferenceSet,
    IMASignatures,
    ReferenceSet,
    kind_of,
)
from bootlease.reference.bootrules import BootRules, CommandLineRule, token_pattern
from bootlease.reference.measured import DYNAMIC_PCRS

_SHOWN: Final = 16


def check_policy(
    policy: Policy, references: Sequence[AnyReference] | None, *, now: int
) -> tuple[Finding, ...]:
    """Return what is wrong with a policy.

    Args:
        policy: The policy.
        references: The sets that would be registered with it; ``None`` leaves them out of it.
        now: Seconds since the epoch.
    """
    found = [*_in_itself(policy)]
    if references is not None:
        found += _names(policy, references, now)
        for reference in references:
            found += _set_findings(policy, reference, now)
    return tuple(dict.fromkeys(found))


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"


def _problem(what: str, message: str, *, pcr: int | None = None) -> Finding:
    return Finding(f"policy.check.{what}", message, pcr=pcr)


def _unused(what: str, message: str, *, pcr: int | None = None) -> Finding:
    return Finding(f"policy.check.{what}", message, effect=Effect.NOTES, pcr=pcr)


def _in_itself(policy: Policy) -> Iterator[Finding]:
    yield from check_authorization(policy)
    enrolment = policy.enrolment
    for digest in sorted(enrolment.allow_ek & enrolment.unsafe_unendorsed_ek):
        yield _unused(
            "ek-twice",
            f"EK {digest.hex()[:_SHOWN]}… is in enrolment.unsafe_unendorsed_ek and so needs no "
            "entry in enrolment.allow_ek.",
        )
    if IMA_PCR in policy.quote.pcrs and not policy.ima.required:
        yield _problem(
            "pcr10-without-ima",
            "quote.pcrs has PCR 10, which moves with every file that IMA measures, but [ima] does "
            "not appraise them: a node that measures files is always refused.",
            pcr=IMA_PCR,
        )
    if policy.boot.deployed_mode and not policy.boot.secure_boot:
        yield _problem(
            "deployed-without-secure-boot",
            "boot.deployed_mode is required but boot.secure_boot is not: the mode says who may "
            "change keys that then verify nothing.",
        )


def _names(policy: Policy, references: Sequence[AnyReference], now: int) -> Iterator[Finding]:
    lists = (("references.accept", "boot", policy.accept), ("ima.accept", "ima", policy.ima.accept))
    for key, kind, accept in lists:
        for name in accept:
            named = [each for each in references if each.name == name]
            of_kind = [each for each in named if kind_of(each) == kind]
            if named and not of_kind:
                yield _problem(
                    "reference-kind",
                    f"{key} has {name}, which is a set of kind {kind_of(named[0])}.",
                )
            elif not named:
                yield _problem("reference-missing", f"{key} has {name}, but no such set is given.")
            elif not any(each.valid_at(now) for each in of_kind):
                yield _problem(
                    "reference-none-valid", f"{key} has {name}, of which no set is valid now."
                )
    signers = any(
        isinstance(each, IMAReferenceSet) and each.signed and each.name in policy.ima.accept
        for each in references
    )
    if policy.ima.signatures is not IMASignatures.IGNORED and not signers:
        yield _problem(
            "signers-missing",
            f'ima.signatures is "{policy.ima.signatures.value}", and no accepted set trusts a '
            "signer.",
        )
    counted = Counter((each.name, each.version) for each in references)
    for (name, version), count in counted.items():
        if count > 1:
            yield _problem("reference-twice", f"Reference {name} {version} is given {count} times.")


def _set_findings(policy: Policy, reference: AnyReference, now: int) -> Iterator[Finding]:
    if reference.name not in (*policy.accept, *policy.ima.accept):
        yield _unused("reference-unused", f"Nothing accepts reference {reference.label}.")
        return
    if reference.not_after is not None and reference.not_after < now:
        yield _problem(
            "reference-expired",
            f"Reference {reference.label} expired at {_moment(reference.not_after)}.",
        )
    if isinstance(reference, IMAReferenceSet):
        yield from _ima_set(policy, reference)
    else:
        yield from _boot_set(policy, reference)


def _never(reference: ReferenceSet, what: str, why: str, *, pcr: int | None = None) -> Finding:
    return _problem(what, f"Reference {reference.label} can never match: {why}.", pcr=pcr)


def _boot_set(policy: Policy, reference: ReferenceSet) -> Iterator[Finding]:
    pcrs = policy.boot_selection.get(reference.bank)
    if pcrs is None:
        banks = ", ".join(bank.label for bank in policy.quote.banks)
        yield _never(
            reference,
            "bank-differs",
            f"it is of bank {reference.bank.label}, and quote.banks has {banks}",
        )
        return
    for pcr in pcrs:
        constraint = reference.pcrs.get(pcr)
        if constraint is None:
            yield _never(
                reference,
                "pcr-absent",
                f"quote.pcrs has PCR {pcr}, which it does not have",
                pcr=pcr,
            )
        elif pcr in DYNAMIC_PCRS:
            yield from _dynamic(reference, pcr)
    for pcr in reference.pcrs:
        if pcr not in pcrs:
            yield _unused(
                "pcr-unused",
                f"Reference {reference.label} has PCR {pcr}, which the policy does not look at.",
                pcr=pcr,
            )
    if reference.boot is not None:
        yield from _boot_rules(policy, reference, reference.boot, pcrs)


def _dynamic(reference: ReferenceSet, pcr: int) -> Iterator[Finding]:
    constraint = reference.pcrs[pcr]
    if isinstance(constraint, EventsReference):
        yield _never(
            reference,
            "dynamic-by-events",
            f"no log of firmware's has the events of PCR {pcr}; give its value",
            pcr=pcr,
        )
    elif b"\xff" * reference.bank.size in constraint.values:
        yield _problem(
            "dynamic-not-launched",
            f"Reference {reference.label} wants PCR {pcr} as it is when no dynamic launch took "
            "place, which every machine without one has.",
            pcr=pcr,
        )


def _boot_rules(
    policy: Policy, reference: ReferenceSet, rules: BootRules, pcrs: Sequence[int]
) -> Iterator[Finding]:
    if policy.boot.secure_boot and rules.secure_boot is False:
        yield _never(
            reference,
            "secure-boot-off",
            "boot.secure_boot is required, and it demands Secure Boot off",
            pcr=SECURE_BOOT_PCR,
        )
    if rules.reads_secure_boot and SECURE_BOOT_PCR not in pcrs:
        yield _never(
            reference,
            "secure-boot-unquoted",
            "it has rules on Secure Boot, which PCR 7 alone proves, and quote.pcrs lacks it",
            pcr=SECURE_BOOT_PCR,
        )
    required = frozenset[bytes]().union(
        *(rule.required for rule in (rules.pk, rules.kek, rules.db) if rule is not None)
    )
    for digest in sorted(required & rules.dbx):
        yield _never(
            reference,
            "key-revoked",
            f"it requires {digest.hex()[:_SHOWN]}… both as a key and as revoked",
            pcr=SECURE_BOOT_PCR,
        )
    rule = rules.command_line
    if rule is None:
        return
    if missing := [str(pcr) for pcr in COMMAND_LINE_PCRS if pcr not in pcrs]:
        yield _never(
            reference,
            "command-line-unquoted",
            "it has rules on command lines, which may be measured into PCR "
            f"{', '.join(missing)} too, and quote.pcrs lacks them",
        )
    yield from _patterns(reference, rule)


def _patterns(reference: ReferenceSet, rule: CommandLineRule) -> Iterator[Finding]:
    for text in rule.required:
        if by := _forbids(rule, text):
            yield _never(
                reference,
                "token-contradiction",
                f"command_line requires {text!r} and forbids it by {by!r}",
            )
    for text in rule.allowed or ():
        if by := _forbids(rule, text):
            yield _unused(
                "token-unused",
                f"Reference {reference.label}: command_line allows {text!r}, but forbids it by "
                f"{by!r}.",
            )
        elif text in rule.required:
            yield _unused(
                "token-unused",
                f"Reference {reference.label}: command_line allows {text!r}, which it requires.",
            )


def _forbids(rule: CommandLineRule, text: str) -> str | None:
    """Return the pattern that forbids all that ``text`` is a pattern for, if one does.

    A star within ``text`` is compared as a character: a forbidden pattern that covers it covers
    whatever it stands for.
    """
    name, equals, value = text.partition("=")
    key, given = name.replace("-", "_"), value if equals else None
    for forbidden in rule.forbidden:
        if token_pattern(forbidden).matches(key, given, any_value=True):
            return forbidden
    return None


def _ima_set(policy: Policy, reference: IMAReferenceSet) -> Iterator[Finding]:
    if policy.ima.signatures is IMASignatures.IGNORED and reference.signed:
        yield _unused(
            "signers-unused",
            f'IMA reference {reference.label} trusts signers, but ima.signatures is "ignored".',
        )
