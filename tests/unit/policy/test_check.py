"""``policy check``: what contradicts itself, never matches, has expired, or is used by nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bootlease.eventlog import parse_event_log, replay
from bootlease.model import Effect, HashAlg
from bootlease.policy import Policy, check_policy, parse_policy
from bootlease.reference import (
    DEFAULT_PCRS,
    AnyReference,
    EventsReference,
    IMAReferenceSet,
    KnownEvent,
    ReferenceSet,
    ValueReference,
    learn,
)
from bootlease.reference.bootrules import BootRules, CommandLineRule, KeyRule
from bootlease.reference.imaset import Origin, parse_file_digest
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description, policy_text
from bootlease.testing.scene import POLICY, REFERENCE

NOW = 1000
KEY = b"\x01" * 32
PCRS = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]"
IMA = """[ima]
appraise = "required"
accept = ["files"]
unlisted = "refuse"
violations = "refuse"
signatures = "ignored"
"""


def a_policy(*changes: tuple[str, str]) -> Policy:
    """Parse the scene's policy with texts replaced, each of which it must have."""
    text = POLICY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text)


def with_ima(*changes: tuple[str, str]) -> Policy:
    """Parse a policy that appraises IMA."""
    return a_policy(('[ima]\nappraise = "off"\n', IMA), (PCRS, PCRS[:-1] + ", 10]"), *changes)


def golden(**changes: Any) -> ReferenceSet:
    """Return a set that the scene's policy accepts and its node matches."""
    log = replay(parse_event_log(simulate_boot(grub_description()).event_log))
    learned = learn(log, None, name=REFERENCE, version="1", bank=HashAlg.SHA256, pcrs=DEFAULT_PCRS)
    return dataclasses.replace(learned, **changes)


def files(**changes: Any) -> IMAReferenceSet:
    """Return an IMA set."""
    listed = {b"/bin/sh": (parse_file_digest(f"sha256:{'ab' * 32}"),)}
    made = IMAReferenceSet(name="files", version="1", origin=Origin.BUILT, files=listed)
    return dataclasses.replace(made, **changes)


def found(policy: Policy, *references: AnyReference) -> set[str]:
    """Return the ids of what is wrong, without what all have in common."""
    return {
        finding.id.removeprefix("policy.check.")
        for finding in check_policy(policy, references or None, now=NOW)
    }


def command_line(*patterns: tuple[str, ...]) -> ReferenceSet:
    """Return a set with a rule on command lines."""
    return golden(boot=BootRules(command_line=CommandLineRule(*patterns)))


def test_a_sound_policy_has_nothing_wrong() -> None:
    """With its sets and without."""
    assert found(a_policy()) == set()
    assert found(a_policy(), golden()) == set()
    assert found(parse_policy(policy_text()), golden()) == set()
    assert found(with_ima(), golden(), files()) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((PCRS, PCRS[:-1] + ", 10]"), "pcr10-without-ima"),
        (
            ('deployed_mode = "not-required"', 'deployed_mode = "required"'),
            "deployed-without-secure-boot",
        ),
    ],
)
def test_what_a_policy_shows_by_itself(change: tuple[str, str], expected: str) -> None:
    """No set is needed to see it."""
    assert found(a_policy(change)) == {expected}


def test_an_ek_needs_one_list() -> None:
    """One that needs no certificate needs no allowlist."""
    ek = f'["{"ab" * 32}"]'
    policy = a_policy(
        ('"any-endorsed"', '"allowlist"'),
        ("allow_ek = []", f"allow_ek = {ek}"),
        ("unsafe_unendorsed_ek = []", f"unsafe_unendorsed_ek = {ek}"),
    )
    assert found(policy) == {"ek-twice"}


def test_names_and_validity() -> None:
    """A name without a set, a set without a name, and sets that do not count now."""
    assert found(a_policy(), golden(name="other")) == {"reference-missing", "reference-unused"}
    assert found(a_policy(), golden(not_after=NOW - 1)) == {
        "reference-expired",
        "reference-none-valid",
    }
    later = golden(version="2", not_before=NOW + 1)
    assert found(a_policy(), later) == {"reference-none-valid"}
    assert found(a_policy(), golden(not_after=NOW), later) == set()
    assert found(a_policy(), golden(not_after=NOW - 1), golden(version="2")) == {
        "reference-expired"
    }
    assert found(a_policy(), golden(), golden(not_before=1)) == {"reference-twice"}


