"""Ending everything, with processes of this test's own in place of a leash and its workload."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bootlease.leash import killing
from bootlease.leash.laying import LaidLeash
from bootlease.leash.plan import Hold

_TREE = (
    "import os\nif os.fork():\n print(flush=True)\n os.wait()\nelse:\n import time\n time.sleep(60)"
)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[LaidLeash]:
    """A leash that does not die at the first look, as a frozen one; it waits for its child."""
    tree = subprocess.Popen([sys.executable, "-I", "-S", "-c", _TREE], stdout=subprocess.PIPE)
    assert tree.stdout is not None
    tree.stdout.readline()
    looks = iter([False])
    monkeypatch.setattr(killing, "gone", lambda *_: next(looks, True))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
    pidfd = os.pidfd_open(tree.pid)
    yield LaidLeash(Hold.NAMESPACE, tree.pid, pidfd, -1, None, ())
    tree.stdout.close()
    os.close(pidfd)
    tree.kill()
    tree.wait()


def test_who_is_left_is_killed_without_the_leash(frozen: LaidLeash) -> None:
    """A workload does not live for as long as somebody keeps its leash from dying."""
    looked = select.poll()
    looked.register(frozen.pidfd, select.POLLIN)
    killing._wait(frozen)
    assert looked.poll(5000)


def test_a_look_that_fails_is_not_the_last(
    frozen: LaidLeash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short of descriptors a guard looks again, and does not fail."""

    def fail(_: int) -> list[int]:
        raise OSError(23, "Too many open files in system")

    monkeypatch.setattr(killing, "descendants", fail)
    assert killing._wait(frozen)


@pytest.mark.parametrize(
    ("hold", "sent"),
    [
        (Hold.NAMESPACE, [(7, signal.SIGKILL)]),
        (Hold.CONTAINER, [(-1, signal.SIGKILL)]),
        (Hold.SWEEP, []),
    ],
)
def test_one_call_kills_all_that_it_can(
    hold: Hold, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace dies with its first process, a container by kill(2); a tree is swept later."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: seen.append(what))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *what: seen.append(what))
    killing.strike(LaidLeash(hold, 5, 7, -1, None, ()))
    assert seen == sent
