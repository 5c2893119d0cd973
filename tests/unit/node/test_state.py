"""The state directory: private, one agent at a time, whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence import Challenge
from bootlease.model import Effect, Finding, HashAlg
from bootlease.node.memory import Enrolment, Lineage, Memory, Question, Sent, parse_memory
from bootlease.node.state import StateDirectory, boot_id, read_memory, read_status
from bootlease.node.status import LeaseState, LeaseStatus, Status, parse_status
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.node.wishbook import Holder

if TYPE_CHECKING:
    from pathlib import Path

ROOT = bytes(range(32))
CHALLENGE = Challenge(ROOT, ROOT, 1000, 1120, {HashAlg.SHA256: (0, 7)})
LINEAGE = Lineage(ROOT, ROOT, 7, 3, 1, ROOT, 1120, 512.25)
STATUS = Status(
    LeaseState.REFUSED,
    "https://v.example",
    1000,
    1,
    node="00",
    sequence=3,
    expires_at=5,
    renewed_at=4,
    next_attempt_at=6,
    leases=(
        LeaseStatus("00", ("a", "b"), "c", 9),
        LeaseStatus("01", ("a",), "c", 9, 2, Holder("r", 10, 1000, "/usr/bin/app")),
        LeaseStatus("02", ("a",), "c", 9, None, Holder("r", 10, 1000)),
    ),
    error="none",
    findings=(Finding("a.b", "C.", Effect.NOTES, 1, 2, "3", "4"), Finding("d", "E.")),
)


def memory(boot: str) -> Memory:
    """Return a memory in which everything is known."""
    enrolment = Enrolment(ROOT, ROOT, b"\0\x0b" + ROOT)
    return Memory(
        boot, enrolment.ak, EKAlgorithm.ECC_P256, enrolment, LINEAGE, Question(CHALLENGE, 400.5)
    )


def test_memory_comes_back(tmp_path: Path) -> None:
    """What one agent remembers, the next one knows."""
    kept = memory(boot_id())
    with StateDirectory(tmp_path / "a" / "b") as directory:
        assert directory.load() == Memory(boot_id())
        directory.save(kept)
    with StateDirectory(tmp_path / "a" / "b") as directory:
        assert directory.load() == kept
    assert read_memory(tmp_path / "a" / "b") == kept


def test_another_boot() -> None:
    """Of another boot, keys and enrolment are kept; lineage and challenge are not."""
    kept = memory("boot-1").in_boot("boot-2")
    assert kept == dataclasses.replace(memory("boot-2"), lineage=None, question=None)


def test_deadline_is_rounded_down() -> None:
    """Writing a deadline down never makes it later."""
    late = dataclasses.replace(LINEAGE, deadline=512.9999)
    again = parse_memory(dataclasses.replace(memory("b"), lineage=late).encode())
    assert again.lineage is not None
    assert again.lineage.deadline == 512.999


def test_modes(tmp_path: Path) -> None:
    """The directory is its owner's alone, and so is every file in it."""
    path = tmp_path / "state"
    with StateDirectory(path) as directory:
        directory.save(memory("b"))
        directory.report(STATUS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.iterdir()) == ["agent.json", "lock", "status.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


def test_open_to_others(tmp_path: Path) -> None:
    """A directory that other users may enter is refused, with the command that closes it."""
    tmp_path.chmod(0o750)
    with pytest.raises(TransportError, match="chmod 700"):
        StateDirectory(tmp_path)


def test_second_agent(tmp_path: Path) -> None:
    """A second agent on one state directory is refused, and told which process has it."""
    path = tmp_path / "state"
    with StateDirectory(path), pytest.raises(TransportError, match=f"process {os.getpid()}"):
        StateDirectory(path)
    with StateDirectory(path):
        pass


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v":1}', b'{"v":2}', b'{"v":1,"boot_id":5}'])
def test_damaged(tmp_path: Path, data: bytes) -> None:
    """A damaged memory is refused with the file's name and what to do."""
    path = tmp_path / "state"
    with StateDirectory(path) as directory:
        (path / "agent.json").write_bytes(data)
        with pytest.raises(MalformedError, match="remove it to start over"):
            directory.load()


@given(st.binary(max_size=100))
def test_any_memory(data: bytes) -> None:
    """Any bytes give a memory or MalformedError, never any other error."""
    with pytest.raises(MalformedError):
        parse_memory(data)


@given(st.data())
def test_mutated_memory(data: st.DataObject) -> None:
    """A memory with any byte changed gives a memory or MalformedError, never any other error."""
    encoded = bytearray(memory("boot").encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_memory(bytes(encoded))
    except MalformedError:
        return


def test_status_comes_back(tmp_path: Path) -> None:
    """A status is read as it was published, together with whether its agent runs."""
    with StateDirectory(tmp_path / "state") as directory:
        directory.report(STATUS)
        assert read_status(tmp_path / "state") == (STATUS, True)
    assert read_status(tmp_path / "state") == (STATUS, False)


def test_no_status(tmp_path: Path) -> None:
    """Where no agent has run, that is what is said."""
    with pytest.raises(TransportError, match="no agent has run"):
        read_status(tmp_path / "none")


@given(st.data())
def test_mutated_status(data: st.DataObject) -> None:
    """A status with any byte changed gives a status or MalformedError, never any other error."""
    encoded = bytearray(STATUS.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_status(bytes(encoded))
    except MalformedError:
        return


def test_crash_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old content and nothing else."""
    with StateDirectory(tmp_path / "state") as directory:
        directory.save(memory("old"))
        before = sorted(path.name for path in directory.path.iterdir())

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(TransportError, match="No space left"):
            directory.save(memory("new"))
        monkeypatch.undo()
        assert sorted(path.name for path in directory.path.iterdir()) == before
        assert parse_memory((directory.path / "agent.json").read_bytes()) == memory("old")


def test_a_leftover_of_an_earlier_lease_is_removed(tmp_path: Path) -> None:
    """What a killed agent left in a file of its own cannot pass for a lease."""
    token = tmp_path / "token"
    with StateDirectory(tmp_path / "state") as state:
        state.claim(token)
        token.write_bytes(b"an old token")
        state.claim(token)
    assert not token.exists()


def test_a_file_of_somebody_else_is_never_removed(tmp_path: Path) -> None:
    """A mistyped path is refused and loses nothing."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"work")
    with (
        StateDirectory(tmp_path / "state") as state,
        pytest.raises(MalformedError, match="is there already"),
    ):
        state.claim(tmp_path / "token", precious)
    assert precious.read_bytes() == b"work"


@pytest.mark.parametrize("damage", [b"{", b"7", b"[1]", b"\xff"])
def test_a_damaged_record_of_files_is_an_error(tmp_path: Path, damage: bytes) -> None:
    """Nothing is removed on the word of a record that cannot be read."""
    with StateDirectory(tmp_path / "state") as state:
        (state.path / "claimed.json").write_bytes(damage)
        with pytest.raises(MalformedError, match="damaged"):
            state.claim(tmp_path / "token")


@pytest.fixture
def sent() -> Sent:
    """A renewal that was sent in this boot."""
    challenge = Challenge(bytes(32), b"n" * 32, 100, 220, {HashAlg.SHA256: (0,)})
    return Sent(boot_id(), Question(challenge, 12.5), 13.25, b"evidence")


def test_what_was_sent_is_read_back(tmp_path: Path, sent: Sent) -> None:
    """The renewal that was sent last outlives the agent, and no other boot."""
    with StateDirectory(tmp_path / "state") as directory:
        assert directory.load_sent() is None
        directory.save_sent(sent)
        assert directory.load_sent() == sent
        directory.save_sent(dataclasses.replace(sent, boot_id="another"))
        assert directory.load_sent() is None
    assert stat.S_IMODE((tmp_path / "state" / "sent.cbor").stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"x", b"\xa0", b"\xa1\x61v\x02"])
def test_what_was_sent_may_be_torn(tmp_path: Path, data: bytes) -> None:
    """What a loss of power left of it counts as nothing: the lineage has ended anyway."""
    with StateDirectory(tmp_path / "state") as directory:
        (tmp_path / "state" / "sent.cbor").write_bytes(data)
        assert directory.load_sent() is None


@given(st.binary(max_size=200))
def test_any_bytes_that_were_sent(data: bytes) -> None:
    """Any bytes are what was sent, or malformed."""
    try:
        Sent.parse(data)
    except MalformedError:
        return
