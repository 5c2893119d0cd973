"""Comparing what a boot meant with the boot rules of a reference set.

A fact that a rule needs and that the log does not prove refuses: unknown is neither on nor off,
neither listed nor unlisted (attack D5).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from bootlease.bootstate.kernel import CommandLine, KernelCommandLines
from bootlease.bootstate.keyfacts import Authority, AuthorityKind, SecureBoot, SignatureDatabase
from bootlease.bootstate.pcrs import SECURE_BOOT_PCR
from bootlease.bootstate.shim import parse_sbat_level
from bootlease.bootstate.tri import Tri
from bootlease.model import Finding, legible
from bootlease.reference.bootfacts import BootFacts
from bootlease.reference.bootrules import (
    KEY_DATABASES,
    BootRules,
    CommandLineRule,
    KeyRule,
    token_pattern,
)

MAX_NAMED: Final = 8
"""Keys, revoked images or parameters that one rule names; a log decides how many there are."""

_SHOWN: Final = 16
_MAX_TOLD: Final = 256
_VARIABLES: Final = {"pk": "PK", "kek": "KEK", "db": "db", "dbx": "dbx"}


def rule_findings(rules: BootRules, facts: BootFacts, label: str) -> Iterator[Finding]:
    """Yield where a boot breaks boot rules.

    Args:
        rules: The rules of a set.
        facts: What the boot meant.
        label: The set's name and version, for messages.
    """
    if rules.reads_secure_boot and not _keeps(rules, facts.secure_boot):
        yield from _secure_boot(rules, facts.secure_boot, label)
        yield from _sbat(rules, facts.secure_boot, label)
    if rules.command_line is not None:
        lines = facts.command_lines(rules.command_line.texts)
        yield from _command_lines(rules.command_line, lines, label)


def _keeps(rules: BootRules, facts: SecureBoot) -> bool:
    """Tell whether Secure Boot and its keys are as the rules have them, as they nearly always are.

    A shortcut: what it does not see is looked at again, and named.
    """
    demanded, dbx = rules.secure_boot, facts.dbx
    return (
        (demanded is None or facts.state is (Tri.ON if demanded else Tri.OFF))
        and _holds(rules.pk, facts.pk)
        and _holds(rules.kek, facts.kek)
        and _holds(rules.db, facts.db)
        and (not rules.dbx or (dbx is not None and rules.dbx <= dbx.listed))
        and (not rules.sbat or _revokes(rules.sbat, facts))
    )


def _holds(rule: KeyRule | None, database: SignatureDatabase | None) -> bool:
    if rule is None:
        return True
    if database is None or not rule.required <= database.listed:
        return False
    accepted = rule.accepted
    return accepted is None or (database.listed <= accepted and not database.others)


def _revokes(least: Mapping[str, int], facts: SecureBoot) -> bool:
    levels = _sbat_levels(facts)
    if len(levels) != 1:
        return False
    seen = _generations(levels[0].data)
    return all(seen.get(component, 0) >= generation for component, generation in least.items())


def judged_events(rules: BootRules, facts: BootFacts) -> frozenset[int]:
    """Return the events of which the rules say all there is to say.

    In a PCR matched by events these need not be known: a dbx that grew, a key database whose
    allowed keys the rules name, an authority found in such a db, a command line whose allowed
    parameters they name. They must hold all the same.
    """
    found: set[int] = set()
    secure_boot = facts.secure_boot if rules.reads_secure_boot else None
    if secure_boot is not None:
        found.update(_judged_variables(rules, secure_boot))
    # Not shim's list: where a loader measures none, root can add one after boot. It must be known.
    rule = rules.command_line
    if rule is not None and rule.allowed is not None:
        for line in facts.command_lines(rule.texts).lines:
            found.add(line.event)
            if line.confirmed_by is not None:
                found.add(line.confirmed_by)
    return frozenset(found)


def _sbat_levels(facts: SecureBoot) -> list[Authority]:
    return [
        authority
        for authority in (*facts.authorities_before, *facts.authorities_after)
        if authority.kind is AuthorityKind.SBAT_LEVEL
    ]


def _judged_variables(rules: BootRules, secure_boot: SecureBoot) -> Iterator[int]:
    events = dict(secure_boot.variables)
    judged = {
        name
        for name in KEY_DATABASES
        if (rule := getattr(rules, name)) is not None and rule.allowed is not None
    }
    if rules.dbx:
        judged.add("dbx")
    for name in judged:
        if (event := events.get(_VARIABLES[name])) is not None:
            yield event
    if "db" not in judged:
        return
    for authority in (*secure_boot.authorities_before, *secure_boot.authorities_after):
        if authority.kind is AuthorityKind.CERTIFICATE and authority.listed is Tri.ON:
            yield authority.event


def _secure_boot(rules: BootRules, facts: SecureBoot, label: str) -> Iterator[Finding]:
    events = dict(facts.variables)
    if rules.secure_boot is not None:
        demanded = Tri.ON if rules.secure_boot else Tri.OFF
        if facts.state is not demanded:
            yield Finding(
                "reference.boot.secure-boot",
                f"Secure Boot is {_state(facts.state)}; reference {label} demands it "
                f"{demanded.value}.",
                pcr=SECURE_BOOT_PCR,
                event=events.get("SecureBoot"),
                expected=demanded.value,
                seen=facts.state.value,
            )
    for name in KEY_DATABASES:
        rule: KeyRule | None = getattr(rules, name)
        if rule is not None:
            variable = _VARIABLES[name]
            database: SignatureDatabase | None = getattr(facts, name)
            yield from _keys(rule, database, variable, events.get(variable), label)
    if rules.dbx:
        yield from _revocations(rules.dbx, facts.dbx, events.get("dbx"), label)


def _state(state: Tri) -> str:
    return "not proven to be on or off" if state is Tri.UNKNOWN else state.value


def _named(database: SignatureDatabase) -> dict[bytes, str]:
    """Return what people call what a database lists."""
    found = dict.fromkeys(database.hashes, "an image")
    found |= dict.fromkeys(database.certificate_hashes, "a certificate by its digest")
    for certificate in database.certificates:
        subject = certificate.subject or "an unreadable certificate"
        found[certificate.sha256] = legible(subject, at_most=_MAX_TOLD)
    return found


def _unknown(variable: str, label: str) -> Finding:
    return Finding(
        f"reference.boot.{variable.lower()}-unknown",
        f"No attested event shows {variable}, about which reference {label} has a rule.",
        pcr=SECURE_BOOT_PCR,
        expected=f"{variable} measured before the separator of PCR {SECURE_BOOT_PCR}",
    )


def _keys(
    rule: KeyRule,
    database: SignatureDatabase | None,
    variable: str,
    event: int | None,
    label: str,
) -> Iterator[Finding]:
    if database is None:
        yield _unknown(variable, label)
        return
    listed, accepted = database.listed, rule.accepted
    entries = _named(database)
    for digest in sorted(rule.required - listed)[:MAX_NAMED]:
        yield Finding(
            f"reference.boot.{variable.lower()}-lacks",
            f"{variable} lacks the key {digest.hex()[:_SHOWN]}…, which reference {label} requires.",
            pcr=SECURE_BOOT_PCR,
            event=event,
            expected=digest.hex(),
        )
    if accepted is None:
        return
    strange = [digest for digest in entries if digest not in accepted]
    for digest in strange[:MAX_NAMED]:
        yield Finding(
            f"reference.boot.{variable.lower()}-not-allowed",
            f"{variable} holds {entries[digest]}, digest {digest.hex()[:_SHOWN]}…, "
            f"which reference {label} does not allow.",
            pcr=SECURE_BOOT_PCR,
            event=event,
            seen=digest.hex(),
        )
    more = max(0, len(strange) - MAX_NAMED) + sum(count for _, count in database.others)
    if more:
        yield Finding(
            f"reference.boot.{variable.lower()}-not-allowed-more",
            f"{variable} holds {more} more entries that reference {label} does not allow.",
            pcr=SECURE_BOOT_PCR,
            event=event,
        )


def _revocations(
    required: frozenset[bytes], dbx: SignatureDatabase | None, event: int | None, label: str
) -> Iterator[Finding]:
    if dbx is None:
        yield _unknown("dbx", label)
        return
    listed = dbx.listed
    if not required <= listed:
        missing = sorted(required - listed)
        shown = ", ".join(f"{digest.hex()[:_SHOWN]}…" for digest in missing[:MAX_NAMED])
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        yield Finding(
            "reference.boot.dbx-old",
            f"dbx does not revoke {len(missing)} of {len(required)} images that reference {label} "
            f"requires: {shown}{more}. Update dbx.",
            pcr=SECURE_BOOT_PCR,
            event=event,
            expected=f"at least the {len(required)} entries of the reference",
            seen=f"{len(listed)} entries",
        )


@functools.lru_cache(maxsize=256)
def _generations(value: bytes) -> Mapping[str, int]:
    """Return shim's revocation list by component, empty if a value is none; shims share a few."""
    level = parse_sbat_level(value)
    return {} if level is None else dict(level.generations)


