"""Real measured boots (QEMU, OVMF, swtpm, Linux 6.1) through the whole appraisal.

What each boot must come to follows from how it was made: the same image again, or one thing
changed, as the folder's README says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from bootlease.appraisal import AttestationResult
from bootlease.bootstate import AttestedLog, read_boot_state
from bootlease.bootstate.pcrs import KERNEL_BOOT_PCR
from bootlease.bootstate.phases import find_phases
from bootlease.bootstate.tri import Tri
from bootlease.errors import VerificationError
from bootlease.explain.boot import Boot
from bootlease.explain.changes import compare_boots
from bootlease.ima import attest_list, expected_boot_aggregates
from bootlease.ima.aggregate import boot_aggregate_findings
from bootlease.ima.entry import BOOT_AGGREGATE
from bootlease.ima.state import IMA_PCR, IMAState
from bootlease.lineage import HighWaterMark
from bootlease.model import refusals
from bootlease.policy import parse_policy
from bootlease.reference import expected_value
from tests.conformance.lab_evidence import BANK, LAB_POLICY, Lab

UKI: Final = "uki-good"
SHIM: Final = "shim-grub-secureboot"
GOOD: Final = (
    (UKI, UKI),
    (UKI, "uki-good-second-boot"),
    (UKI, "uki-good-warm-reboot"),
    (SHIM, SHIM),
)
"""Golden boot, and a boot that must be accepted by what was learned from it."""

WITH_LOG: Final = (
    *(case for _, case in GOOD),
    *("uki-cmdline-tampered", "secureboot-off", "shim-grub-cmdline-tampered"),
)
WITHOUT_LOG: Final = "shim-grub-secureboot-off"
UKI_BOOTS: Final = (UKI, "uki-good-second-boot", "uki-good-warm-reboot", "uki-cmdline-tampered")
OTHER_LINE: Final = b"lockdown=none ima_appraise=off"

pytestmark = pytest.mark.lab


@pytest.fixture
def cases(lab: Path) -> Lab:
    """Every boot."""
    return Lab(lab)


def judged(
    cases: Lab, golden: str, case: str, match_events: tuple[int, ...] = (), policy: str = LAB_POLICY
) -> AttestationResult:
    """Appraise a boot against what was learned from another, or the same."""
    good = cases.case(golden)
    return cases.appraise(
        cases.case(case), good.reference(match_events), good.files(), policy=policy
    )


def refused(result: AttestationResult) -> list[str]:
    """Return the ids of what refuses, in order."""
    return [finding.id for finding in refusals(result.findings)]


@pytest.mark.parametrize("match_events", [(), (4, 7, 9, 11)])
@pytest.mark.parametrize(("golden", "case"), GOOD)
def test_good_boots_are_accepted(
    cases: Lab, golden: str, case: str, match_events: tuple[int, ...]
) -> None:
    """The same system is accepted at its first boot, its second and after a warm reboot."""
    if golden == SHIM:
        match_events = tuple(pcr for pcr in match_events if pcr != 11)  # nothing is measured there
    result = judged(cases, golden, case, match_events)
    assert refused(result) == []
    assert result.accepted
    assert result.reference is not None


def test_good_boots_differ_in_what_is_not_measured(cases: Lab) -> None:
    """Logs of two good boots are not the same bytes: an image's address is in event 24's data."""
    first, second = cases.case(UKI).replayed(), cases.case("uki-good-second-boot").replayed()
    pairs = list(zip(first.log.events, second.log.events, strict=True))
    changed = [one.number for one, other in pairs if one.unverified_data != other.unverified_data]
    assert changed == [24]
    assert [one.digest_values for one, _ in pairs] == [other.digest_values for _, other in pairs]


def test_another_command_line_in_the_image_is_refused(cases: Lab) -> None:
    """An image signed with the right key, but with another .cmdline, is named in PCR 4, 9, 11."""
    result = judged(cases, UKI, "uki-cmdline-tampered")
    assert refused(result) == [
        "eventlog.pcr4.unknown-boot-application",
        "eventlog.pcr9.unknown-event",
        "eventlog.pcr11.unknown-boot-loader-measurement",
    ]
    told = {finding.pcr: finding for finding in refusals(result.findings)}
    assert ".cmdline" in told[11].message
    assert r"\EFI\BOOT\BOOTX64.EFI" in told[4].message


def test_another_command_line_of_grub_is_refused(cases: Lab) -> None:
    """What Secure Boot lets pass is named: command line, GRUB's command and configuration."""
    result = judged(cases, SHIM, "shim-grub-cmdline-tampered")
    assert refused(result) == [
        "eventlog.pcr8.unknown-boot-loader-measurement",
        "eventlog.pcr8.unknown-boot-loader-measurement",
        "eventlog.pcr9.unknown-boot-loader-measurement",
    ]
    command, line, configuration = [each.message for each in refusals(result.findings)]
    assert OTHER_LINE.decode() in command
    assert OTHER_LINE.decode() in line
    assert "grub.cfg" in configuration


