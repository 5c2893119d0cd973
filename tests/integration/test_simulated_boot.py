"""Quote, log and PCRs of a simulated boot agree, through a real TPM stack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg, PCRValues
from bootlease.testing.boot import recorded_boot, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.node_on_swtpm import ALL_BANKS, NodeOnSwtpm
from bootlease.testing.tampering import Where, drop, find_event, tamper

pytestmark = pytest.mark.swtpm


def _locality_3() -> BootDescription:
    description = uki_description()
    firmware = dataclasses.replace(description.firmware, startup_locality=3)
    return dataclasses.replace(description, firmware=firmware)


def _replayed(node: NodeOnSwtpm) -> PCRValues:
    return replay(parse_event_log(node.event_log)).pcrs


def _in_tpm(node: NodeOnSwtpm, like: PCRValues) -> PCRValues:
    return node.device.read_pcrs({bank: list(values) for bank, values in like.items()})


def _agrees(node: NodeOnSwtpm) -> bool:
    replayed = _replayed(node)
    return _in_tpm(node, replayed) == replayed


@pytest.mark.parametrize(
    "description",
    [grub_description(), uki_description(), _locality_3()],
    ids=["grub", "uki", "locality 3"],
)
def test_log_replays_to_the_pcrs_of_the_tpm(
    simulated_node: NodeOnSwtpm, description: BootDescription
) -> None:
    """Every PCR of every bank is what the log says."""
    simulated_node.boot(simulate_boot(description, ALL_BANKS))
    assert set(_replayed(simulated_node)) == set(ALL_BANKS)
    assert _agrees(simulated_node)


def test_quote_holds_the_values_of_the_log(simulated_node: NodeOnSwtpm) -> None:
    """The values that go with a quote are those that the log leads to."""
    replayed = _replayed(simulated_node)
    selection = {bank: sorted(values) for bank, values in replayed.items()}
    assert simulated_node.device.quote(b"nonce", selection).pcrs == replayed


def test_fixture_nodes_differ_in_the_command_line_only(
    simulated_node: NodeOnSwtpm, tampered_node: NodeOnSwtpm
) -> None:
    """``tampered_node`` is the same TPM, honestly booted with another kernel command line."""
    assert _agrees(simulated_node)
    assert _agrees(tampered_node)
    assert simulated_node.device.ek_public() == tampered_node.device.ek_public()
    good, bad = (_replayed(node)[HashAlg.SHA256] for node in (simulated_node, tampered_node))
    assert {pcr for pcr in good if good[pcr] != bad[pcr]} == {8, 9}


def test_recorded_log_extends_as_recorded(simulated_node: NodeOnSwtpm) -> None:
    """A log from elsewhere brings the TPM to the PCRs that it replays to."""
    recorded = simulate_boot(uki_description(), ALL_BANKS).event_log
    simulated_node.boot(recorded_boot(recorded))
    assert simulated_node.event_log == recorded
    assert _agrees(simulated_node)


@pytest.mark.corpus(
    "eventlogs/gtt_debian-10.bin",
    "eventlogs/gtt_gdc-host.bin",
    "eventlogs/gtt_ubuntu-2404-amd-sevsnp.bin",
    "eventlogs/goatt_windows_gcp_shielded_vm.bin",
    "eventlogs/goatt_option_rom_eventlog.bin",
    "eventlogs/keylime_mb.bin",
    "eventlogs/tpm2tools_event-sd-boot-fedora37.bin",
)
def test_log_of_a_real_machine_brings_the_tpm_to_its_pcrs(
    simulated_node: NodeOnSwtpm, corpus_file: Path
) -> None:
    """Locality 3, SHA-1 alone, several banks: a real log boots, and replays to the TPM's PCRs."""
    simulated_node.boot(recorded_boot(corpus_file.read_bytes()))
    assert any(_replayed(simulated_node).values())
    assert _agrees(simulated_node)


def test_every_event_tampered_on_the_machine_agrees(simulated_node: NodeOnSwtpm) -> None:
    """Whichever event is really different, log and TPM still agree, on another value."""
    good = simulate_boot(grub_description(), ALL_BANKS)
    for number in range(1, len(good.events) + 1):
        changed = tamper(good, number, Where.MACHINE, measured=b"something else")
        simulated_node.boot(changed)
        assert _agrees(simulated_node), number
        assert changed.pcrs() != good.pcrs(), number


def test_every_event_forged_in_the_log_disagrees(simulated_node: NodeOnSwtpm) -> None:
    """Whichever digest is forged after the fact, the log no longer leads to the TPM's PCRs."""
    good = simulate_boot(grub_description(), ALL_BANKS)
    in_tpm = _in_tpm(simulated_node, good.pcrs())
    for number in range(1, len(good.events) + 1):
        forged = tamper(good, number, Where.LOG, measured=b"something else")
        assert replay(parse_event_log(forged.event_log)).pcrs != in_tpm, number


def test_dropped_event_disagrees(simulated_node: NodeOnSwtpm) -> None:
    """A log that keeps silent about an event does not lead to the TPM's PCRs."""
    good = simulate_boot(grub_description(), ALL_BANKS)
    simulated_node.boot(drop(good, find_event(good, pcr=8), Where.LOG))
    assert not _agrees(simulated_node)


def test_bank_that_firmware_leaves_idle_can_be_filled_by_hand(
    simulated_node: NodeOnSwtpm,
) -> None:
    """TPM Carte Blanche (attack A6): an idle bank takes a whole good log from user space."""
    bad = grub_description().with_command_line("init=/bin/sh")
    simulated_node.boot(simulate_boot(bad, (HashAlg.SHA1,)))
    idle = simulated_node.device.read_pcrs({HashAlg.SHA256: [4]})
    assert idle == {HashAlg.SHA256: {4: bytes(32)}}
    good = simulate_boot(grub_description(), (HashAlg.SHA256,))
    good.extend(simulated_node.device)
    assert _in_tpm(simulated_node, good.pcrs()) == {
        HashAlg.SHA256: dict(sorted(good.pcrs()[HashAlg.SHA256].items()))
    }
