"""What a workload may try from inside against its leash and guard, as the same user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.leash.conftest import PYTHON, Leashed, Start, as_nobody
from tests.integration.leash.test_lapse import SLACK, gone_in_time

PREAMBLE: Final = """
import ctypes, errno, json, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def tried(call, *args):
    try:
        r = call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]
    if isinstance(r, int) and r < 0:
        return errno.errorcode[ctypes.get_errno()]
    return "done"
def tell(**found):
    with open("found.tmp", "w") as f: f.write(json.dumps(found) + chr(10))
    os.rename("found.tmp", "found")
def L(n): return ctypes.c_ulong(n)
"""

USERS: Final = ("root", "nobody")


def inside(start: Start, folder: Path, user: str, program: str, level: str = "2") -> Leashed:
    """Start ``program`` as a workload of ``user``."""
    if user == "root" and os.geteuid() != 0:
        pytest.skip("only root can try this")
    prefix = as_nobody() if user == "nobody" else []
    options = ["--level", "1" if user == "nobody" else level]
    code = PREAMBLE + program
    return start(*PYTHON, code, prefix=prefix, options=options, cwd=folder)


def found(leashed: Leashed) -> dict[str, Any]:
    """Return what the workload found."""
    told: dict[str, Any] = json.loads(leashed.wait_for("found"))
    return told


@pytest.mark.parametrize("user", USERS)
def test_signals_do_not_reach_the_leash(user: str, start: Start, folder: Path) -> None:
    """SIGKILL, SIGSTOP and every other signal to the first process, or to all, change nothing."""
    program = """
for n in range(1, 65):
    if n not in (9, 19, 32, 33): signal.signal(n, signal.SIG_IGN)
if os.fork() == 0:
    for n in range(1, 65):
        for pid in (1, 0):
            if pid == 0 and n in (9, 19, 32, 33): continue
            try: os.kill(pid, n)
            except OSError: pass
    tell(state=open("/proc/1/stat").read().rpartition(")")[2].split()[0])
    time.sleep(60)
while True: time.sleep(60)
"""
    leashed = inside(start, folder, user, program)
    assert found(leashed)["state"] in ("S", "R")
    tree = leashed.tree(3)
    leashed.agent.grant(1.5)
    gone_in_time(tree, leashed.deadline)
    assert leashed.end()["returncode"] == 122


@pytest.mark.parametrize("user", USERS)
def test_leash_cannot_be_traced_or_read(user: str, start: Start, folder: Path) -> None:
    """ptrace, /proc/1/mem, its descriptors and process_vm_readv are closed to the workload."""
    program = """
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
attach = tried(libc.ptrace, PTRACE_ATTACH, 1, None, None)
seize = tried(libc.ptrace, PTRACE_SEIZE, 1, None, None)
mem = tried(open, "/proc/1/mem", "r+b")
fds = tried(os.readlink, "/proc/1/fd/0")
env = tried(open, "/proc/1/environ", "rb")
pidfd = os.pidfd_open(1)
getfd = tried(libc.syscall, L(438), L(pidfd), L(3), L(0))
tell(results=[attach, seize, mem, fds, env, getfd])
time.sleep(60)
"""
    results = found(inside(start, folder, user, program))["results"]
    assert set(results) <= {"EPERM", "EACCES"}, results


@pytest.mark.parametrize("user", USERS)
def test_leash_cannot_be_slowed(user: str, start: Start, folder: Path) -> None:
    """Scheduling, affinity and niceness of the leash are not the workload's to set."""
    program = """
idle = tried(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0))
pinned = tried(os.sched_setaffinity, 1, {0})
nice = tried(os.setpriority, os.PRIO_PROCESS, 1, 19)
policy = os.sched_getscheduler(1)
tried(os.setpriority, os.PRIO_USER, 0, 5)
after = os.getpriority(os.PRIO_PROCESS, 1)
tell(results=[idle, pinned, nice], after=after)
time.sleep(60)
"""
    told = found(inside(start, folder, user, program))
    assert set(told["results"]) == {"EPERM"}
    assert told["after"] <= 0


