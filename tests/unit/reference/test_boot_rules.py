"""Boot rules of a reference set: their forms, and what they refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.bootstate import AttestedLog
from bootlease.errors import MalformedError, VerificationError
from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.model import Finding, HashAlg
from bootlease.reference import (
    DEFAULT_PCRS,
    EventsReference,
    ReferenceSet,
    ValueReference,
    appraise_reference,
    diff,
    learn,
    parse_reference,
    serialise_reference,
)
from bootlease.reference.bootfacts import BootFacts
from bootlease.reference.bootfile import parse_boot_rules
from bootlease.reference.bootrules import BootRules, CommandLineRule, KeyRule, token_pattern
from bootlease.reference.canonical import parse_canonical_reference
from bootlease.testing import efi
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description, uki_description

BANK = HashAlg.SHA256
PCRS = (*range(10), 11, 12, 14)
KEY, OTHER = b"\x01" * 32, b"\x02" * 32
RULES = BootRules(
    secure_boot=True,
    pk=KeyRule(required=frozenset({KEY})),
    kek=KeyRule(allowed=frozenset()),
    db=KeyRule(frozenset({KEY}), frozenset({OTHER})),
    dbx=frozenset({KEY, OTHER}),
    sbat={"shim": 4, "grub": 5},
    command_line=CommandLineRule(("ro", "root=*"), ("quiet",), ("init",), ("root=/dev/vda1 ro",)),
)


def a_set(rules: BootRules | None, **changes: Any) -> ReferenceSet:
    """Return a set with rules and one PCR."""
    members = {"name": "golden", "version": "1", "bank": BANK, "boot": rules, **changes}
    return ReferenceSet(**{"pcrs": {0: ValueReference((bytes(32),))}, **members})


def learned(boot: SimulatedBoot, **how: Any) -> ReferenceSet:
    """Learn a set from a boot."""
    how = {"pcrs": PCRS, **how}
    log = replay(parse_event_log(boot.event_log))
    return learn(log, None, name="golden", version="1", bank=BANK, **how)


def findings(boot: SimulatedBoot, *references: ReferenceSet, pcrs: Any = PCRS) -> list[Finding]:
    """Compare a boot with sets."""
    log = replay(parse_event_log(boot.event_log))
    quoted = {BANK: {pcr: log.pcrs[BANK].get(pcr, bytes(32)) for pcr in pcrs}}
    return list(appraise_reference(log, quoted, references, {BANK: tuple(pcrs)}, now=5).findings)


def broken(boot: SimulatedBoot, rules: BootRules, pcrs: Any = PCRS) -> list[str]:
    """Return the ids of the rules that a boot breaks, its PCRs being what the set wants."""
    reference = dataclasses.replace(learned(boot, boot_rules=False, pcrs=pcrs), boot=rules)
    return [finding.id for finding in findings(boot, reference, pcrs=pcrs)]


def machine(**secure_boot: object) -> SimulatedBoot:
    """Return the GRUB machine with its Secure Boot changed."""
    description = grub_description()
    changed = dataclasses.replace(description.secure_boot, **secure_boot)  # type: ignore[arg-type]
    return simulate_boot(dataclasses.replace(description, secure_boot=changed))


def commanded(line: str) -> SimulatedBoot:
    """Return the GRUB machine with another kernel command line."""
    return simulate_boot(dataclasses.replace(grub_description(), command_line=line))


def more(boot: SimulatedBoot, pcr: int, kind: EventType, data: bytes) -> SimulatedBoot:
    """Return a boot that measures one event more at its end."""
    event = EventRecord(pcr, kind, {BANK: BANK.digest(data)}, data)
    return boot_of_events([*boot.events, event], (BANK,))


# --- forms


def test_rules_survive_both_forms() -> None:
    """A file and the canonical form give the same set, digest and all."""
    reference = a_set(RULES, not_before=1)
    assert parse_reference(serialise_reference(reference)) == reference
    assert parse_canonical_reference(reference.encode()) == reference
    again = parse_canonical_reference(parse_reference(serialise_reference(reference)).encode())
    assert again.digest == reference.digest
    assert again.boot == RULES


def test_every_rule_is_in_the_digest() -> None:
    """Two sets of one digest have the same rules."""
    digests = {a_set(None).digest, a_set(RULES).digest}
    for name, other in (
        ("secure_boot", None),
        ("pk", None),
        ("kek", KeyRule(frozenset(), frozenset({KEY}))),
        ("db", None),
        ("dbx", frozenset({KEY})),
        ("sbat", {"shim": 3, "grub": 5}),
        ("command_line", CommandLineRule(("ro",))),
    ):
        change: dict[str, Any] = {name: other}
        digests.add(a_set(dataclasses.replace(RULES, **change)).digest)
    assert len(digests) == 9


def test_a_set_without_rules_has_no_member_for_them() -> None:
    """Absent is one thing, in both forms."""
    assert "boot" not in json.loads(serialise_reference(a_set(None)))
    assert "boot" not in cbor.decode(a_set(None).encode(), max_bytes=10_000)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        {"secure_boot": True},
        {"secure_boot": "maybe"},
        {"secure_boot": ["on"]},
        {"pk": {}},
        {"pk": {"required": []}},
        {"pk": {"required": ["ab"]}},
        {"pk": {"required": ["ab" * 32, "ab" * 32]}},
        {"pk": {"allowed": []}},
        {"db": {"required": [], "allowed": None}},
        {"db": {"required": [], "forbidden": []}},
        {"dbx": {"required": []}},
        {"dbx": {"required": ["AB" * 32]}},
        {"dbx": {"required": ["ab" * 32], "allowed": []}},
        {"sbat": {}},
        {"sbat": {"shim": "4"}},
        {"sbat": {"shim": True}},
        {"sbat": {"shim": 0}},
        {"sbat": {"sh im": 1}},
        {"command_line": {"required": [], "forbidden": [], "known": []}},
        {"command_line": {"required": ["ro"], "forbidden": []}},
        {"command_line": {"required": ["ro", "ro"], "forbidden": [], "known": []}},
        {"command_line": {"required": [""], "forbidden": [], "known": []}},
        {"command_line": {"required": ["=x"], "forbidden": [], "known": []}},
        {"command_line": {"required": [1], "forbidden": [], "known": []}},
        {"command_line": {"required": ["ro"], "forbidden": [], "known": ["a\u0000"]}},
        {"command_line": {"required": ["ro"], "forbidden": [], "known": ["a", "a"]}},
        {"unknown": 1},
    ],
)
def test_what_is_no_rule_is_malformed(value: object) -> None:
    """A typo never widens what is accepted."""
    file = json.loads(serialise_reference(a_set(RULES)))
    file["boot"] = value
    with pytest.raises(MalformedError):
        parse_reference(json.dumps(file).encode())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("dbx", {"required": [OTHER, KEY]}),
        ("pk", {"required": [KEY[:31]]}),
        ("pk", {"required": ["ab" * 32]}),
        ("sbat", {"shim": 4, "grub": -1}),
        ("command_line", {"required": ["z", "a"], "forbidden": [], "known": []}),
    ],
)
def test_another_canonical_form_is_malformed(member: str, value: object) -> None:
    """One set has one encoding."""
    members = cbor.decode(a_set(RULES).encode(), max_bytes=10_000)
    members["boot"] = {**members["boot"], member: value}
    with pytest.raises(MalformedError):
        parse_canonical_reference(cbor.encode(members))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=33),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["secure_boot", "pk", "db", "dbx", "sbat", "command_line", "x"]), _values
    )
)
def test_rules_parse_or_are_malformed(value: dict[str, object]) -> None:
    """Whatever is decoded parses, or raises the one error."""

    def read(digest: object) -> bytes:
        if not isinstance(digest, bytes):
            raise MalformedError("no digest")
        return digest

    with contextlib.suppress(MalformedError):
        assert parse_boot_rules(value, read).wire()


def test_a_rule_that_says_nothing_is_none() -> None:
    """An empty rule would look like a demand and make none."""
    with pytest.raises(ValueError, match="say nothing"):
        BootRules()
    with pytest.raises(ValueError, match="no rule"):
        KeyRule()
    with pytest.raises(ValueError, match="no rule"):
        CommandLineRule()


def test_differences_name_the_rule() -> None:
    """An operator sees which key, image or parameter a new set brings."""
    other = dataclasses.replace(
        RULES,
        dbx=frozenset({KEY}),
        pk=None,
        command_line=CommandLineRule(("ro",), ("quiet", "splash"), ("init",)),
    )
    said = [str(each) for each in diff(a_set(RULES), a_set(other))]
    assert "- boot rule pk.required" in said
    assert f"- boot rule dbx.required: {OTHER.hex()[:16]}…" in said
    assert "+ boot rule command_line.allowed: splash" in said
    assert "- boot rule command_line.required: root=*" in said
    assert diff(a_set(RULES), a_set(RULES)) == ()
    assert all(str(each).startswith("+ boot rule") for each in diff(a_set(None), a_set(RULES)))


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "word", "matches"),
    [
        ("ro", "ro", True),
        ("ro", "rootwait", False),
        ("ro", "ro=1", False),
        ("root=*", "root=/dev/vda1", True),
        ("root=*", "root", False),
        ("root=*", "root=", True),
        ("root=UUID=*", "root=UUID=1-2", True),
        ("root=UUID=*", "root=/dev/vda1", False),
        ("module.sig-enforce=1", "module.sig_enforce=1", True),
        ("module.sig_enforce=1", "module.sig-enforce=1", True),
        ("a=b-c", "a=b_c", False),
        ("rd.*", "rd.break", True),
        ("a=*b*c", "a=xbyc", True),
        ("a=*b*c", "a=xcyb", False),
        ("a=b*b", "a=b", False),
        ("*=*", "a=b", True),
    ],
)
def test_patterns_are_for_parameters(pattern: str, word: str, matches: bool) -> None:  # noqa: FBT001 - a table
    """Names as the kernel compares them, values as they are."""
    name, equals, value = word.partition("=")
    found = token_pattern(pattern).matches(name.replace("-", "_"), value if equals else None)
    assert found is matches


def test_a_pattern_costs_no_more_than_its_text() -> None:
    """Stars do not multiply: a command line of an untrusted log is matched in linear time."""
    pattern = token_pattern("a=" + "*a" * 250)
    assert not pattern.matches("a", "a" * 200_000 + "b")


# --- what rules refuse


def test_a_learned_set_matches_its_boot_and_no_other() -> None:
    """Rules that were learned hold for the golden node."""
    for description in (grub_description(), uki_description()):
        boot = simulate_boot(description)
        assert findings(boot, learned(boot)) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_secure_boot_must_have_its_state(wanted: bool) -> None:  # noqa: FBT001 - a state
    """Either way round, and never unknown (D5)."""
    rules = BootRules(secure_boot=wanted)
    assert broken(machine(), rules) == ([] if wanted else ["reference.boot.secure-boot"])
    assert broken(machine(enabled=False), rules) == (
        ["reference.boot.secure-boot"] if wanted else []
    )
    assert broken(machine(), rules, pcrs=(0, 4)) == ["reference.boot.secure-boot"]


def test_a_key_that_is_required_must_be_there() -> None:
    """A database without the operator's key is another one."""
    rule = learned(machine()).boot
    assert rule is not None
    assert rule.db is not None
    required = BootRules(db=KeyRule(required=rule.db.allowed or frozenset()))
    assert broken(machine(), required) == []
    assert broken(machine(db=()), required) == ["reference.boot.db-lacks"] * 2
    assert broken(machine(), required, pcrs=(0, 4)) == ["reference.boot.db-unknown"]


