"""Boot rules of what a golden node booted.

What is learned can only be kept or become stricter: no other key than those that were there, no
revocation that was there undone, Secure Boot in the state it had.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from bootlease.bootstate.kernel import COMMAND_LINE_PCRS, CommandLine
from bootlease.bootstate.keyfacts import SignatureDatabase
from bootlease.bootstate.pcrs import SECURE_BOOT_PCR
from bootlease.bootstate.tri import Tri
from bootlease.errors import VerificationError
from bootlease.model import Finding, refusals
from bootlease.reference.bootfacts import BootFacts
from bootlease.reference.bootrules import BootRules, CommandLineRule, KeyRule

_STATES: Final = {Tri.ON: True, Tri.OFF: False, Tri.UNKNOWN: None}


def learn_boot_rules(
    facts: BootFacts,
    *,
    secure_boot: bool = True,
    command_line: bool = False,
    known: Collection[str] = (),
) -> BootRules | None:
    """Make boot rules of one boot.

    Args:
        facts: What it meant.
        secure_boot: Learn the state of Secure Boot, its keys, revocations and SBAT generations,
            as far as they were measured.
        command_line: Learn the kernel's parameters.
        known: Command lines to recognise where the log holds a digest alone.

    Returns:
        The rules, ``None`` if there is nothing to say.

    Raises:
        VerificationError: The log contradicts itself, or does not prove a command line.
        ValueError: The PCRs at hand or a parameter cannot make a rule.
    """
    rule = _command_line(facts, tuple(known)) if command_line else None
    if not secure_boot or not facts.view.attests(SECURE_BOOT_PCR):
        return None if rule is None else BootRules(command_line=rule)
    state = facts.secure_boot
    if contradictions := refusals(state.findings):
        raise VerificationError(*contradictions)
    level = facts.shim.sbat_level
    demanded = _STATES[state.state]
    keys = [_key_rule(database) for database in (state.pk, state.kek, state.db)]
    revoked = frozenset() if state.dbx is None else state.dbx.listed
    generations = {} if level is None else dict(level.generations)
    sbat = {name: least for name, least in generations.items() if name != "sbat"}
    if not (rule or sbat or revoked or any(keys)) and demanded is None:
        return None
    pk, kek, db = keys
    return BootRules(demanded, pk, kek, db, revoked, sbat, rule)


def _key_rule(database: SignatureDatabase | None) -> KeyRule | None:
    # A database with entries of another kind cannot be said by digests.
    if database is None or database.others:
        return None
    return KeyRule(allowed=database.listed)


def _command_line(facts: BootFacts, known: tuple[str, ...]) -> CommandLineRule:
    found = facts.command_lines(tuple(text.encode() for text in known))
    if found.unattested:
        missing = ", ".join(map(str, found.unattested))
        needed = ", ".join(map(str, COMMAND_LINE_PCRS))
        raise ValueError(
            f"command-line rules need PCRs {needed} in the set; it lacks {missing}: learn these too"
        )
    if not found.complete or not found.lines:
        raise VerificationError(
            *[_unproven(event) for event in found.unread[:1]],
            *[_unproven(line.event) for line in found.lines if line.text is None],
            *([] if found.lines else [_none()]),
        )
    first, *rest = map(_words, found.lines)
    required = [word for word in first if all(word in words for words in rest)]
    others = [
        str(parameter)
        for line in found.lines
        for parameter in (*line.parameters, *line.other_readings)
    ]
    for text in (*required, *others):
        if "*" in text:
            raise ValueError(f"parameter {text!r:.80} holds a *, which a pattern takes for any")
    allowed = dict.fromkeys(text for text in others if text not in required)
    return CommandLineRule(tuple(dict.fromkeys(required)), tuple(allowed), (), known)


def _words(line: CommandLine) -> list[str]:
    return [str(parameter) for parameter in line.parameters if not parameter.for_init]


def _unproven(event: int) -> Finding:
    return Finding(
        "reference.boot.command-line-unread",
        f"event {event} may be a kernel command line, but the log does not prove its text; give "
        "the text, as from /proc/cmdline, if it is known.",
        event=event,
    )


def _none() -> Finding:
    return Finding(
        "reference.boot.command-line-unknown", "No event shows a kernel command line to learn."
    )
