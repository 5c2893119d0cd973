"""Boot phases, found between a log's PCR 11 and the quoted one."""

from __future__ import annotations

import pytest

from bootlease.bootstate.phases import PHASES, find_phases
from bootlease.model import HashAlg

SHA256 = HashAlg.SHA256


def extended(value: bytes, *phases: str, bank: HashAlg = SHA256) -> bytes:
    """PCR 11 after some phases."""
    for phase in phases:
        value = bank.digest(value + bank.digest(phase.encode()))
    return value


@pytest.mark.parametrize("bank", [HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384])
@pytest.mark.parametrize("reached", range(len(PHASES) + 1))
def test_phases_of_a_usual_boot(reached: int, bank: HashAlg) -> None:
    """Every prefix of systemd's phases is found, in each bank."""
    start = bank.digest(b"a unified kernel image")
    path = PHASES[:reached]
    assert find_phases(start, extended(start, *path, bank=bank), bank) == path


@pytest.mark.parametrize(
    "path", [("sysinit", "ready"), ("leave-initrd", "sysinit"), ("enter-initrd", "final")]
)
def test_phases_may_be_missing(path: tuple[str, ...]) -> None:
    """A machine without an initrd reaches "sysinit" first."""
    start = bytes(32)
    assert find_phases(start, extended(start, *path), SHA256) == path


@pytest.mark.parametrize(
    "path",
    [
        ("ready", "sysinit"),
        ("enter-initrd", "enter-initrd"),
        ("enter-initrd\0",),
        ("unknown",),
        ("enter-initrd", "unknown", "leave-initrd"),
    ],
)
def test_other_extends_are_no_phases(path: tuple[str, ...]) -> None:
    """A wrong order, a repetition and any other extend lead nowhere."""
    start = bytes(32)
    assert find_phases(start, extended(start, *path), SHA256) is None