@pytest.mark.parametrize("limit", ["CPU", "NOFILE", "AS", "DATA", "STACK"])
def test_limits_set_on_the_leash_only_end_it(limit: str, start: Start, folder: Path) -> None:
    """A limit that the same user sets on the leash (prlimit) ends it at worst, and all with it."""
    program = f"""
import resource
if os.fork() == 0: os.setsid()
else:
    tell(up=1)
    time.sleep(0.5)
    tried(resource.prlimit, 1, resource.RLIMIT_{limit}, (0, 0))
time.sleep(60)
"""
    leashed = inside(start, folder, "nobody", program)
    found(leashed)
    tree = leashed.tree(3)
    end = leashed.deadline
    tree.wait()
    assert tree.last <= end + SLACK
    assert leashed.end()["returncode"] in (122, 125)


@pytest.mark.parametrize("user", USERS)
def test_guard_is_out_of_sight(user: str, start: Start, folder: Path) -> None:
    """No process outside is to be seen in /proc, nor to be signalled, nor is its group."""
    program = """
seen = sorted(int(n) for n in os.listdir("/proc") if n.isdigit())
tell(seen=seen, own=os.getpid(), parent=os.getppid(), group=os.getpgrp())
time.sleep(60)
"""
    leashed = inside(start, folder, user, program)
    told = found(leashed)
    assert told["seen"] == [1, told["own"]]
    assert told["parent"] == 1
    assert told["group"] == told["own"]
    assert os.getpgid(leashed.process.pid) != os.getpgid(leashed.tree(2).youngest)