@pytest.mark.parametrize(("name", "value"), [("pk", "Evil"), ("kek", ("Evil",)), ("db", ("Evil",))])
def test_a_key_that_is_not_allowed_refuses(name: str, value: object) -> None:
    """Whoever enrols a key of his own starts what he likes; the finding names it."""
    boot = machine(**{name: value})
    reference = dataclasses.replace(learned(boot, boot_rules=False), boot=learned(machine()).boot)
    found = [each for each in findings(boot, reference) if "not-allowed" in each.id]
    assert [each.id for each in found] == [f"reference.boot.{name}-not-allowed"]
    assert "CN=Evil" in found[0].message
    assert found[0].pcr == 7
    assert found[0].event is not None


def test_an_old_dbx_refuses() -> None:
    """D9: a machine that does not revoke what the reference wants revoked starts it."""
    new = machine(dbx=("a revoked boot loader", "BlackLotus"))
    rules = BootRules(dbx=(learned(new).boot or RULES).dbx)
    assert broken(new, rules) == []
    assert broken(machine(), rules) == ["reference.boot.dbx-old"]
    assert broken(machine(dbx=("a revoked boot loader", "BlackLotus", "more")), rules) == []


def test_an_old_revocation_list_of_shim_refuses() -> None:
    """D9: generations only grow; a component that is missing is as old as can be."""
    assert broken(machine(), BootRules(sbat={"shim": 4, "grub": 5})) == []
    assert broken(machine(), BootRules(sbat={"grub": 3})) == []
    assert broken(machine(), BootRules(sbat={"grub": 6})) == ["reference.boot.sbat-old"]
    assert broken(machine(), BootRules(sbat={"fwupd": 1})) == ["reference.boot.sbat-old"]
    uki = simulate_boot(uki_description())
    assert broken(uki, BootRules(sbat={"grub": 1})) == ["reference.boot.sbat-unknown"]


