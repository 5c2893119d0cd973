"""Recorded and hostile event logs: every PCR of the good ones, every verdict on the bad ones."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from bootlease.cli.eventlog import eventlog
from bootlease.errors import MalformedError
from bootlease.eventlog import (
    Event,
    LogFormat,
    ReplayedLog,
    describe,
    parse_event_log,
    replay,
    verified_data,
)
from bootlease.model import HashAlg

REFUSED: Final = {
    "digestcount_0.bin": "0 digests",
    "empty.bin": "empty",
    "eventsize_ffffffff.bin": "beyond the log",
    "eventsize_plus1.bin": "digests",
    "pcr_24.bin": "PCR 24",
    "pcr_ffffffff_extended.bin": "PCR 4294967295",
    "specid_0_algs.bin": "0 digest algorithms",
    "specid_vendorinfo_overflow.bin": "vendor information",
    "startuplocality_7.bin": "locality 7",
    "startuplocality_short.bin": "16 bytes",
    "trailing_ff.bin": "digests",
    "trailing_garbage.bin": "truncated",
    "trunc_72.bin": "beyond the log",
    "trunc_78.bin": "truncated",
    "trunc_95.bin": "truncated",
}
"""Hostile logs that are refused by their structure, and what the refusal says."""

DIFFER: Final = {"startuplocality_first_3.bin": {0}}
"""PCRs that differ from the base log's where INDEX.tsv leaves the column empty."""

ALTERED_DATA: Final = {"grub_cmdline_suffix.bin", "sb_data_flip.bin", "separator_len5.bin"}
"""Logs that replay, with one event whose data is not under its digest."""

MALFORMED_BODY: Final = {
    "devpath_len0.bin",
    "devpath_len_huge.bin",
    "var_datalen_huge.bin",
    "var_namelen_huge.bin",
}
"""Logs with one event body whose lengths are lies."""


@pytest.mark.corpus("expected/*.json")
def test_recorded_log(corpus_file: Path, corpus: Path) -> None:
    """``eventlog replay`` reproduces every PCR of a recorded log, and refuses a malformed one."""
    expected: dict[str, Any] = json.loads(corpus_file.read_text())
    path = corpus / expected["file"]
    result = CliRunner().invoke(eventlog, ["replay", "--json", str(path)])
    if expected["error"] is not None:
        assert isinstance(result.exception, MalformedError)
        return
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout) == {
        "banks": expected["replayed"],
        "events": expected["n_events"],
        "startup_locality": expected["startup_locality"],
    }
    log = parse_event_log(path.read_bytes())
    assert log.padding == expected["padding"]
    assert (log.format is LogFormat.SHA1) == (expected["format"] == "sha1")
    assert all(describe(event).isprintable() for event in log.events)


@pytest.mark.corpus("eventlogs/*")
def test_every_recorded_log_has_an_expectation(corpus_file: Path, corpus: Path) -> None:
    """No recorded log goes untested for want of an expectation."""
    assert (corpus / "expected" / f"{corpus_file.name}.json").is_file()


@pytest.mark.corpus("eventlogs/*ccel*", "eventlogs/*CCEL*", "eventlogs/goev_*tdx*")
def test_ccel_is_recognised(corpus_file: Path) -> None:
    """The log of a TDX machine is known without being told; flag and detection agree."""
    log = parse_event_log(corpus_file.read_bytes())
    assert log.format is LogFormat.CCEL
    assert log == parse_event_log(corpus_file.read_bytes(), ccel=True)
    assert {event.pcr for event in log.events} <= {1, 2, 3, 4}


@pytest.mark.corpus("attack-logs/*.bin")
def test_hostile_log(corpus_file: Path, corpus: Path) -> None:
    """A hostile log is refused, or replays to exactly the PCRs its change leads to."""
    name = corpus_file.name
    data = corpus_file.read_bytes()
    if name in REFUSED:
        with pytest.raises(MalformedError, match=REFUSED[name]):
            parse_event_log(data)
        return
    base = _replay(corpus / "eventlogs" / _index(corpus)[name]["base"])
    altered = replay(parse_event_log(data))
    assert _differing_pcrs(base, altered) == _expected_difference(corpus, name)
    assert all(describe(event).isprintable() for event in altered.log.events)