@pytest.mark.parametrize("user", USERS)
def test_group_signal_stays_inside(user: str, start: Start, folder: Path) -> None:
    """A signal to the workload's whole group does not reach the guard."""
    program = """
if os.fork() == 0:
    os.setpgid(0, 0)
    time.sleep(0.3)
    tell(up=1)
    time.sleep(60)
time.sleep(0.2)
os.kill(0, signal.SIGSTOP)
"""
    leashed = inside(start, folder, user, program)
    found(leashed)
    state = Path(f"/proc/{leashed.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "S"
    assert leashed.process.poll() is None


@pytest.mark.parametrize("user", USERS)
def test_no_privilege_to_undo_it(user: str, start: Start, folder: Path) -> None:
    """Mounting, joining other namespaces, setting clocks, loading modules are refused."""
    program = """
mount = tried(libc.mount, b"none", b"/proc", b"tmpfs", L(0), None)
umount = tried(libc.umount2, b"/proc", 2)
remount = tried(libc.mount, None, b"/proc", None, L(0x20 | 0x1000), None)
nspid = tried(lambda: libc.setns(os.open("/proc/1/ns/pid_for_children", os.O_RDONLY), 0))
nsmnt = tried(lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
clock = tried(lambda: time.clock_settime(time.CLOCK_REALTIME, 1))
module = tried(libc.syscall, L(175), None, L(0), b"")
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
tell(results=[mount, umount, remount, nspid, nsmnt, clock, module],
     new=status["NoNewPrivs"].strip(), eff=status["CapEff"].strip(), bnd=status["CapBnd"].strip())
time.sleep(60)
"""
    told = found(inside(start, folder, user, program))
    *refused, module = told["results"]
    assert set(refused) <= {"EPERM", "EACCES"}, refused
    # Where the kernel loads no modules at all, there is no such call.
    assert module in ("EPERM", "ENOSYS")
    assert told["new"] == "1"
    undoing = sum(1 << n for n in (16, 17, 19, 21, 22, 23, 24, 25, 27, 38, 39, 40))
    for name in ("eff", "bnd"):
        assert int(told[name], 16) & undoing == 0
    if user == "nobody":
        assert int(told["eff"], 16) == 0


@pytest.mark.parametrize("user", USERS)
def test_new_namespaces_do_not_lead_out(user: str, start: Start, folder: Path) -> None:
    """A workload that makes user, pid and time namespaces of its own ends as any other."""
    program = """
pid = os.fork()
if pid == 0:
    r = tried(libc.unshare, 0x10000000 | 0x20000000 | 0x20000 | 0x80)
    if os.fork() == 0:
        os.setsid()
        tell(r=r, pid=os.getpid())
        time.sleep(60)
    time.sleep(60)
time.sleep(60)
"""
    leashed = inside(start, folder, user, program)
    told = found(leashed)
    assert told["r"] == "done"
    assert told["pid"] == 1
    tree = leashed.tree(4)
    leashed.agent.grant(1.0)
    gone_in_time(tree, leashed.deadline)


@pytest.mark.usefixtures("as_root")
def test_root_cannot_reach_cgroups_or_the_kernel_by_files(start: Start, folder: Path) -> None:
    """Also root finds cgroups, /proc/sys and sysrq-trigger read-only."""
    program = """
import glob
procs = glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[:400]
moved = sorted({tried(open, p, "w") for p in procs})
v1 = "/sys/fs/cgroup/freezer"
made = tried(os.mkdir, v1 + "/out") if os.path.isdir(v1) else "EROFS"
core = tried(open, "/proc/sys/kernel/core_pattern", "w")
sysrq = tried(open, "/proc/sysrq-trigger", "w")
tell(moved=moved, made=made, core=core, sysrq=sysrq)
time.sleep(60)
"""
    told = found(inside(start, folder, "root", program))
    assert told["moved"] == ["EROFS"]
    assert (told["made"], told["core"]) == ("EROFS", "EROFS")
    # Where the kernel was built without it, it is not there.
    assert told["sysrq"] in ("EROFS", "ENOENT")


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("namespaces", [0x10000000 | 0x20000, 0x10000000 | 0x20000 | 0x02000000])
def test_root_cannot_mount_cgroups_anew(namespaces: int, start: Start, folder: Path) -> None:
    """No namespace lets root mount a writable cgroup hierarchy, with which to freeze its leash."""
    program = f"""
made = tried(libc.unshare, {namespaces})
os.mkdir("mnt")
kinds = [(b"cgroup2", None), (b"cgroup", b"freezer"), (b"cgroup", b"cpu")]
mounted = [tried(libc.mount, b"none", b"mnt", kind, L(0), more) for kind, more in kinds]
tell(made=made, mounted=mounted)
time.sleep(60)
"""
    told = found(inside(start, folder, "root", program))
    assert told["made"] == ("EPERM" if namespaces & 0x02000000 else "done")
    assert "done" not in told["mounted"]


def test_set_uid_program_gains_nothing(start: Start, folder: Path) -> None:
    """An exec of a set-uid program does not raise the workload's privileges."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a set-uid program of another user's")
    program = folder / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    ran = start(str(program), "-u", prefix=as_nobody(), stdout=subprocess.PIPE, wait=False)
    out, _ = ran.process.communicate(timeout=15)
    assert out.strip() == "65534"


def test_everything_passed_to_a_process_outside_does_not_keep_the_tree(
    start: Start, folder: Path
) -> None:
    """Descriptors that the workload sent to a process outside keep nobody alive."""
    sink = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, socket, time, array\n"  # noqa: ISC004 - one argument
            f"s = socket.socket(socket.AF_UNIX); s.bind({str(folder / 'sink')!r}); s.listen()\n"
            f"os.chmod({str(folder / 'sink')!r}, 0o666)\n"
            "c, _ = s.accept()\n"
            "m = c.recvmsg(1, 1024)\n"
            "time.sleep(60)",
        ]
    )
    try:
        program = f"""
import socket, array
s = socket.socket(socket.AF_UNIX)
while tried(s.connect, {str(folder / "sink")!r}) != "done": time.sleep(0.05)
fds = [os.pidfd_open(1), os.pidfd_open(os.getpid()), 0]
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
tell(sent=1)
time.sleep(60)
"""
        leashed = inside(start, folder, "nobody", program)
        found(leashed)
        tree = leashed.tree(2)
        end = leashed.deadline
        os.kill(leashed.process.pid, signal.SIGSTOP)
        tree.wait()
        assert tree.last <= end + 0.02 + SLACK
    finally:
        sink.kill()
        sink.wait(15)