def test_a_rule_on_the_command_line_names_the_parameters(cases: Lab) -> None:
    """Where kernel parameters were learned as rules, the two that were added are named."""
    good = cases.case(SHIM)
    reference = good.reference((8,), command_line=True)
    result = cases.appraise(cases.case("shim-grub-cmdline-tampered"), reference, good.files())
    named = {each.seen for each in refusals(result.findings) if "command-line" in each.id}
    assert {"lockdown=none", "ima_appraise=off"} <= named


def test_secure_boot_switched_off_is_refused(cases: Lab) -> None:
    """Without keys, state, variables, the unsigned kernel and other firmware data are named."""
    policy = LAB_POLICY.replace('secure_boot = "not-required"', 'secure_boot = "required"')
    policy = policy.replace('unsafe_setup_mode = "note"', 'unsafe_setup_mode = "refuse"')
    found = refused(judged(cases, UKI, "secureboot-off", policy=policy))
    assert {"policy.secure-boot.off", "policy.setup-mode.on", "reference.boot.secure-boot"} <= set(
        found
    )
    assert {int(id_.split(".")[1][3:]) for id_ in found if id_.startswith("eventlog.pcr")} == {
        *(0, 4, 7)
    }


def test_a_boot_without_a_log_is_refused(cases: Lab) -> None:
    """A genuine quote beside an empty log is refused, although IMA's list replays."""
    case = cases.case(WITHOUT_LOG)
    assert case.log == b""
    case.quote()
    assert refused(judged(cases, SHIM, WITHOUT_LOG)) == ["eventlog.malformed"]


def test_keys_for_tests_are_refused_where_policy_says_so(cases: Lab) -> None:
    """The snakeoil keys of these images are noted, and refused by a policy that says so."""
    strict = LAB_POLICY.replace('unsafe_test_keys = "note"', 'unsafe_test_keys = "refuse"')
    assert refused(judged(cases, UKI, UKI, policy=strict)) == ["policy.test-key.present"] * 3
    assert refused(judged(cases, SHIM, SHIM, policy=strict)) == []


@pytest.mark.parametrize("case", WITH_LOG)
def test_logs_lead_to_the_quoted_values(cases: Lab, case: str) -> None:
    """Every log explains each quoted PCR but 10, and no phases follow it in PCR 11."""
    boot = cases.case(case)
    quoted, replayed = boot.quote().pcrs[BANK], boot.replayed()
    differing = [pcr for pcr in quoted if expected_value(replayed, BANK, pcr) != quoted[pcr]]
    assert differing == [IMA_PCR]
    logged = expected_value(replayed, BANK, KERNEL_BOOT_PCR)
    assert find_phases(logged, quoted[KERNEL_BOOT_PCR], BANK) == ()


def changed(cases: Lab, golden: str, case: str) -> list[int]:
    """Return the quoted PCRs that differ between two boots."""
    first, second = (cases.case(each).quote().pcrs[BANK] for each in (golden, case))
    return [pcr for pcr in first if first[pcr] != second[pcr]]


@pytest.mark.parametrize(
    ("golden", "case", "pcrs"),
    [
        (UKI, "uki-good-second-boot", []),
        (UKI, "uki-good-warm-reboot", []),
        (UKI, "uki-cmdline-tampered", [4, 9, 10, 11]),
        (UKI, "secureboot-off", [0, 4, 7, 10]),
        (SHIM, "shim-grub-cmdline-tampered", [8, 9, 10]),
    ],
)
def test_each_boot_changes_the_pcrs_that_it_must(
    cases: Lab, golden: str, case: str, pcrs: list[int]
) -> None:
    """PCR 10 follows 0 to 9 through the boot aggregate; nothing else moves with them."""
    assert changed(cases, golden, case) == pcrs


@pytest.mark.parametrize(
    ("golden", "case", "events", "meaning"),
    [
        (UKI, "uki-good-second-boot", [], set()),
        (
            *(UKI, "uki-cmdline-tampered", [(4, 24), (9, 33), (11, 30)]),
            {"kernel command line, its text not in the log"},
        ),
        (
            *(UKI, "secureboot-off", [(0, 2), (4, 32), *((7, each) for each in range(4, 9))]),
            {"Secure Boot", "setup mode", "platform key (PK)", "revoked key or image (dbx)"},
        ),
        (
            *(SHIM, "shim-grub-cmdline-tampered", [(8, 39), (8, 43), (9, 35)]),
            {"kernel parameter"},
        ),
    ],
)
def test_what_changed_is_told(
    cases: Lab, golden: str, case: str, events: list[tuple[int, int]], meaning: set[str]
) -> None:
    """Beside the good boot, an explanation names each event that came, and what it means."""
    rules = parse_policy(LAB_POLICY)
    good, other = (
        Boot.of(boot.replayed(), boot.quote().pcrs, rules)
        for boot in (cases.case(golden), cases.case(case))
    )
    changes = compare_boots(good, other)
    assert [(each.pcr, each.event) for each in changes.events if each.event] == events
    told = {each.what: each.after for each in changes.meaning}
    assert meaning <= told.keys()
    if case == "shim-grub-cmdline-tampered":
        assert [each.after for each in changes.meaning] == OTHER_LINE.decode().split()