def _sbat(rules: BootRules, facts: SecureBoot, label: str) -> Iterator[Finding]:
    if not rules.sbat:
        return
    levels = _sbat_levels(facts)
    seen = _generations(levels[0].data) if levels else {}
    # Whoever runs later can have another list measured, but not undo shim's own, the first.
    if not seen or any(each.data != levels[0].data for each in levels):
        yield Finding(
            "reference.boot.sbat-unknown",
            "No attested event, or more than one, shows shim's revocation list SbatLevel, about "
            f"which reference {label} has a rule.",
            pcr=SECURE_BOOT_PCR,
        )
        return
    for component, least in rules.sbat.items():
        if seen.get(component, 0) < least:
            yield Finding(
                "reference.boot.sbat-old",
                f"shim does not refuse {component} below generation {least}, as reference {label} "
                "requires.",
                pcr=SECURE_BOOT_PCR,
                event=levels[0].event,
                expected=f"{component},{least}",
                seen=f"{component},{seen[component]}" if component in seen else "none",
            )


def _command_lines(
    rule: CommandLineRule, facts: KernelCommandLines, label: str
) -> Iterator[Finding]:
    for pcr in facts.unattested:
        yield Finding(
            "reference.boot.command-line-unattested",
            f"PCR {pcr} is not attested: a kernel command line could be measured there unseen, and "
            f"reference {label} has a rule about it.",
            pcr=pcr,
            expected=f"PCR {pcr} in quote.pcrs of the policy",
        )
    for event in facts.unread[:MAX_NAMED]:
        yield Finding(
            "reference.boot.command-line-unread",
            f"event {event} may be a kernel command line, but the log does not prove its text.",
            event=event,
        )
    if not facts.lines:
        yield Finding(
            "reference.boot.command-line-unknown",
            f"No attested event shows a kernel command line, about which reference {label} has a "
            "rule.",
        )
    for line in facts.lines:
        yield from _line(rule, line, label)


