"""What an operator is told to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import pytest

import bootlease
from bootlease.cli import bootlease as bootlease_command
from bootlease.eventlog import parse_event_log, replay
from bootlease.explain.advice import Case, Names, advise, remedies_of
from bootlease.explain.boot import Boot
from bootlease.explain.remedies import REMEDIES
from bootlease.explain.timeline import compare, timeline
from bootlease.explain.values import Advice
from bootlease.explain.words import ranges
from bootlease.model import Effect, Finding, HashAlg
from bootlease.policy import parse_policy
from bootlease.reference import ReferenceSet, appraise_reference, learn
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.scene import IMA_POLICY, POLICY, files_reference

BANK = HashAlg.SHA256
SOURCE: Final = Path(bootlease.__file__).parent
SUBJECT: Final = ("explain", "ab" * 32, "--data", "v")


def learned(**options: Any) -> ReferenceSet:
    """Learn the good boot."""
    good = simulate_boot(grub_description())
    made: dict[str, Any] = {"name": "golden", "version": "1", "bank": BANK, **options}
    return learn(replay(parse_event_log(good.event_log)), None, **made)


def advice(
    references: list[ReferenceSet],
    *more: Finding,
    policy: str = POLICY,
    saved: str | None = None,
    **case: Any,
) -> Advice:
    """Return the advice on a boot with one kernel parameter more."""
    description = grub_description()
    other = simulate_boot(description.with_command_line(f"{description.command_line} init=/bin/sh"))
    rules = parse_policy(policy)
    values = {pcr: bytes(32) for pcr in range(16)} | dict(other.pcrs()[BANK])
    boot = Boot.of(replay(parse_event_log(other.event_log)), {BANK: values}, rules)
    compared = compare(boot, references, 0)
    assert compared is not None
    findings = appraise_reference(
        boot.replayed, boot.quoted, references, boot.required, now=0, facts=boot.facts
    ).findings
    found = (*findings, *more)
    made: dict[str, Any] = {
        "findings": found,
        "policy": rules,
        "references": references,
        "files": (),
        "names": Names(SUBJECT, "https://v.example", saved),
        "boot": boot,
        "compared": compared,
        "timeline": timeline(boot, compared, found),
    }
    return advise(Case(**(made | case)))


def test_a_change_can_be_approved_by_four_commands() -> None:
    """Save, learn, compare, register: under the old name, as the next version."""
    told = advice([learned()])
    assert told.commands == (
        ("bootlease", *SUBJECT, "--save", "boot"),
        (
            *("bootlease", "reference", "learn", "--log", "boot/eventlog.bin"),
            *("--quoted", "boot/pcrs.json", "--name", "golden", "--version", "2"),
            *("--pcrs", "0-9,14", "-o", "golden-2.json"),
        ),
        ("bootlease", "reference", "diff", "boot/reference.json", "golden-2.json"),
        ("bootlease", "reference", "register", "golden-2.json", "--verifier", "https://v.example"),
    )
    assert [line[:7] for line in told.approvals] == [
        *("+ PCR 8", "+ PCR 8", "- PCR 8", "- PCR 8", "+ PCR 9", "- PCR 9")
    ]


def test_what_is_saved_need_not_be_saved_again() -> None:
    """With a folder at hand, the commands begin with learning from it."""
    told = advice([learned()], saved="there")
    assert told.commands[0][2:5] == ("learn", "--log", "there/eventlog.bin")


def test_learning_repeats_how_the_old_set_was_learned() -> None:
    """PCRs matched by events, rules and known command lines are carried over."""
    pcrs = (*range(10), 11, 12, 14)
    old = learned(
        pcrs=pcrs, match_events=(4, 8), command_line=True, known_command_lines=("quiet x='1'",)
    )
    policy = POLICY.replace("9, 14]", "9, 11, 12, 14]")
    command = advice([old], policy=policy).commands[1]
    text = " ".join(command)
    assert "--pcrs 0-9,11-12,14" in text
    assert "--match events:4,8" in text
    assert "--command-line --known-command-line quiet x='1'" in text
    assert "--no-boot-rules" not in command
    assert "--no-boot-rules" in advice([learned(boot_rules=False)]).commands[1]


def test_the_next_version_is_none_that_is_taken() -> None:
    """One more than the highest number; words are left alone."""
    sets = [learned(version=version) for version in ("7", "2026-11", "12")]
    command = advice(sets).commands[1]
    assert command[command.index("--version") + 1] == "13"


def test_phases_leave_the_quoted_values_out() -> None:
    """Where phases follow the log, PCR 11 does not follow from it: the log alone is learned."""
    policy = POLICY.replace("9, 14]", "9, 11, 14]").replace(
        "phases = []", 'phases = ["enter-initrd"]'
    )
    assert "--quoted" not in advice([learned()], policy=policy).commands[1]


@pytest.mark.parametrize(
    "finding",
    [
        Finding("eventlog.pcr14.replay-mismatch", "No.", pcr=14),
        Finding("eventlog.pcr3.separator-missing", "No.", pcr=3),
        Finding("boot.secure-boot.retyped", "No.", pcr=7),
    ],
)
def test_nothing_is_learned_from_a_log_that_is_not_true(finding: Finding) -> None:
    """What was not measured so must not become a reference."""
    told = advice([learned()], finding)
    assert told.commands == ()
    assert told.approvals == ()
    assert any("cannot be approved" in remedy for remedy in told.remedies)


def test_what_approving_does_not_help_is_said() -> None:
    """A rule of the policy stands whatever reference there is."""
    denied = Finding("policy.secure-boot.off", "Secure Boot is off.", pcr=7)
    told = advice([learned()], denied)
    assert told.commands
    assert told.caveats[0] == "It would be refused all the same, for policy.secure-boot.off."


def test_notes_need_no_advice() -> None:
    """Where nothing refuses, nothing is to be done."""
    note = Finding("policy.test-key.present", "A note.", effect=Effect.NOTES)
    empty = advice([], note, findings=(note,))
    assert empty == Advice((), (), (), ())


def test_without_any_reference_one_is_learned_under_the_accepted_name() -> None:
    """The first set of a name is its version 1, and there is none to compare it with."""
    assert [command[:3] for command in advice([]).commands] == [
        ("bootlease", *SUBJECT[:2]),
        ("bootlease", "reference", "learn"),
        ("bootlease", "reference", "register"),
    ]


def test_files_that_nobody_listed_are_listed_from_the_list() -> None:
    """A set of what the node loaded is made and registered beside the old one."""
    finding = Finding("ima.file.unlisted", "/x was loaded.", pcr=10, event=3)
    told = advice(
        [],
        finding,
        policy=IMA_POLICY,
        findings=(finding,),
        files=[files_reference({"/a": b"a"})],
        has_list=True,
    )
    assert told.approvals == ("~ /x was loaded",)
    assert told.commands[1:] == (
        (
            *("bootlease", "reference", "ima", "node", "boot/ima.bin"),
            *("--name", "files", "--version", "2", "-o", "files-2.json"),
        ),
        ("bootlease", "reference", "register", "files-2.json", "--verifier", "https://v.example"),
    )
    assert advice([], finding, policy=IMA_POLICY, findings=(finding,)).commands == ()


PACKAGES: Final = ("appraisal", "bootstate", "ima", "lineage")
MODULES: Final = ("reference/match.py", "reference/bootmatch.py", "reference/imafindings.py")
STATES: Final = (
    *("secure-boot.off", "secure-boot.unknown", "deployed-mode.off", "setup-mode.on"),
    *("setup-mode.unknown", "audit-mode.on", "debug-mode.on", "dma-protection.on"),
    *("shim-validation.off", "option-rom.unknown", "exit-boot-services.missing"),
)
"""What policy findings speak of; the code puts their ids together."""


def ids() -> Iterator[str]:
    """Yield the id of every finding that a decision can have, as far as its text is fixed."""
    files = [path for name in PACKAGES for path in (SOURCE / name).rglob("*.py")]
    for path in (*files, *(SOURCE / name for name in MODULES)):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Finding"
                and node.args
            ):
                yield from _text(node.args[0])


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values]
        yield "".join(parts)


def whole(name: str) -> bool:
    """Tell whether the beginning of an id is fixed in the source."""
    return not name.startswith(("0", "policy.0"))


@pytest.mark.parametrize(
    "name", sorted({*filter(whole, ids()), *(f"policy.{state}" for state in STATES)})
)
def test_every_finding_has_an_answer(name: str) -> None:
    """Whatever refuses, something is said that helps."""
    number = re.match(r"eventlog\.pcr(\d+)", name)
    finding = Finding(name, "Something is wrong.", pcr=8 if number else None)
    if name.startswith("reference.") and not remedies_of([finding]).remedies:
        finding = replace(finding, pcr=7)
    assert remedies_of([finding]).remedies, name


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("ima.list.missing", "ima_policy"),
        ("ima.nothing-measured", "ima_policy"),
        ("ima.sha1-padding", "5.8"),
        ("ima.bank-unsupported", "quote.banks"),
        ("ima.list.unasked", "agent"),
        ("ima.file.algorithm-mismatch", "ima_hash"),
        ("ima.boot-aggregate.unquoted", "0 to 9"),
        ("ima.replay-mismatch", "was changed"),
        ("ima.file.unlisted", "installed"),
    ],
)
def test_a_node_that_is_set_up_wrong_is_not_told_of_an_attack(name: str, word: str) -> None:
    """Each kind of IMA finding has the remedy of its likeliest cause."""
    (remedy,) = remedies_of([Finding(name, "Something is wrong.")]).remedies
    assert word in remedy


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((4,), "4"), ((0, 1, 2, 3), "0-3"), ((0, 2, 3, 14), "0,2-3,14")],
)
def test_numbers_are_written_as_ranges(numbers: tuple[int, ...], text: str) -> None:
    """PCRs are written as the options of the command line read them."""
    assert ranges(frozenset(numbers)) == text


def test_remedies_name_commands_that_there_are() -> None:
    """Whoever is told to type something can type it: group, command and options."""
    commands = [
        quoted
        for remedy in REMEDIES.values()
        for quoted in re.findall(r"`bootlease ([^`]+)`", remedy)
    ]
    assert {each.split()[1] for each in commands} >= {"readmit", "replace", "node"}
    for each in commands:
        group: click.Command = bootlease_command
        words = each.split()
        while words and isinstance(group, click.Group):
            found = group.get_command(click.Context(group), words.pop(0))
            assert found is not None, each
            group = found
        options = {name for option in group.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= options, each


@pytest.mark.parametrize(
    ("finding", "command"),
    [
        ("clock.reset-count.rollback", "bootlease verifier readmit"),
        ("clock.backwards", "bootlease revoke node"),
        ("node.revoked", "bootlease verifier readmit"),
        ("enrolment.join-token.missing", "bootlease verifier replace"),
    ],
)
def test_what_only_an_operator_mends_says_by_which_act(finding: str, command: str) -> None:
    """A TPM that was cleared, a node that was revoked, a machine with another mainboard."""
    (remedy,) = remedies_of([Finding(finding, "No.")]).remedies
    assert f"`{command} " in remedy
