"""No lease, no start; and how levels are chosen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootlease.leash.killing import gone
from bootlease.localapi import EndedReason
from bootlease.model import Finding
from bootlease.testing.scripted_agent import ScriptedAgent
from tests.integration.leash.conftest import PYTHON, Start, as_nobody, boottime
from tests.integration.leash.test_lapse import SLACK


def test_no_agent(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """Without an agent nothing is started, and the exit code is 123."""
    agent.die()
    marker = folder / "began"
    leashed = start("touch", str(marker), options=["--wait", "0.5"], wait=False)
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("unreached", 123)
    assert not marker.exists()


def test_no_answer(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """While the verifier gives no answer nothing is started; the log says what was tried."""
    agent.life = None
    marker = folder / "began"
    leashed = start("touch", str(marker), options=["--wait", "1"], wait=False)
    agent.wait_for_streams(1)
    agent.unreached("the verifier does not answer")
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("unreached", 123)
    assert "the verifier does not answer" in ending["message"]
    assert not marker.exists()


def test_refused(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """A refused lease starts nothing: 121, and the finding is told."""
    agent.refuse(Finding("workload.rule.none", "No rule permits it."))
    marker = folder / "began"
    ending = start("touch", str(marker), wait=False).end()
    assert (ending["reason"], ending["returncode"]) == ("refused", 121)
    assert ending["findings"][0]["id"] == "workload.rule.none"
    assert not marker.exists()


def test_refused_node(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """A node that is refused gets nothing by waiting: 121 at once, and the finding is told."""
    agent.life = None
    marker = folder / "began"
    leashed = start("touch", str(marker), options=["--wait", "60"], wait=False)
    agent.wait_for_streams(1)
    agent.end(EndedReason.REFUSED, Finding("a.b", "No."))
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("refused", 121)
    assert ending["findings"][0]["id"] == "a.b"
    assert not marker.exists()


def test_lease_that_has_ended(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """A lease that is over when it comes, by either clock, starts nothing."""
    agent.life = None
    marker = folder / "began"
    leashed = start("touch", str(marker), options=["--wait", "1.5"], wait=False)
    agent.wait_for_streams(1)
    agent.grant(60, expires_at=1)
    agent.grant(60, deadline=boottime() - 1)
    assert leashed.end()["returncode"] == 123
    assert not marker.exists()


def test_wall_clock_ends_it_too(start: Start, agent: ScriptedAgent) -> None:
    """A wall clock that reaches `exp` first, as one set forward does, ends the workload."""
    agent.life = None
    leashed = start("sleep", "60", wait=False)
    agent.wait_for_streams(1)
    agent.grant(60)
    leashed.logged("started")
    tree = leashed.tree(2)
    at = boottime()
    agent.grant(60, expires_at=1)
    # A grant that is over is none; the one before stands.
    agent.grant(60, expires_at=int(time.time()) + 2)
    tree.wait()
    assert tree.last <= at + 2 + SLACK
    assert leashed.end()["reason"] == "lapsed"


def test_no_lease_is_longer_than_it_was_granted_for(start: Start, agent: ScriptedAgent) -> None:
    """A deadline of another clock, as from another time namespace, prolongs nothing."""
    agent.life = None
    leashed = start("sleep", "60", wait=False)
    agent.wait_for_streams(1)
    at = boottime()
    agent.grant(1.0, deadline=at + 5000)
    leashed.logged("started")
    tree = leashed.tree(2)
    tree.wait()
    assert tree.last <= boottime()
    assert tree.last <= at + 1 + 2 * SLACK


def test_time_namespace_is_refused(start: Start, folder: Path) -> None:
    """A guard whose CLOCK_BOOTTIME somebody shifted starts nothing."""
    marker = folder / "began"
    prefix = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "1000", "--fork"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no time namespace can be made here")
    ending = start("touch", str(marker), prefix=prefix, wait=False).end()
    assert (ending["reason"], ending["returncode"]) == ("leash", 125)
    assert "time namespace" in ending["message"]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (["/no/such/program"], 127, "not-found"),
        (["no-such-program-anywhere"], 127, "not-found"),
        (["/etc/hostname"], 126, "not-executable"),
        (["/etc"], 126, "not-executable"),
    ],
    ids=["path", "name", "file", "folder"],
)
def test_command_that_cannot_run(command: list[str], code: int, reason: str, start: Start) -> None:
    """A command that is not there, or is none, has the shell's exit codes."""
    ending = start(*command, wait=False).end()
    assert (ending["reason"], ending["returncode"]) == (reason, code)
    assert ending["message"].startswith(f"{command[0]}: ")