def test_a_second_revocation_list_proves_nothing() -> None:
    """Whoever runs later has a newer list measured, but cannot undo shim's own."""
    data = efi.variable_data(efi.SHIM_LOCK, "SbatLevel", b"sbat,1,2030010100\ngrub,9\n")
    boot = more(machine(), 7, EventType.EV_EFI_VARIABLE_AUTHORITY, data)
    assert broken(boot, BootRules(sbat={"grub": 9})) == ["reference.boot.sbat-unknown"]


LINE = "root=/dev/vda1 ro quiet lockdown=integrity"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (CommandLineRule(("ro", "root=/dev/*")), []),
        (CommandLineRule(("lockdown=confidentiality",)), ["lacks", "contradicts"]),
        (CommandLineRule(("ima_policy=tcb",)), ["lacks"]),
        (CommandLineRule((), ("root=*", "ro", "quiet", "lockdown=*")), []),
        (CommandLineRule((), ("root=*", "ro", "quiet")), ["not-allowed"]),
        (CommandLineRule(("lockdown=integrity",), ("root=*", "ro", "quiet")), []),
        (CommandLineRule((), None, ("init", "rd.break")), []),
        (CommandLineRule((), None, ("lockdown",)), ["forbidden"]),
        (CommandLineRule((), None, ("lockdown=none",)), []),
        # Forbidden wins over required and allowed.
        (CommandLineRule(("quiet",), ("*", "*=*"), ("quiet",)), ["forbidden"]),
    ],
)
def test_command_line_rules(rule: CommandLineRule, expected: list[str]) -> None:
    """D17: each kind of rule refuses alone."""
    found = broken(commanded(LINE), BootRules(command_line=rule))
    assert found == [f"reference.boot.command-line-{what}" for what in expected]


