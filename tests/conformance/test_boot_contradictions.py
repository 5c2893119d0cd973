"""The meaning of recorded and hostile logs: what must be refused, and that nothing real fails.

Provenance: ``eventlogs/`` are logs of real machines, ``attack-logs/`` are logs made hostile, with a
verdict each. The verdicts below are those that only the meaning of a log can give; what does not
parse or does not replay is refused before. No digest of a recorded log stands here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from bootlease.bootstate import AttestedLog, BootState, read_boot_state
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import SeparatorState
from bootlease.errors import MalformedError
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg, refusals

MALFORMED: Final = {"keylime_bogus.bin", "tpm2tools_specid-vendordata.bin"}
ALTERED: Final = {"hirs_TPMLog_Altered.bin"}
"""A copy of another log, its boot order changed by hand."""


def views(path: Path) -> list[AttestedLog]:
    """The log seen through each of its banks that can be computed."""
    replayed = replay(parse_event_log(path.read_bytes()))
    return [AttestedLog.of(replayed, bank) for bank in replayed.pcrs if replayed.pcrs[bank]]


def read(path: Path) -> BootState:
    """Read a log in its strongest bank."""
    found = {view.bank: view for view in views(path)}
    return read_boot_state(found[HashAlg.SHA256 if HashAlg.SHA256 in found else min(found)])


@pytest.mark.corpus("eventlogs/*.bin")
def test_no_real_log_is_refused_for_its_meaning(corpus_file: Path) -> None:
    """Real firmware contradicts itself nowhere, in any bank, and an altered copy does."""
    try:
        seen = [read_boot_state(view) for view in views(corpus_file)]
    except MalformedError:
        assert corpus_file.name in MALFORMED
        return
    refused = any(refusals(state.findings) for state in seen)
    assert refused == (corpus_file.name in ALTERED)


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("sb_data_flip", "boot.event.data-mismatch"),
        ("sb_type_spoof", "boot.secure-boot.variable-retyped"),
        ("sb_retyped_variable_boot", "boot.secure-boot.variable-retyped"),
        ("sb_on_after_separator", "boot.secure-boot.variable-after-separator"),
        ("sb_separator_retyped", "boot.secure-boot.variable-after-separator"),
    ],
)
def test_secure_boot_is_never_reported_on(corpus: Path, name: str, finding: str) -> None:
    """Each way to forge Secure Boot leaves its state unknown, and is refused (D1 to D3)."""
    state = read(corpus / "attack-logs" / f"{name}.bin")
    assert state.secure_boot.state is Tri.UNKNOWN
    assert finding in [each.id for each in refusals(state.findings)]


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "pcr", "expected"),
    [
        ("separator_missing_pcr4", 4, SeparatorState.MISSING),
        ("separator_dup_pcr7", 7, SeparatorState.REPEATED),
        ("separator_error", 5, SeparatorState.ERROR),
        ("separator_len5", 4, SeparatorState.INVALID),
        ("sb_separator_retyped", 7, SeparatorState.RETYPED),
    ],
)
def test_separators(corpus: Path, name: str, pcr: int, expected: SeparatorState) -> None:
    """Each false separator is told, in its PCR and no other (D4)."""
    state = read(corpus / "attack-logs" / f"{name}.bin")
    told = {each.pcr: each.state for each in state.separators}
    assert told == {each: expected if each == pcr else SeparatorState.SOUND for each in range(8)}


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["separator_len5", "grub_cmdline_suffix"])
def test_edited_data_is_refused(corpus: Path, name: str) -> None:
    """Data that was edited under a kept digest is refused (D1, D16)."""
    assert refusals(read(corpus / "attack-logs" / f"{name}.bin").findings)


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name",
    [
        *("var_namelen_huge", "var_datalen_huge", "var_name_odd_surrogate", "devpath_len0"),
        *("devpath_len_huge", "gpt_numparts_huge", "siglist_sigsize_zero", "handoff_count_huge"),
    ],
)
def test_body_bombs_are_opaque(corpus: Path, name: str) -> None:
    """A body that lies about its lengths is noted at most, and the rest is read (D23)."""
    state = read(corpus / "attack-logs" / f"{name}.bin")
    assert refusals(state.findings) == ()
    assert state.secure_boot.state is Tri.ON


@pytest.mark.corpus
def test_only_order_within_a_pcr_counts(corpus: Path) -> None:
    """A log sorted by PCR means what the log means in its first order (D14)."""
    sorted_log = read(corpus / "attack-logs" / "reorder_across_pcrs.bin")
    first = read(corpus / "eventlogs" / "gtt_rhel8-uefi.bin")
    assert sorted_log.secure_boot.state is first.secure_boot.state is Tri.ON
    assert [each.digest for each in sorted_log.boot_applications.images] == [
        each.digest for each in first.boot_applications.images
    ]
    assert sorted_log.exit_boot_services.state is first.exit_boot_services.state is Tri.ON
    assert sorted_log.findings == ()


@pytest.mark.corpus
def test_missing_exit_boot_services(corpus: Path) -> None:
    """A log without its end says so, whether it was cut or the machine has none (D11)."""
    for path in ("attack-logs/ebs_missing.bin", "eventlogs/goatt_ebs_event_missing_eventlog.bin"):
        assert read(corpus / path).exit_boot_services.state is Tri.OFF


@pytest.mark.corpus
def test_registers_of_a_confidential_machine(corpus: Path) -> None:
    """A CCEL is read through its registers, and a separator in the wrong one shows (D4, D26)."""
    sound = read(corpus / "eventlogs" / "goev_cos113_tdx.bin")
    moved = read(corpus / "eventlogs" / "goev_cos113_tdx_dupe_separator.bin")
    assert sound.secure_boot.state is moved.secure_boot.state is Tri.OFF
    assert sound.shim.sbat_level is not None
    assert [each.state for each in sound.separators] == [SeparatorState.SOUND] * 2
    assert [each.state for each in moved.separators] == [
        SeparatorState.SOUND,
        SeparatorState.MISSING,
    ]