@pytest.mark.parametrize("case", [*WITH_LOG, WITHOUT_LOG])
def test_lists_lead_to_the_quoted_pcr_10(cases: Lab, case: str) -> None:
    """Each list of template ima-sig is attested whole, and begins with this boot's aggregate."""
    boot = cases.case(case)
    quoted = boot.quote().pcrs
    attested = attest_list(IMAState.START, boot.read("ima"), {BANK: quoted[BANK][IMA_PCR]})
    shown = boot.read("ima.ascii").splitlines()
    assert (attested.state.entries, attested.ahead) == (len(shown), 0)
    assert boot_aggregate_findings(attested, quoted) == ()
    first = next(attested.entries()).measurement()
    assert first.name == BOOT_AGGREGATE
    assert first.digest is not None
    assert first.digest.value == expected_boot_aggregates(quoted)["sha256"]


def test_a_list_of_another_boot_is_refused(cases: Lab) -> None:
    """A list does not lead to the PCR 10 of a boot with other PCRs 0 to 9."""
    quoted = cases.case("uki-cmdline-tampered").quote().pcrs[BANK][IMA_PCR]
    with pytest.raises(VerificationError) as caught:
        attest_list(IMAState.START, cases.case(UKI).read("ima"), {BANK: quoted})
    assert [finding.id for finding in caught.value.findings] == ["ima.replay-mismatch"]


def test_a_file_that_nobody_listed_is_refused(cases: Lab) -> None:
    """With one program left out of the set, that program is named and nothing else."""
    good = cases.case(UKI)
    files = good.files()
    known = {path: digests for path, digests in files.files.items() if path != b"/bin/busybox"}
    result = cases.appraise(good, good.reference(), replace(files, files=known))
    assert refused(result) == ["ima.file.unlisted"]
    assert "/bin/busybox" in refusals(result.findings)[0].message


def test_the_quote_answers_its_nonce_alone(cases: Lab) -> None:
    """Over another nonce, or with another boot's values, no quote verifies."""
    good = cases.case(UKI)
    with pytest.raises(VerificationError) as caught:
        good.quote(nonce=bytes(20))
    assert [finding.id for finding in caught.value.findings] == ["quote.nonce.mismatch"]


def test_counters_go_forward_only(cases: Lab) -> None:
    """Boots of one TPM are in order; after a later one, an earlier quote is a rollback."""
    clocks = [cases.case(name).quote().clock_info for name in (*UKI_BOOTS, "secureboot-off")]
    counts = [clock.reset_count for clock in clocks]
    assert counts == sorted(set(counts))
    good = cases.case(UKI)
    later = HighWaterMark.of(clocks[1])
    result = cases.appraise(good, good.reference(), good.files(), high_water=later)
    assert refused(result) == ["clock.reset-count.rollback"]


@pytest.mark.parametrize("case", UKI_BOOTS)
def test_the_command_line_is_found_by_its_digest(cases: Lab, case: str) -> None:
    """The log of an image holds no command line; the one that the kernel had is recognised."""
    boot = cases.case(case)
    line = boot.command_line()
    reference = boot.reference((11,), command_line=True, known_command_lines=(line,))
    assert reference.boot is not None
    assert reference.boot.command_line is not None
    words = {*reference.boot.command_line.required, *(reference.boot.command_line.allowed or ())}
    assert words == set(line.split())


@pytest.mark.parametrize("case", WITH_LOG)
def test_meaning_is_what_was_booted(cases: Lab, case: str) -> None:
    """State of Secure Boot, boot applications and hand-over are read from the attested log."""
    boot = cases.case(case)
    state = read_boot_state(AttestedLog.of(boot.replayed(), BANK, range(16)))
    expected = Tri.OFF if case == "secureboot-off" else Tri.ON
    assert state.secure_boot.state is expected
    assert state.exit_boot_services.state is Tri.ON
    assert state.findings == ()
    assert state.opaque == ()
    # The kernel inside an unsigned image is an image of its own; shim and GRUB each measure theirs.
    assert len(state.boot_applications.images) == {"uki-": 1, "secu": 2, "shim": 4}[case[:4]]


def test_the_policy_is_sound() -> None:
    """The policy that these boots are judged by demands every PCR that was quoted."""
    assert parse_policy(LAB_POLICY).quote.pcrs == tuple(range(16))