@pytest.mark.parametrize(
    ("appended", "what"),
    [
        ("init=/bin/sh", "forbidden"),
        ('"init=/bin/sh"', "forbidden"),
        ('init="/bin/sh"', "forbidden"),
        ("-- init=/bin/sh", "forbidden"),
        # One harmless parameter to the kernel, an order to a shell script in the initrd.
        ('x="a init=/bin/sh b"', "forbidden"),
        ("module.sig-enforce=0", "forbidden"),
        ("ima=off", "not-allowed"),
        ("rd.break=pre-mount", "not-allowed"),
        ("lockdown=none", "contradicts"),
        ("root=/dev/vdb", "contradicts"),
    ],
)
def test_an_injected_parameter_is_named(appended: str, what: str) -> None:
    """D17: however it is quoted, whoever reads it, and if the one before was good."""
    rule = CommandLineRule(
        ("root=/dev/vda1", "lockdown=integrity"),
        ("ro", "quiet", "x=*"),
        ("init", "module.sig_enforce"),
    )
    assert broken(commanded(LINE), BootRules(command_line=rule)) == []
    boot = commanded(f"{LINE} {appended}")
    found = broken(boot, BootRules(command_line=rule))
    assert f"reference.boot.command-line-{what}" in found


def test_no_label_of_a_string_of_grub_hides_its_first_word() -> None:
    """D16: the label is nobody's word, and only an image's path is no parameter."""
    log = replay(parse_event_log(machine().event_log))
    reference = learn(log, None, name="g", version="1", bank=BANK, pcrs=PCRS, match_events=(8,))
    rule = CommandLineRule((), (*LINE.split(), "root=*"), ("init",))
    reference = dataclasses.replace(reference, boot=BootRules(command_line=rule))
    assert findings(machine(), reference) == []
    for text, expected in (
        (b"set root=(hd1,gpt1)", "reference.boot.command-line-not-allowed"),
        (b"init=/bin/sh ro", "reference.boot.command-line-forbidden"),
    ):
        for label in (b"kernel_cmdline: ", b"module_cmdline: "):
            event = EventRecord(
                8, EventType.EV_IPL, {BANK: BANK.digest(text)}, label + text + b"\0"
            )
            boot = boot_of_events([*machine().events, event], (BANK,))
            assert [finding.id for finding in findings(boot, reference)] == [expected]


