"""What a workload on a leash has of its caller, and its caller of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bootlease.testing.scripted_agent import ScriptedAgent
from tests.integration.leash.conftest import PATIENCE, PYTHON, Start, as_nobody
from tests.integration.leash.test_lapse import SLACK


@pytest.mark.parametrize("level", ["0", "1", "2"])
@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status_is_passed_on(code: int, level: str, start: Start) -> None:
    """The guard exits as the workload does."""
    ending = start("sh", "-c", f"exit {code}", options=["--level", level], wait=False).end()
    assert (ending["reason"], ending["code"], ending["returncode"]) == ("exited", code, code)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "USR1"])
def test_signal_that_ended_it_is_told(name: str, start: Start) -> None:
    """A workload that a signal ended by itself: 128 + n."""
    ending = start("sh", "-c", f"kill -{name} $$", wait=False).end()
    number = signal.Signals[f"SIG{name}"]
    assert (ending["reason"], ending["returncode"]) == ("killed", 128 + number)
    assert f"SIG{name}" in ending["message"]


def test_streams_are_passed_through(start: Start) -> None:
    """Standard input, output and error are the caller's."""
    leashed = start(
        "sh",
        "-c",
        "cat; echo to-stderr >&2",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        wait=False,
    )
    out, _ = leashed.process.communicate("from stdin\n", timeout=PATIENCE)
    assert out == "from stdin\n"
    assert "to-stderr\n" in (leashed.folder / "log").read_text()


def test_output_ends_with_the_workload(start: Start) -> None:
    """Neither guard nor leash keeps a pipe open that the workload has closed."""
    leashed = start("sh", "-c", "echo out; exec >&- ; sleep 60", stdout=subprocess.PIPE)
    assert leashed.process.stdout is not None
    assert leashed.process.stdout.read() == "out\n"
    assert leashed.process.poll() is None


def test_environment_and_folder(start: Start, folder: Path) -> None:
    """The workload has its caller's environment and folder, and where its lease is."""
    command = ["sh", "-c", f"pwd > {folder}/cwd; env > {folder}/env"]
    leashed = start(*command, cwd="/usr", env={**os.environ, "FOR_IT": "yes"}, wait=False)
    leashed.end()
    environment = dict(
        line.split("=", 1) for line in (folder / "env").read_text().splitlines() if "=" in line
    )
    assert (folder / "cwd").read_text() == "/usr\n"
    assert environment["FOR_IT"] == "yes"
    assert environment["BOOTLEASE_WORKLOAD_SOCKET"] == str(folder / "socket")
    assert environment["BOOTLEASE_LEASE"] == leashed.agent.asks[0].handle


def test_stray_descriptors_are_closed(start: Start, folder: Path) -> None:
    """The workload has the descriptors 0, 1 and 2, and no other."""
    read, write = os.pipe()
    program = (
        f"import os; open({str(folder / 'fds')!r}, 'w').write(repr(os.listdir('/proc/self/fd')))"
    )
    leashed = start(*PYTHON, program, pass_fds=(read, write), wait=False)
    os.close(read)
    os.close(write)
    leashed.end()
    # listdir's own, and the file's, are 3 and 4.
    assert sorted(eval((folder / "fds").read_text())) == ["0", "1", "2", "3", "4"]  # noqa: S307


def test_closed_descriptor_stays_closed(start: Start, folder: Path) -> None:
    """A caller that closed standard input finds it closed in the workload, not something else."""
    leashed = start(
        "sh",
        "-c",
        f"(test -e /proc/$$/fd/0; echo $?) > {folder}/open; true",
        prefix=["sh", "-c", 'exec "$@" <&-', "sh"],
        wait=False,
    )
    assert leashed.end()["returncode"] == 0
    assert (folder / "open").read_text() == "1\n"


@pytest.mark.parametrize("number", [15, 2, 1, 3, 10, 12, 28], ids=lambda n: signal.Signals(n).name)
def test_signal_is_forwarded(number: int, start: Start, folder: Path) -> None:
    """What is sent to the guard reaches the workload, which may take it as it likes."""
    program = (
        "import os, signal, time\n"
        f"def got(n, f): open({str(folder / 'got')!r}, 'w').write(f'{{n}}\\n')\n"
        f"signal.signal({number}, got)\n"
        f"open({str(folder / 'up')!r}, 'w').write('up\\n')\n"
        "time.sleep(60)"
    )
    leashed = start(*PYTHON, program)
    leashed.wait_for("up")
    leashed.process.send_signal(number)
    assert leashed.wait_for("got") == str(number)
    assert leashed.process.poll() is None