def test_a_set_of_another_kind_is_no_set() -> None:
    """Files are not a boot, and the other way round."""
    assert found(a_policy(), golden(), files(name="x")) == {"reference-unused"}
    assert found(a_policy(), files(name=REFERENCE)) == {"reference-kind"}
    swapped = with_ima(('accept = ["files"]', f'accept = ["{REFERENCE}"]'))
    assert found(swapped, golden()) == {"reference-kind"}


def test_sets_that_can_never_match() -> None:
    """A bank or PCR that policy demands and the set lacks, or that only the set has."""
    few = {pcr: each for pcr, each in golden().pcrs.items() if pcr != 9}
    assert found(a_policy(), golden(pcrs=few)) == {"pcr-absent"}
    more = {**golden().pcrs, 23: ValueReference((bytes(32),))}
    assert found(a_policy(), golden(pcrs=more)) == {"pcr-unused"}
    wider = golden(
        bank=HashAlg.SHA384,
        pcrs={0: ValueReference((bytes(48),))},
        boot=BootRules(dbx=frozenset({KEY})),
    )
    assert found(a_policy(), wider) == {"bank-differs"}
    assert found(a_policy((PCRS, "[0, 4]")), golden()) == {"pcr-unused", "secure-boot-unquoted"}


def test_secure_boot_that_is_demanded_both_ways() -> None:
    """The policy wants it on, the set off."""
    off = golden(boot=BootRules(secure_boot=False))
    required = a_policy(('secure_boot = "not-required"', 'secure_boot = "required"'))
    assert found(required, off) == {"secure-boot-off"}
    assert found(a_policy(), off) == set()
    assert found(required, golden()) == set()


def test_a_key_that_is_required_and_revoked() -> None:
    """No machine has both."""
    rules = BootRules(db=KeyRule(required=frozenset({KEY})), dbx=frozenset({KEY}))
    assert found(a_policy(), golden(boot=rules)) == {"key-revoked"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((("ro",), None, ("ro",)), {"token-contradiction"}),
        ((("root=*",), None, ("root",)), {"token-contradiction"}),
        ((("module.sig-enforce=1",), None, ("module.sig_enforce",)), {"token-contradiction"}),
        ((("console=tty*",), None, ("console=*",)), {"token-contradiction"}),
        ((("console=*",), None, ("console=tty*",)), set()),
        ((("ro",), ("quiet",), ("quiet",)), {"token-unused"}),
        ((("ro",), ("ro",)), {"token-unused"}),
        ((("ro",), ("quiet",), ("init",)), set()),
    ],
)
def test_command_line_rules_that_contradict_each_other(
    patterns: tuple[tuple[str, ...], ...], expected: set[str]
) -> None:
    """Forbidden wins, so what is required and forbidden is never there."""
    policy = a_policy((PCRS, PCRS[:-1] + ", 11, 12]"))
    zeros = {pcr: ValueReference((bytes(32),)) for pcr in (11, 12)}
    reference = command_line(*patterns)
    reference = dataclasses.replace(reference, pcrs={**reference.pcrs, **zeros})
    assert found(policy, reference) == expected


def test_command_line_rules_need_their_pcrs() -> None:
    """In PCR 11 and 12 a line could be measured unseen."""
    assert found(a_policy(), command_line(("ro",))) == {"command-line-unquoted"}


def test_dynamic_launch() -> None:
    """D20: by value only, and not by the value that every machine has which launched nothing."""
    policy = a_policy((PCRS, PCRS[:-1] + ", 17]"))
    pcrs = golden().pcrs
    event = KnownEvent(1, bytes(32), "a launch", required=True)
    launched = golden(pcrs={**pcrs, 17: ValueReference((bytes(32),))})
    by_events = golden(pcrs={**pcrs, 17: EventsReference((event,))})
    idle = golden(pcrs={**pcrs, 17: ValueReference((b"\xff" * 32,))})
    assert found(policy, launched) == set()
    assert found(policy, by_events) == {"dynamic-by-events"}
    assert found(policy, idle) == {"dynamic-not-launched"}


def test_signers_that_count_for_nothing_or_are_not_there() -> None:
    """Signatures that count need somebody whose signature counts."""
    assert found(with_ima(('"ignored"', '"required"')), golden(), files()) == {"signers-missing"}


def test_what_refuses_boots_is_told_from_what_does_nothing() -> None:
    """An operator mends the first before he activates, and the second when he likes."""
    effects = {
        finding.id: finding.effect
        for finding in check_policy(
            a_policy(), [golden(not_after=1), golden(name="other")], now=NOW
        )
    }
    assert effects["policy.check.reference-expired"] is Effect.REFUSES
    assert effects["policy.check.reference-unused"] is Effect.NOTES