def test_a_boot_without_a_command_line_keeps_no_rule_about_it() -> None:
    """Unknown refuses: a loader that measures nothing is not one that passes nothing."""
    events = [event for event in machine().events if event.pcr not in {8, 9}]
    rules = BootRules(command_line=CommandLineRule((), None, ("init",)))
    assert broken(boot_of_events(events, (BANK,)), rules) == ["reference.boot.command-line-unknown"]


def test_every_pcr_that_may_hold_a_command_line_must_be_quoted() -> None:
    """A4: in a PCR that nobody looks at, a line could be measured unseen."""
    rules = BootRules(command_line=CommandLineRule(("ro",)))
    found = broken(machine(), rules, pcrs=DEFAULT_PCRS)
    assert found == ["reference.boot.command-line-unattested"] * 2


def test_a_string_that_the_log_does_not_prove_may_be_anything() -> None:
    """D16: a command line under another name, or with other text, is no excuse."""
    events = list(machine().events)
    (at,) = [n for n, event in enumerate(events) if event.data.startswith(b"kernel_cmdline")]
    events[at] = dataclasses.replace(events[at], data=b"kernel_cmdline: /vmlinuz ro\0")
    rules = BootRules(command_line=CommandLineRule(("ro",)))
    found = broken(boot_of_events(events, (BANK,)), rules)
    assert "reference.boot.command-line-unread" in found


def test_a_digest_of_a_command_line_is_recognised_only_if_it_is_known() -> None:
    """A unified kernel image measures a digest: the set gives the text, which keeps the rule."""
    boot = simulate_boot(uki_description())
    text = uki_description().command_line
    rule = CommandLineRule(("lockdown=confidentiality",), None, (), (text,))
    assert broken(boot, BootRules(command_line=rule)) == []
    unknown = dataclasses.replace(rule, known=("something else",))
    assert set(broken(boot, BootRules(command_line=unknown))) == {
        "reference.boot.command-line-unread"
    }
    harmful = dataclasses.replace(rule, forbidden=("root",))
    assert broken(boot, BootRules(command_line=harmful)) == [
        "reference.boot.command-line-forbidden"
    ]


# --- learning, and PCRs matched by events


def test_what_is_learned_can_only_become_stricter() -> None:
    """State, keys, revocations and generations of the golden node."""
    rules = learned(machine()).boot
    assert rules is not None
    assert rules.secure_boot is True
    assert [len(rule.allowed or ()) for rule in (rules.pk, rules.kek, rules.db) if rule] == [
        1,
        1,
        2,
    ]
    assert len(rules.dbx) == 2
    assert rules.sbat == {"grub": 5, "shim": 4}
    assert rules.command_line is None
    assert learned(machine(), boot_rules=False).boot is None
    assert learned(machine(), pcrs=(0, 4)).boot is None


def test_a_command_line_is_learned_on_demand() -> None:
    """Every parameter is required, and no other is allowed."""
    rules = learned(commanded(LINE), command_line=True).boot
    assert rules is not None
    assert rules.command_line is not None
    assert set(rules.command_line.required) == set(LINE.split())
    assert rules.command_line.allowed == ()
    assert broken(commanded(LINE), rules) == []
    assert "reference.boot.command-line-not-allowed" in broken(commanded(f"{LINE} debug"), rules)


def test_a_command_line_that_is_not_proven_is_not_learned() -> None:
    """A rule of a guess would be untrue; the text may be given."""
    boot = simulate_boot(uki_description())
    with pytest.raises(VerificationError, match="/proc/cmdline"):
        learned(boot, command_line=True)
    text = uki_description().command_line
    rules = learned(boot, command_line=True, known_command_lines=(text,)).boot
    assert rules is not None
    assert rules.command_line is not None
    assert set(rules.command_line.required) == set(text.split())
    with pytest.raises(ValueError, match="it lacks 11, 12"):
        learned(commanded(LINE), command_line=True, pcrs=DEFAULT_PCRS)


