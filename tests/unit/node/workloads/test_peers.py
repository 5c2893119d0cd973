"""Who is at the other end: the kernel's word, and what is done where it is not to be had."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootlease.node.workloads import peers
from bootlease.node.workloads.peers import (
    Credentials,
    Peer,
    PeerGoneError,
    overflow_uid,
    read_credentials,
    read_peer,
)
from bootlease.node.workloads.rules import Rule
from bootlease.node.workloads.statx import identify

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends, both this process's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def connected(
    path: Path, script: str, program: str = sys.executable
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Have another process connect."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        text = (
            "import socket, sys, time, os\n"
            f"s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})\n{script}"
        )
        process = subprocess.Popen([program, "-c", text])
        return process, listener.accept()[0]


def test_this_process_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """Ids, groups, program and cgroups are those of who connected."""
    credentials = read_credentials(pair[0])
    assert credentials == Credentials(os.getpid(), os.geteuid(), os.getegid())
    peer, lifeline = read_peer(pair[0], credentials)
    assert peer.groups >= set(os.getgroups()) | {os.getegid()}
    assert peer.program == identify(sys.executable)
    assert peer.program is not None
    with open("/proc/self/cgroup", encoding="utf-8") as file:  # noqa: PTH123 - as it is
        unified = [line[3:] for line in file.read().split("\n") if line.startswith("0::")]
    assert set(unified) <= set(peer.cgroups)
    assert not lifeline.ended
    lifeline.close()
    lifeline.close()


def test_a_process_that_ended_is_not_read(tmp_path: Path) -> None:
    """Its number may be another's already."""
    process, connection = connected(tmp_path / "s", "")
    process.wait()
    with connection, pytest.raises(PeerGoneError):
        read_peer(connection, read_credentials(connection))


def test_a_process_that_ends_while_it_is_read_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read may be of the next process with its number."""
    process, connection = connected(tmp_path / "s", "time.sleep(60)")
    read = peers._cgroups

    def die(path: Path) -> tuple[str, ...]:
        found = read(path)
        process.kill()
        process.wait()
        return found

    monkeypatch.setattr(peers, "_cgroups", die)
    with connection, pytest.raises(PeerGoneError):
        read_peer(connection, read_credentials(connection))


def test_a_process_without_a_number_here_is_not_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """It is in a pid namespace that the agent does not see."""
    with pytest.raises(PeerGoneError):
        read_peer(pair[0], Credentials(0, 0, 0))


def test_no_descriptor_is_left_behind(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Neither by who is read nor by who is not."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        _, lifeline = read_peer(pair[0], read_credentials(pair[0]))
        lifeline.close()
        with pytest.raises(PeerGoneError):
            read_peer(pair[0], read_credentials(pair[0]), proc=tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class _OldSocket(socket.socket):
    """A socket of a kernel before Linux 6.5."""

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes | int:  # type: ignore[override]
        if option == peers._SO_PEERPIDFD:
            raise OSError(errno.ENOPROTOOPT, "not there")
        return (
            super().getsockopt(level, option, size) if size else super().getsockopt(level, option)
        )


def test_older_kernels_are_asked_by_number(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that another user's process has by now is noticed."""
    with _OldSocket(fileno=os.dup(pair[0].fileno())) as old:
        peer, lifeline = read_peer(old, read_credentials(old))
        assert peer.credentials.pid == os.getpid()
        lifeline.close()
        wrong = Credentials(os.getpid(), os.geteuid() + 1, 0)
        monkeypatch.setattr(peers, "read_credentials", lambda _: wrong)
        if os.geteuid() != 0:
            with pytest.raises(PeerGoneError):
                read_peer(old, wrong)
        gone = Credentials(2**22 - 1, os.geteuid(), 0)
        with pytest.raises(PeerGoneError):
            read_peer(old, gone)


