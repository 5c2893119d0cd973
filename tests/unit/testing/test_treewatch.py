"""Watching trees from outside, on trees of plain processes in a pid namespace."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.testing.branches import KINDS, command
from bootlease.testing.treewatch import MARK, TreeWatch, boottime, processes_marked

NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
ENDLESS = {"fork-bomb", "memory"}
"""Kinds that are let loose in a cgroup only."""


@pytest.fixture
def watch() -> Iterator[TreeWatch]:
    """A watch of one's own."""
    with TreeWatch(f"unit-{secrets.token_hex(4)}-") as made:
        yield made


def grow(name: str, folder: Path, *kinds: str) -> subprocess.Popen[bytes]:
    """Grow a tree and wait until it stands."""
    process = subprocess.Popen(
        [*NAMESPACE, *command(*kinds)],
        env={**os.environ, MARK: name, "BRANCHES": str(folder)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as said:
        if said.readline() != b"ready\n":
            process.kill()
            process.wait()
            pytest.fail("the tree did not grow")
    return process


def test_every_kind_of_branch_is_seen_to_live_and_to_end(watch: TreeWatch, tmp_path: Path) -> None:
    """Whatever a process does to get out of sight, it is seen until it ends, and not later."""
    kinds = sorted(KINDS.keys() - ENDLESS)
    name = watch.name("tree")
    guard = grow(name, tmp_path, *kinds)
    tree = watch.wait_for(name, len(kinds) + 2, 10)
    began = boottime()
    guard.kill()
    guard.wait()
    tree = watch.wait_for_end(name, 10)
    assert began < tree.last_gone() < began + 1
    assert {process.pid for process in tree.processes} > {guard.pid}
    assert list(processes_marked(name)) == []


def test_a_stopped_tree_has_not_ended(watch: TreeWatch, tmp_path: Path) -> None:
    """What is stopped still lives."""
    name = watch.name("tree")
    guard = grow(name, tmp_path, "stopped")
    watch.wait_for(name, 3, 10)
    with pytest.raises(TimeoutError, match="there is still"):
        watch.wait_for_end(name, 0.2)
    with pytest.raises(ValueError, match="has not ended"):
        watch.tree(name).last_gone()
    guard.send_signal(signal.SIGKILL)
    guard.wait()
    assert watch.wait_for_end(name, 10).alive() == []


def test_a_killed_child_that_nobody_waits_for_has_ended(watch: TreeWatch) -> None:
    """A zombie runs no more, and has the time of its death."""
    name = watch.name("tree")
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: name})
    watch.wait_for(name, 1, 10)
    process.kill()
    before = boottime()
    try:
        assert watch.wait_for_end(name, 10).last_gone() < before + 0.5
        time.sleep(0.05)
        assert len(watch.tree(name).processes) == 1
    finally:
        process.wait()


def test_a_tree_that_nobody_started_was_never_seen(watch: TreeWatch) -> None:
    """No process is no proof that a tree has ended."""
    with pytest.raises(ValueError, match="has not ended"):
        watch.tree(watch.name("none")).last_gone()
    with pytest.raises(TimeoutError):
        watch.wait_for_end(watch.name("none"), 0.05)
    with pytest.raises(TimeoutError):
        watch.wait_for(watch.name("none"), 1, 0.05)
