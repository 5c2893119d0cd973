"""Finding, making, freezing and thawing control groups."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bootlease.leash import cgroup
from bootlease.leash.cgroup import CgroupError, WorkloadGroup
from bootlease.leash.mounts import Mount


def mount(root: str, point: Path, kind: str = "cgroup2", options: str = "rw") -> Mount:
    """Return a mount."""
    return Mount(f"1 1 0:1 {root} {point} rw - {kind} cgroup {options}")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which this process is in /user/own of a hierarchy mounted at ``tmp_path``."""
    own = tmp_path / "user" / "own"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    monkeypatch.setattr(cgroup, "mounted", lambda: iter([mount("/", tmp_path)]))
    monkeypatch.setattr(
        cgroup, "_own_paths", lambda _: iter([("freezer", "/a"), ("", "/user/own")])
    )
    return own


def test_own_folder_is_found_beside_v1(host: Path) -> None:
    """The unified hierarchy is found by its type, wherever it is mounted."""
    assert cgroup.own_folder() == host


@pytest.mark.parametrize(
    ("root", "path"),
    [("/other", "/user/own"), ("/user/ow", "/user/own"), ("/", "/../outside")],
    ids=["elsewhere", "a name that only begins so", "outside of a cgroup namespace"],
)
def test_group_out_of_sight(
    root: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that does not show this process's group is not taken for one that does."""
    monkeypatch.setattr(cgroup, "mounted", lambda: iter([mount(root, tmp_path)]))
    monkeypatch.setattr(cgroup, "_own_paths", lambda _: iter([("", path)]))
    with pytest.raises(CgroupError):
        cgroup.own_folder()


def test_part_of_a_hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container is shown its own part only, the group is below that."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "cgroup.procs").touch()
    monkeypatch.setattr(cgroup, "mounted", lambda: iter([mount("/user", tmp_path)]))
    monkeypatch.setattr(cgroup, "_own_paths", lambda _: iter([("", "/user/own")]))
    assert cgroup.own_folder() == tmp_path / "own"


def test_kernel_without_kill(host: Path) -> None:
    """A group without cgroup.kill is none to rely on, and is removed again."""
    with pytest.raises(CgroupError, match=r"cgroup\.kill"):
        WorkloadGroup.make()
    assert [path.name for path in host.iterdir()] == ["cgroup.procs"]


def test_no_hierarchy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cgroup v2 there is no group."""
    monkeypatch.setattr(cgroup, "_own_paths", lambda _: iter([("freezer", "/")]))
    with pytest.raises(CgroupError):
        cgroup.own_folder()


def made() -> WorkloadGroup:
    """Make a group on this machine."""
    try:
        return WorkloadGroup.make()
    except CgroupError as exc:
        pytest.skip(f"no cgroup v2 group is to be had here: {exc}")


def test_group_is_frozen_thawed_and_killed() -> None:
    """What is in it stands still, goes on and dies as one."""
    group = made()
    process = subprocess.Popen(["sleep", "60"])
    try:
        (group.folder / "cgroup.procs").write_text(str(process.pid))
        assert group.members() == [process.pid]
        assert group.freeze(5.0)
        group.thaw()
        assert process.poll() is None
        group.kill()
        assert process.wait(5) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait(5)
        assert group.remove()
    assert not group.folder.exists()
    group.kill()
    assert group.remove()


def test_group_of_a_guard_that_was_killed_is_cleared_up() -> None:
    """An empty group whose guard is no more goes when the next one is made."""
    group = made()
    process = subprocess.Popen(["true"])
    process.wait(5)
    left = group.folder.parent / f"bootlease-{process.pid}-00000000"
    left.mkdir()
    try:
        made().remove()
        assert not left.exists()
    finally:
        if left.exists():
            left.rmdir()
        group.remove()


def test_frozen_v1_group_is_thawed() -> None:
    """What cgroup v1 froze is thawed, so that it can die."""
    freezer = Path("/sys/fs/cgroup/freezer")
    if not (freezer / "cgroup.procs").exists() or os.geteuid() != 0:
        pytest.skip("no cgroup v1 freezer to write here")
    group = freezer / f"bl-unit-{os.getpid()}"
    inner = group / "inner"
    inner.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "60"])
    try:
        (inner / "cgroup.procs").write_text(str(process.pid))
        (group / "freezer.state").write_text("FROZEN")
        process.kill()
        time.sleep(0.1)
        assert process.poll() is None
        cgroup.thaw_frozen([process.pid])
        assert process.wait(5) == -signal.SIGKILL
    finally:
        (group / "freezer.state").write_text("THAWED")
        process.wait(5)
        inner.rmdir()
        group.rmdir()