def test_nothing_is_learned_of_a_log_that_contradicts_itself() -> None:
    """Such a set could not match, or would bless what somebody wrote."""
    data = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\x01")
    with pytest.raises(VerificationError, match="contradicts itself"):
        learned(more(machine(), 7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, data))


def test_events_that_rules_judge_need_not_be_known() -> None:
    """A dbx that grew changes PCR 7, and the rule on dbx says all there is to say of it."""
    golden = learned(machine(), match_events=(7,))
    constraint = golden.pcrs[7]
    assert isinstance(constraint, EventsReference)
    grown = machine(dbx=("a revoked boot loader", "another revoked boot loader", "BlackLotus"))
    assert findings(machine(), golden) == []
    assert findings(grown, golden) == []
    shrunk = machine(dbx=("a revoked boot loader",))
    assert [each.id for each in findings(shrunk, golden)] == ["reference.boot.dbx-old"]
    by_value = learned(machine())
    assert "eventlog.pcr7.unknown-secure-boot-variable" in [
        each.id for each in findings(grown, by_value)
    ]


def test_events_that_no_rule_judges_must_be_known() -> None:
    """A rule excuses its own events, no others."""
    golden = learned(machine(), match_events=(7,))
    boot = more(machine(), 7, EventType.EV_EFI_ACTION, b"something new")
    assert [each.id for each in findings(boot, golden)] == ["eventlog.pcr7.unknown-action"]
    only_pk = dataclasses.replace(golden, boot=BootRules(pk=(golden.boot or RULES).pk))
    found = [each.id for each in findings(machine(), only_pk)]
    assert "eventlog.pcr7.unknown-secure-boot-variable" in found


def test_a_revocation_list_of_shim_must_be_known() -> None:
    """Where no loader measures one, root can add one after boot: the rule on it excuses nothing."""
    boot = simulate_boot(uki_description())
    golden = learned(boot, match_events=(7,))
    rules = dataclasses.replace(golden.boot or RULES, sbat={"grub": 9})
    demanding = dataclasses.replace(golden, boot=rules)
    data = efi.variable_data(efi.SHIM_LOCK, "SbatLevel", b"sbat,1,2030010100\ngrub,9\n")
    added = more(boot, 7, EventType.EV_EFI_VARIABLE_AUTHORITY, data)
    assert broken(added, rules) == []
    assert [each.id for each in findings(added, demanding)] == [
        "eventlog.pcr7.unknown-secure-boot-authority"
    ]


def test_an_update_overlaps() -> None:
    """Old and new set live at once: a node that updates and one that has not are both accepted."""
    before, after = machine(), machine(dbx=("a revoked boot loader", "another", "BlackLotus"))
    old = dataclasses.replace(learned(before), not_after=10)
    new = dataclasses.replace(learned(after), version="2", not_before=3)
    for boot in (before, after):
        assert findings(boot, old, new) == []
    assert [each.id for each in findings(before, new)] != []
    other = machine(enabled=False)
    assert [each.id for each in findings(other, old, new)] != []


def test_an_update_ends() -> None:
    """Once the old set has expired, only the new one counts, and the refusal says so."""
    before = machine()
    old = dataclasses.replace(learned(before), not_after=4)
    assert [each.id for each in findings(before, old)] == ["reference.not-valid"]


def test_a_reading_is_remembered_for_the_very_same_events_only() -> None:
    """D1: a log whose digests are those of a good one, but not its data, is read for itself."""
    events = list(machine().events)
    (at,) = [n for n, event in enumerate(events) if b"d\0b\0x\0" in event.data]
    body = events[at].data
    events[at] = dataclasses.replace(events[at], data=body[:-1] + bytes([body[-1] ^ 1]))
    logs = [replay(parse_event_log(boot.event_log)) for boot in (machine(), machine())]
    altered = replay(parse_event_log(boot_of_events(events, (BANK,)).event_log))
    first, second, third = [
        BootFacts(AttestedLog.of(log, BANK, PCRS)).secure_boot for log in (*logs, altered)
    ]
    assert first is second
    assert first.dbx is not None
    assert third.dbx is None
    assert [finding.id for finding in third.findings] == ["boot.event.data-mismatch"]
    unseen = BootFacts(AttestedLog.of(logs[0], BANK, (0,))).secure_boot
    assert unseen.dbx is None