def test_a_kernel_that_knows_better_is_believed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Where it says that the process is gone, its number is not asked instead."""

    class Gone(_OldSocket):
        def getsockopt(self, level: int, option: int, size: int = 0) -> bytes | int:  # type: ignore[override]
            if option == peers._SO_PEERPIDFD:
                raise OSError(errno.ESRCH, "gone")
            return super().getsockopt(level, option, size)

    with Gone(fileno=os.dup(pair[0].fileno())) as gone, pytest.raises(PeerGoneError):
        read_peer(gone, read_credentials(gone))


def test_cgroups_are_read_by_lines_of_the_kernel(tmp_path: Path) -> None:
    """A name may hold what other readers take for the end of a line."""
    path = tmp_path / "cgroup"
    path.write_bytes(
        b"7:freezer:/frozen\n5:name=systemd:/system.slice\n"
        b"0::/user.slice/a\x0b0::/system.slice/root.service\n"
    )
    assert peers._cgroups(path) == (
        "/system.slice",
        "/user.slice/a\x0b0::/system.slice/root.service",
    )


@pytest.mark.root
def test_supplementary_groups_are_read(tmp_path: Path) -> None:
    """As many as there is room for; beyond that the first alone counts, which permits less."""
    for count, read in ((1, 2), (255, 256), (300, 1)):
        path = tmp_path / f"s{count}"
        groups = list(range(70000, 70000 + count))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            script = (
                "import socket, sys\n"
                "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()"
            )
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(path)],
                stdin=subprocess.PIPE,
                extra_groups=groups,
            )
            connection, _ = listener.accept()
        with connection:
            peer, lifeline = read_peer(connection, read_credentials(connection))
            lifeline.close()
        process.communicate()
        assert len(peer.groups) == read


@pytest.mark.root
def test_a_program_put_at_anothers_path_is_not_that_other(tmp_path: Path) -> None:
    """In a mount namespace of its own a process can make its path whatever it likes."""
    wanted, evil = tmp_path / "wanted", tmp_path / "evil"
    shutil.copy("/bin/true", wanted)
    shutil.copy("/bin/sleep", evil)
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount --bind {evil} {wanted} && exec {wanted} 60"]
    )
    try:
        link, until = Path(f"/proc/{process.pid}/exe"), time.monotonic() + 10
        while str(link.readlink()) != str(wanted):
            assert time.monotonic() < until
            time.sleep(0.01)
        # Its link says the path that the rule names; it is another file all the same.
        program = identify(str(link))
        assert program == identify(str(evil))
        rule = Rule("r", ("a",), ("b",), exe=(str(wanted),))
        peer = Peer(Credentials(process.pid, 0, 0), frozenset(), program, ())
        assert not rule.speaks_of(peer)
    finally:
        process.kill()
        process.wait()


def test_a_user_who_may_be_anybody_is_told_as_such() -> None:
    """The number may be the user nobody's, or the kernel's for those who have none here."""
    nobody = Credentials(10, overflow_uid(), 1000)
    shown = str(Peer(nobody, frozenset(), None, ()))
    assert shown.startswith(f"user {overflow_uid()} (nobody, or without a number here), group 1000")


def test_files_are_told_apart(tmp_path: Path) -> None:
    """By what they are: a link is the same file, a copy another, nothing is none."""
    one = tmp_path / "one"
    one.write_text("x")
    (tmp_path / "hard").hardlink_to(one)
    (tmp_path / "soft").symlink_to(one)
    shutil.copy(one, tmp_path / "copy")
    found = identify(str(one))
    assert found is not None
    assert (found.inode, os.makedev(*found.device)) == (one.stat().st_ino, one.stat().st_dev)
    assert identify(str(tmp_path / "hard")) == identify(str(tmp_path / "soft")) == found
    assert identify(str(tmp_path / "copy")) != found
    assert identify(str(tmp_path / "absent")) is None


_LISTENS_APART = """
import socket, sys
from bootlease.node.workloads.peers import read_credentials
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
while True:
    who = read_credentials(listener.accept()[0])
    print(who.uid, who.mapped, flush=True)
"""


@pytest.mark.root
def test_a_user_without_a_number_here_is_known_for_one() -> None:
    """In a user namespace the kernel has one number for all users that have none there."""
    # Apart from pytest's own folders, which it closes to other users.
    folder = Path(tempfile.mkdtemp(prefix="bootlease-"))
    folder.chmod(0o755)
    path = folder / "s"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _LISTENS_APART]
    with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) as apart:
        assert apart.stdout is not None
        try:
            assert apart.stdout.readline() == "listens\n"
            path.chmod(0o666)
            seen = []
            for uid in (0, 12345):
                with socket.socket(socket.AF_UNIX) as client:
                    # The kernel notes the effective user of whoever connects.
                    os.seteuid(uid)
                    try:
                        client.connect(str(path))
                    finally:
                        os.seteuid(0)
                seen.append(apart.stdout.readline().split())
        finally:
            apart.kill()
            shutil.rmtree(folder)
    assert seen == [["0", "True"], [str(overflow_uid()), "False"]]