def test_level_that_is_not_to_be_had(folder: Path, start: Start, agent: ScriptedAgent) -> None:
    """A required level above what was had: 124, no lease is asked for, nothing starts."""
    marker = folder / "began"
    options = ["--level", "1", "--require-level", "2"]
    ending = start("touch", str(marker), options=options, wait=False).end()
    assert (ending["reason"], ending["returncode"]) == ("level", 124)
    assert agent.asks == []
    assert not marker.exists()


def test_level_3_names_the_key_that_it_takes(start: Start, agent: ScriptedAgent) -> None:
    """Level 3 is not the system's to give: who asks for it hears of the option."""
    ending = start("true", options=["--require-level", "3"], wait=False).end()
    assert (ending["reason"], ending["returncode"]) == ("level", 124)
    assert "--confirmation tpm-expiring" in ending["message"]
    assert agent.asks == []


@pytest.mark.parametrize("level", [0, 1])
def test_level_is_stated(level: int, start: Start, agent: ScriptedAgent) -> None:
    """The request for the lease states the level that stands."""
    start("sleep", "60", options=["--level", str(level)])
    assert [ask.level for ask in agent.asks] == [level]


@pytest.mark.usefixtures("as_root")
def test_root_has_level_2(start: Start, agent: ScriptedAgent) -> None:
    """Root on a host with cgroup v2, mixed or not, has level 2; with an expiring key, 3."""
    start("sleep", "60", options=["--require-level", "2"])
    start("sleep", "60", options=["--require-level", "3", "--confirmation", "tpm-expiring"])
    assert [ask.level for ask in agent.asks] == [2, 3]


def test_ordinary_user_has_level_1(start: Start, agent: ScriptedAgent) -> None:
    """An ordinary user has level 1 where the system lets one make a user namespace."""
    start("sleep", "60", prefix=as_nobody(), options=["--require-level", "1", "--level", "1"])
    assert [ask.level for ask in agent.asks] == [1]


CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
DAEMON = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)"


def _container() -> list[str]:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to make a container with")
    return list(CONTAINER)


def test_first_process_of_a_container(start: Start) -> None:
    """As a container's first process it ends all that runs there, at level 0, and says so."""
    leashed = start(*PYTHON, DAEMON, prefix=_container(), options=["--level", "0"])
    tree = leashed.tree(4)
    deadline = leashed.deadline
    tree.wait()
    assert tree.last <= deadline + 2 * SLACK
    ending = leashed.end()
    assert (ending["reason"], ending["returncode"]) == ("lapsed", 122)


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_guard_in_a_container(number: str, start: Start, folder: Path) -> None:
    """A workload in a container that kills or stops its guard ends itself."""
    program = (
        "import os, time\n"
        "pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]\n"
        "guards = [p for p in pids if b'bootlease' in open(f'/proc/{p}/cmdline', 'rb').read()"
        " and p not in (1, os.getpid())]\n"
        f"open({str(folder / 'guards')!r}, 'w').write(f'{{guards}}\\n')\n"
        # The test looks at the tree before it ends.
        "time.sleep(0.5)\n"
        f"[os.kill(p, {19 if number == 'STOP' else 9}) for p in guards]\n"
        "time.sleep(60)"
    )
    leashed = start(*PYTHON, program, prefix=_container(), options=["--level", "0"], wait=False)
    leashed.agent.wait_for_streams(1)
    tree = leashed.tree(3)
    deadline = leashed.deadline
    tree.wait()
    assert leashed.wait_for("guards") != "[]"
    assert tree.last <= deadline + 2 * SLACK
    assert leashed.end()["returncode"] in (122, 125)


def test_bystanders_are_not_swept(start: Start) -> None:
    """At level 0 a guard that had children before starts nothing, and they live on."""
    script = 'sleep 60 & echo $!; exec "$@"'
    leashed = start(
        "sleep",
        "60",
        prefix=["sh", "-c", script, "sh"],
        options=["--level", "0"],
        wait=False,
        stdout=subprocess.PIPE,
    )
    assert leashed.process.stdout is not None
    bystander = os.pidfd_open(int(leashed.process.stdout.readline()))
    try:
        ending = leashed.end()
        assert (ending["reason"], ending["returncode"]) == ("leash", 125)
        assert "children already" in ending["message"]
        assert not gone(bystander, 0.2)
    finally:
        signal.pidfd_send_signal(bystander, signal.SIGKILL)
        os.close(bystander)


def test_imports_little() -> None:
    """What a guard loads has no framework, no database, no TPM and no cryptography with it."""
    program = (
        "import sys, bootlease.cli.run_workload, bootlease.leash.feed, bootlease.leash.guard\n"
        "print(*(n for n in ('fastapi', 'httpx2', 'sqlalchemy', 'tpm2_pytss', 'uvicorn',"
        " 'cryptography', 'joserfc', 'cbor2') if n in sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == []
