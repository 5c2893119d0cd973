"""[boot] and [ima]: what a rule needs must be quoted, and what says nothing is not said."""

from __future__ import annotations

import pytest

from bootlease.errors import MalformedError
from bootlease.model import Effect, HashAlg
from bootlease.policy import IMASignatures, Mode, Policy, parse_policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.testing.scene import POLICY

IMA = """[ima]
appraise = "required"
accept = ["debian-12", "agent"]
unlisted = "refuse"
violations = "note"
signatures = "sufficient"
"""


def read(*changes: tuple[str, str]) -> Policy:
    """Parse the scene's policy with texts replaced, each of which it must have."""
    text = POLICY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text)


def with_ima(*changes: tuple[str, str]) -> Policy:
    """Parse a policy that appraises IMA."""
    ima = ('[ima]\nappraise = "off"\n', IMA)
    pcrs = ("pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]", "pcrs = [0, 4, 7, 10]")
    return read(ima, pcrs, *changes)


@pytest.mark.parametrize(
    ("key", "value", "pcr"),
    [
        ("secure_boot", "required", 7),
        ("deployed_mode", "required", 7),
        ("exit_boot_services", "required", 5),
        ("option_roms", "refuse", 2),
        ("unsafe_setup_mode", "refuse", 7),
        ("unsafe_test_keys", "refuse", 7),
        ("unsafe_debug_mode", "refuse", 7),
        ("unsafe_dma", "refuse", 7),
        ("unsafe_shim_validation", "refuse", 7),
        ("unsafe_shim_validation", "refuse", 14),
    ],
)
def test_a_rule_needs_the_pcr_that_proves_it(key: str, value: str, pcr: int) -> None:
    """A4: a demand about a PCR that nobody quotes is a wish."""
    lax = "not-required" if value == "required" else "note"
    rule = (f'{key} = "{lax}"', f'{key} = "{value}"')
    assert read(rule)
    left = [each for each in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14) if each != pcr]
    pcrs = ("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]", str(left))
    assert read(pcrs)
    with pytest.raises(MalformedError, match=rf"boot.{key} needs PCR {pcr} in quote.pcrs"):
        read(rule, pcrs)


@pytest.mark.parametrize(
    "phases", ['[""]', '["a b"]', '["enter-initrd:"]', '["a", "a"]', "[1]", '["A"]', '"ready"']
)
def test_phases_are_paths_of_words(phases: str) -> None:
    """As systemd-measure writes them."""
    pcrs = (", 14]\n", ", 11, 14]\n")
    assert read(("phases = []", 'phases = ["a:b", "a"]'), pcrs).boot.phases == ("a", "a:b")
    with pytest.raises(MalformedError, match="phases"):
        read(("phases = []", f"phases = {phases}"), pcrs)


def test_phases_need_pcr_11() -> None:
    """They are extended into no other."""
    with pytest.raises(MalformedError, match="PCR 11"):
        read(("phases = []", 'phases = ["ready"]'))


def test_ima_off_stands_alone() -> None:
    """What would be said of a list that nobody reads is an error."""
    assert not read().ima.required
    assert read().ima.accept == ()
    with pytest.raises(MalformedError, match=r"ima\.accept is not a known key"):
        read(('appraise = "off"', 'appraise = "off"\naccept = ["a"]'))
    with pytest.raises(MalformedError, match=r"ima\.accept is missing"):
        read(('appraise = "off"', 'appraise = "required"'))


@pytest.mark.parametrize("rest", ["", '\naccept = ["a"]\nunlisted = "note"'])
def test_a_misspelt_appraise_is_all_that_is_wrong(rest: str) -> None:
    """Which keys belong beside it depends on it, so nothing is said of them."""
    for line, said in (
        ('appraise = "of"', "ima.appraise must be one of 'off', 'required'"),
        (
            'apraise = "off"',
            "ima.apraise is not a known key (did you mean 'appraise'?); ima.appraise is missing",
        ),
    ):
        with pytest.raises(MalformedError) as refused:
            read(('appraise = "off"', line + rest))
        assert str(refused.value) == f"policy: {said}"


def test_ima_rules_arrive() -> None:
    """Each key is where it belongs, and PCR 10 is left to IMA."""
    policy = with_ima()
    assert policy.ima.required
    assert policy.ima.accept == ("agent", "debian-12")
    assert (policy.ima.unlisted, policy.ima.violations) == (Effect.REFUSES, Effect.NOTES)
    assert policy.ima.signatures is IMASignatures.SUFFICIENT
    assert policy.quote.selection == {HashAlg.SHA256: (0, 4, 7, 10)}
    assert policy.boot_selection == {HashAlg.SHA256: (0, 4, 7)}
    assert read().boot_selection == read().quote.selection


def test_ima_needs_pcr_10() -> None:
    """Nothing else vouches for the list."""
    with pytest.raises(MalformedError, match="PCR 10"):
        with_ima(("[0, 4, 7, 10]", "[0, 4, 7]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["debian-12", "agent"]', "[]"),
        ('["debian-12", "agent"]', '["*"]'),
        ('["debian-12", "agent"]', '["a", "a"]'),
        ('unlisted = "refuse"', 'unlisted = "accept"'),
        ('violations = "note"', "violations = true"),
        ('signatures = "sufficient"', 'signatures = "any"'),
        ('appraise = "required"', 'appraise = "maybe"'),
    ],
)
def test_ima_values_out_of_range_are_errors(old: str, new: str) -> None:
    """Each rule refuses alone."""
    with pytest.raises(MalformedError, match="ima"):
        with_ima((old, new))


def test_boot_and_ima_rules_survive_the_canonical_form() -> None:
    """What a proof carries is the policy in all that decides."""
    policies = [
        read(),
        with_ima(),
        with_ima(('unlisted = "refuse"', 'unlisted = "note"')),
        with_ima(('violations = "note"', 'violations = "refuse"')),
        with_ima(('"sufficient"', '"required"')),
        with_ima(('["debian-12", "agent"]', '["agent"]')),
        read(('mode = "enforce"', 'mode = "report-only"')),
        read(('option_roms = "note"', 'option_roms = "refuse"')),
        read(('exit_boot_services = "not-required"', 'exit_boot_services = "required"')),
        read(("phases = []", 'phases = ["ready"]'), (", 14]\n", ", 11, 14]\n")),
    ]
    assert len({policy.digest for policy in policies}) == len(policies)
    for policy in policies:
        again = parse_canonical_policy(policy.encode())
        assert (again.digest, again.boot, again.ima) == (policy.digest, policy.boot, policy.ima)
        assert (again.mode, again.boot_selection) == (policy.mode, policy.boot_selection)


def test_a_mode_that_does_not_exist_is_an_error() -> None:
    """Nobody enforces by a misspelling, or stops enforcing."""
    assert read().mode is Mode.ENFORCE
    with pytest.raises(MalformedError, match="mode must be one of 'enforce', 'report-only'"):
        read(('mode = "enforce"', 'mode = "report"'))