@pytest.mark.corpus("attack-logs/*.bin")
def test_altered_data_is_never_verified(corpus_file: Path, corpus: Path) -> None:
    """Whatever a hostile log changed, data comes back as verified only under its own digest."""
    if corpus_file.name in REFUSED:
        with pytest.raises(MalformedError):
            parse_event_log(corpus_file.read_bytes())
        return
    base = _replay(corpus / "eventlogs" / _index(corpus)[corpus_file.name]["base"]).log
    log = parse_event_log(corpus_file.read_bytes())
    honest = {(event.digest_values, event.unverified_data) for event in base.events}
    known = {event.digest_values for event in base.events}
    forged = [
        event
        for event in log.events
        if event.digest_values in known
        and (event.digest_values, event.unverified_data) not in honest
        and any(any(digest) for digest in event.digest_values)
    ]
    assert bool(forged) == (corpus_file.name in ALTERED_DATA)
    for event in forged:
        for bank in log.banks:
            assert verified_data(event, HashAlg(bank)) is None


@pytest.mark.corpus
@pytest.mark.parametrize("name", sorted(MALFORMED_BODY))
def test_lying_bodies_are_reported(name: str, corpus: Path) -> None:
    """A body whose lengths are lies is described as malformed; its log replays all the same."""
    log = parse_event_log((corpus / "attack-logs" / name).read_bytes())
    assert len([event for event in log.events if _is_malformed(event)]) == 1


@pytest.mark.corpus
def test_ff_padding_of_a_ccel(corpus: Path) -> None:
    """The log that FF bytes end is fine where it is read as a CCEL."""
    data = (corpus / "attack-logs" / "trailing_ff.bin").read_bytes()
    base = _replay(corpus / "eventlogs" / _index(corpus)["trailing_ff.bin"]["base"])
    padded = replay(parse_event_log(data, ccel=True))
    assert padded.log.padding == 4096
    assert padded.pcrs == base.pcrs


@pytest.mark.corpus
def test_a_retyped_secure_boot_variable_keeps_its_type(corpus: Path) -> None:
    """A retyped event replays: its data may be under its digest, its type never is."""
    for name in ("sb_type_spoof.bin", "sb_retyped_variable_boot.bin"):
        log = parse_event_log((corpus / "attack-logs" / name).read_bytes())
        described = [describe(event) for event in log.events]
        assert "Secure Boot variable SecureBoot" not in described


def _is_malformed(event: Event) -> bool:
    return describe(event).endswith("(body malformed)")


def _replay(path: Path) -> ReplayedLog:
    return replay(parse_event_log(path.read_bytes()))


def _differing_pcrs(one: ReplayedLog, other: ReplayedLog) -> set[int]:
    assert one.pcrs.keys() == other.pcrs.keys()
    return {
        pcr
        for bank, values in one.pcrs.items()
        for pcr in values.keys() | other.pcrs[bank].keys()
        if values.get(pcr) != other.pcrs[bank].get(pcr)
    }


def _expected_difference(corpus: Path, name: str) -> set[int]:
    column = _index(corpus)[name]["base_pcrs_still_replay(pcrs that differ)"]
    if column == "all":
        return set()
    if column.startswith("no: "):
        return {int(pcr) for pcr in column.removeprefix("no: ").split(",")}
    return DIFFER[name]


@cache
def _index(corpus: Path) -> dict[str, dict[str, str]]:
    header, *rows = (corpus / "attack-logs" / "INDEX.tsv").read_text().splitlines()
    names = header.split("\t")
    return {row.split("\t")[0]: dict(zip(names, row.split("\t"), strict=True)) for row in rows}