def test_ignored_signal_stays_ignored(start: Start, folder: Path) -> None:
    """Under nohup the workload ignores SIGHUP as well."""
    command = f"grep SigIgn /proc/self/status > {folder}/ignored"
    leashed = start("sh", "-c", command, prefix=["nohup"], wait=False)
    leashed.end()
    mask = int((folder / "ignored").read_text().split()[1], 16)
    # What this process has been told to ignore, by whoever started it, is passed on as well.
    assert mask & ~_ignored_here() == 1 << (signal.SIGHUP - 1)


def _ignored_here() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16) & ~(1 << (signal.SIGHUP - 1))


def test_suspended_and_resumed(start: Start) -> None:
    """SIGTSTP to the guard stops the workload, SIGCONT lets it go on."""
    leashed = start("sleep", "60")
    leashed.agent.grant(8)
    pid = leashed.tree(2).youngest

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    for number, wanted in ((signal.SIGTSTP, "T"), (signal.SIGCONT, "S")):
        leashed.process.send_signal(number)
        until = time.monotonic() + PATIENCE
        while state() != wanted and time.monotonic() < until:
            time.sleep(0.01)
        assert state() == wanted


def test_signal_before_the_start(start: Start, folder: Path, agent: ScriptedAgent) -> None:
    """SIGTERM before the lease has come: nothing starts, 143."""
    agent.life = None
    leashed = start("touch", str(folder / "began"), wait=False)
    agent.wait_for_streams(1)
    leashed.process.send_signal(signal.SIGTERM)
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("interrupted", 143)
    assert not (folder / "began").exists()


@pytest.mark.parametrize("user", ["caller", "nobody"])
def test_likelier_victim_than_its_guard(user: str, start: Start, folder: Path) -> None:
    """Short of memory, the kernel takes the workload before its guard, whoever started it."""
    prefix = as_nobody() if user == "nobody" else []
    leashed = start(
        "sh", "-c", "cat /proc/self/oom_score_adj > score; sleep 60", prefix=prefix, cwd=folder
    )
    guard = Path(f"/proc/{leashed.process.pid}/oom_score_adj").read_text()
    assert int(leashed.wait_for("score")) > int(guard)


def test_zombies_are_reaped(start: Start) -> None:
    """Orphans that end are reaped; none stays a zombie."""
    program = (
        "import os, time\n"
        "for _ in range(50):\n"
        " pid = os.fork()\n"
        " if pid == 0:\n"
        "  os.fork() or os._exit(0)\n"
        "  os._exit(0)\n"
        " os.waitpid(pid, 0)\n"
        "time.sleep(60)"
    )
    leashed = start(*PYTHON, program)
    leash = leashed.leash
    until = time.monotonic() + PATIENCE
    children = Path(f"/proc/{leash}/task/{leash}/children")
    time.sleep(0.3)
    while len(children.read_text().split()) != 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(children.read_text().split()) == 1


def test_daemon_ends_with_the_first_process(start: Start) -> None:
    """What the workload left running ends when its first process does."""
    leashed = start("sh", "-c", "setsid sleep 60 & sleep 0.5; exit 7")
    tree = leashed.tree(3)
    tree.wait()
    ending = leashed.end()
    assert ending["returncode"] == 7
    assert tree.last - tree.first < 2 * SLACK


def test_grace(start: Start, folder: Path) -> None:
    """SIGTERM comes before the end, inside the lease; what is done with it is the workload's."""
    program = (
        "import signal, time\n"
        "def told(n, f):\n"
        " now = time.clock_gettime(time.CLOCK_BOOTTIME)\n"
        f" open({str(folder / 'told')!r}, 'w').write(f'{{now}}\\n')\n"
        "signal.signal(15, told)\n"
        "while True: time.sleep(60)"
    )
    leashed = start(*PYTHON, program, options=["--grace", "0.8"])
    tree = leashed.tree(2)
    deadline = leashed.deadline
    tree.wait()
    told = float(leashed.wait_for("told"))
    assert deadline - 0.81 <= told <= deadline - 0.8 + SLACK
    assert deadline - 0.002 <= tree.first
    assert leashed.end()["returncode"] == 122


def test_grace_taken(start: Start) -> None:
    """A workload that ends in its grace ended because of the lease: 122."""
    leashed = start("sleep", "60", options=["--grace", "1"])
    deadline = leashed.deadline
    tree = leashed.tree(2)
    tree.wait()
    ending = leashed.end()
    assert tree.last < deadline
    assert (ending["reason"], ending["returncode"]) == ("lapsed", 122)


def test_no_grace_after_a_renewal(start: Start, folder: Path) -> None:
    """A workload whose lease is renewed in time is not told of any end."""
    leashed = start(
        "sh", "-c", f"trap 'echo x > {folder}/told' TERM; sleep 60", options=["--grace", "0.3"]
    )
    for _ in range(10):
        time.sleep(0.3)
        leashed.agent.grant(1.5)
    assert not (folder / "told").exists()
    assert leashed.process.poll() is None