def _line(rule: CommandLineRule, line: CommandLine, label: str) -> Iterator[Finding]:
    if line.text is None:
        yield _line_finding(
            line,
            "unread",
            "the log holds a digest of the kernel command line only, and it is none that "
            f"reference {label} knows",
            seen=line.digest.hex(),
        )
        return
    if line.too_long:
        yield _line_finding(line, "too-long", "the kernel cuts this command line off")
    kernel = [(each.key, each.value, str(each)) for each in line.parameters]
    others = [(each.key, each.value, str(each)) for each in line.other_readings]
    effective = [(each.key, each.value, str(each)) for each in line.parameters if not each.for_init]
    yield from _bounded(line, _missing(rule, effective), "lacks", "lacks", label)
    yield from _bounded(
        line, _contradicting(rule, kernel + others), "contradicts", "contradicts a rule by", label
    )
    forbidden = _forbidden(rule, kernel + others)
    yield from _bounded(line, forbidden, "forbidden", "has the forbidden", label)
    if rule.allowed is not None:
        strange = _strange(rule, kernel + others)
        left = [word for word in strange if word not in forbidden]
        yield from _bounded(line, left, "not-allowed", "has, without its being allowed,", label)


Words = Collection[tuple[str, str | None, str]]


def _missing(rule: CommandLineRule, words: Words) -> list[str]:
    return [
        text
        for text in rule.required
        if not any(token_pattern(text).matches(key, value) for key, value, _ in words)
    ]


def _contradicting(rule: CommandLineRule, words: Words) -> list[str]:
    """Return parameters of a name that is required with another value: the last one counts."""
    required = [token_pattern(text) for text in rule.required]
    return [
        shown
        for key, value, shown in words
        if any(each.names_value and each.is_for(key) for each in required)
        and not any(each.matches(key, value) for each in required)
    ]


def _forbidden(rule: CommandLineRule, words: Words) -> list[str]:
    patterns = [token_pattern(text) for text in rule.forbidden]
    return [
        shown
        for key, value, shown in words
        if any(each.matches(key, value, any_value=True) for each in patterns)
    ]


def _strange(rule: CommandLineRule, words: Words) -> list[str]:
    patterns = [token_pattern(text) for text in (*(rule.allowed or ()), *rule.required)]
    return [
        shown
        for key, value, shown in words
        if not any(each.matches(key, value) for each in patterns)
    ]


def _bounded(
    line: CommandLine, words: Collection[str], what: str, verb: str, label: str
) -> Iterator[Finding]:
    for word in list(dict.fromkeys(words))[:MAX_NAMED]:
        shown = legible(word, at_most=_MAX_TOLD)
        lacks = what == "lacks"
        yield _line_finding(
            line,
            what,
            f"the kernel command line {verb} {shown!r}, by reference {label}",
            expected=shown if lacks else None,
            seen=None if lacks else shown,
        )


def _line_finding(
    line: CommandLine,
    what: str,
    text: str,
    *,
    expected: str | None = None,
    seen: str | None = None,
) -> Finding:
    return Finding(
        f"reference.boot.command-line-{what}",
        f"event {line.event}, PCR {line.pcr}: {text}",
        pcr=line.pcr,
        event=line.event,
        expected=expected,
        seen=seen,
    )
