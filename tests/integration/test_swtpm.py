"""swtpm: manufactured, started, power-cycled, cloned, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509

from bootlease.errors import TransportError
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.testing.local_ca import EK_CERTIFICATE_EKU, LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, _connect, swtpm_process

pytestmark = pytest.mark.swtpm

PCR_16 = {HashAlg.SHA256: [16]}
ONE = {HashAlg.SHA256: b"\x01" * 32}

_CHILD = """
import sys, time
from pathlib import Path
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState
tpm = SoftwareTPM(SoftwareTPMState(Path(sys.argv[1])))
print(tpm.guard_pid, tpm.folder, flush=True)
time.sleep(600)
"""


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def gone(pids: list[int]) -> bool:
    """Wait until none of the processes is left; tell whether that came true."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("algorithm", list(EKAlgorithm), ids=lambda item: item.value)
def test_every_ek_is_certified_by_the_local_ca(
    swtpm: SoftwareTPM, local_ca: LocalCA, algorithm: EKAlgorithm
) -> None:
    """The NV memory holds the certificate of the key that the template makes, and its issuer."""
    with ESAPIDevice(swtpm.tcti, ek_algorithm=algorithm) as device:
        leaf, *chain = device.ek_chain()
    certificate = x509.load_der_x509_certificate(leaf)
    certificate.verify_directly_issued_by(local_ca.intermediate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert EK_CERTIFICATE_EKU in usage
    assert local_ca.intermediate_der in chain


def test_only_wanted_ek_certificates_are_left(tmp_path: Path) -> None:
    """A TPM with an ECC P-256 certificate alone, one bank and no chain can be had."""
    state = manufacture(
        tmp_path / "state",
        ca=LocalCA.create(),
        banks=(HashAlg.SHA384,),
        ek_algorithms=[EKAlgorithm.ECC_P256],
        chain_in_nv=False,
    )
    with swtpm_process(state) as tpm, ESAPIDevice(tpm.tcti) as device:
        assert device.ek_algorithm is EKAlgorithm.ECC_P256
        assert len(device.ek_chain()) >= 1
        assert device.ek_certificate(EKAlgorithm.RSA_2048) == []
        assert device.ek_certificate(EKAlgorithm.ECC_P384) == []
        assert device.read_pcrs({HashAlg.SHA384: [0]}) == {HashAlg.SHA384: {0: bytes(48)}}
        with pytest.raises(TransportError, match="no active PCR bank sha256"):
            device.read_pcrs({HashAlg.SHA256: [0]})


def test_manufacturing_needs_a_bank(tmp_path: Path) -> None:
    """No bank is no default."""
    with pytest.raises(ValueError, match="at least one"):
        manufacture(tmp_path / "state", ca=LocalCA.create(), banks=())


def test_manufacturing_leaves_no_key_of_the_ca_behind(tmp_path: Path) -> None:
    """The state folder holds the TPM and nothing of the CA."""
    manufacture(tmp_path / "state", ca=LocalCA.create())
    names = {path.name for path in (tmp_path / "state").iterdir()}
    assert names <= {"tpm2-00.permall", ".lock"}


def test_tpm2_tools_reach_it_by_the_same_name(swtpm: SoftwareTPM) -> None:
    """The TCTI string serves the command line as well."""
    command = ["tpm2_getcap", "-T", swtpm.tcti, "properties-fixed"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert "TPM2_PT_MANUFACTURER" in done.stdout


def test_reboot_counts_and_clears(swtpm: SoftwareTPM) -> None:
    """A power cycle resets PCRs and raises resetCount by one; the clock stays safe."""
    with ESAPIDevice(swtpm.tcti) as device:
        before = device.read_clock()
        assert before.safe
        device.pcr_extend(16, ONE)
        swtpm.reboot()
        after = device.read_clock()
        assert after.reset_count == before.reset_count + 1
        assert after.restart_count == before.restart_count
        assert after.safe
        assert device.read_pcrs(PCR_16) == {HashAlg.SHA256: {16: bytes(32)}}


def test_power_commands_wait_for_a_busy_socket(swtpm: SoftwareTPM) -> None:
    """While another client's connection waits for swtpm, a power command waits too."""
    waiting = [_connect(swtpm.folder / "tpm") for _ in range(2)]
    for delay, channel in enumerate(waiting, 1):
        threading.Timer(delay * 0.15, channel.close).start()
    swtpm.reboot()
    with ESAPIDevice(swtpm.tcti) as device:
        assert device.read_clock().reset_count > 0


def test_power_cut_leaves_the_clock_unsafe(swtpm: SoftwareTPM) -> None:
    """Without TPM2_Shutdown the TPM cannot promise that its clock never went back."""
    swtpm.reboot(orderly=False)
    with ESAPIDevice(swtpm.tcti) as device:
        assert not device.read_clock().safe


def test_clone_is_the_same_tpm_twice(software_tpm_state: SoftwareTPMState, tmp_path: Path) -> None:
    """Two clones run side by side with one identity and separate PCRs (attack A23)."""
    first_state = software_tpm_state.clone(tmp_path / "first")
    second_state = software_tpm_state.clone(tmp_path / "second")
    with (
        swtpm_process(first_state) as first,
        swtpm_process(second_state) as second,
        ESAPIDevice(first.tcti) as one,
        ESAPIDevice(second.tcti) as other,
    ):
        assert first.tcti != second.tcti
        assert one.ek_public() == other.ek_public()
        one.pcr_extend(16, ONE)
        assert one.read_pcrs(PCR_16) != other.read_pcrs(PCR_16)


def test_restored_snapshot_shows_an_old_counter(swtpm: SoftwareTPM, tmp_path: Path) -> None:
    """A TPM put back to its snapshot has forgotten the boots since (attack A23)."""
    with ESAPIDevice(swtpm.tcti) as device:
        old = device.read_clock()
        state = swtpm.snapshot(tmp_path / "snapshot")
        swtpm.reboot()
        swtpm.reboot()
        newest = device.read_clock()
        swtpm.restore(state)
        assert old.reset_count <= device.read_clock().reset_count < newest.reset_count


def test_live_snapshot_brings_the_pcrs_back(swtpm: SoftwareTPM, tmp_path: Path) -> None:
    """A restored virtual machine goes on with its PCRs and without a reset (attack A23)."""
    with ESAPIDevice(swtpm.tcti) as device:
        device.pcr_extend(16, ONE)
        good = device.read_pcrs(PCR_16)
        counter = device.read_clock().reset_count
        state = swtpm.snapshot(tmp_path / "live", live=True)
        device.pcr_extend(16, ONE)
        assert device.read_pcrs(PCR_16) != good
        swtpm.restore(state)
        assert device.read_pcrs(PCR_16) == good
        assert device.read_clock().reset_count == counter


def test_live_clone_starts_with_the_pcrs(swtpm: SoftwareTPM, tmp_path: Path) -> None:
    """A live snapshot also starts as a second TPM beside the first."""
    with ESAPIDevice(swtpm.tcti) as device:
        device.pcr_extend(16, ONE)
        good = device.read_pcrs(PCR_16)
    state = swtpm.snapshot(tmp_path / "live", live=True)
    with swtpm_process(state) as twin, ESAPIDevice(twin.tcti) as device:
        assert device.read_pcrs(PCR_16) == good


def test_nothing_is_left_behind(software_tpm_state: SoftwareTPMState, tmp_path: Path) -> None:
    """After the block there is no process, no socket and no private folder."""
    with swtpm_process(software_tpm_state.clone(tmp_path / "state")) as tpm:
        pids = [tpm.guard_pid, *children_of(tpm.guard_pid)]
        assert len(pids) > 1
        assert tpm.folder.stat().st_mode & 0o077 == 0
    assert gone(pids)
    assert not tpm.folder.exists()
    assert {path.name for path in (tmp_path / "state").iterdir()} <= {"tpm2-00.permall", ".lock"}


@pytest.mark.parametrize("victim", ["starter", "guard"])
def test_sigkill_leaves_no_process(
    software_tpm_state: SoftwareTPMState, tmp_path: Path, victim: str
) -> None:
    """The TPM ends when whoever started it, or its guard, is killed without warning."""
    state = software_tpm_state.clone(tmp_path / "state")
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(state.directory)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            guard_text, folder = child.stdout.readline().split()
            guard = int(guard_text)
            pids = children_of(guard)
            assert pids
            if victim == "guard":
                os.kill(guard, signal.SIGKILL)
                assert gone(pids)
            else:
                os.kill(child.pid, signal.SIGKILL)
                assert gone([guard, *pids])
                assert not Path(folder).exists()
        finally:
            child.kill()
    if Path(folder).exists():  # a killed guard cannot tidy up
        for path in Path(folder).iterdir():
            path.unlink()
        Path(folder).rmdir()


def test_state_in_use_is_a_clear_error(
    software_tpm_state: SoftwareTPMState, tmp_path: Path
) -> None:
    """A second swtpm on the same state says at once why it cannot start."""
    state = software_tpm_state.clone(tmp_path / "state")
    with swtpm_process(state):
        started = time.monotonic()
        with pytest.raises(TransportError, match=r"did not start.*lock"):
            SoftwareTPM(state)
        assert time.monotonic() - started < 5


def test_long_temporary_folder_does_not_break_the_socket(
    software_tpm_state: SoftwareTPMState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TMPDIR too long for a Unix socket is not used for it."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with swtpm_process(software_tpm_state.clone(tmp_path / "state")) as tpm:
        assert str(long) not in tpm.tcti


def test_missing_swtpm_is_a_clear_error(
    software_tpm_state: SoftwareTPMState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where swtpm is not installed, the message says what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TransportError, match="swtpm is not installed"):
        SoftwareTPM(software_tpm_state)
    with pytest.raises(TransportError, match="apt install swtpm-tools"):
        manufacture(software_tpm_state.directory, ca=LocalCA.create())


def test_interactive_tpm_runs_until_it_is_told_to_end() -> None:
    """It prints where everything is, has booted, and leaves nothing behind."""
    command = [sys.executable, "-m", "bootlease.testing.interactive", "--boot", "uki"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            lines = [child.stdout.readline().removeprefix("export ") for _ in range(3)]
            told = dict(line.strip().split("=", 1) for line in lines)
            log = Path(told["BOOTLEASE_EVENT_LOG"])
            replayed = replay(parse_event_log(log.read_bytes())).pcrs
            with ESAPIDevice(told["TPM2TOOLS_TCTI"]) as device:
                selection = {bank: list(values) for bank, values in replayed.items()}
                assert device.read_pcrs(selection) == replayed
            child.terminate()
            assert child.wait(timeout=20) == 0
            assert not log.parent.exists()
        finally:
            child.kill()
