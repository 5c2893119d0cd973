"""An interactive command on a leash: who has the terminal, and what its keys do."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.testing.scripted_agent import ScriptedAgent
from tests.integration.leash.conftest import PATIENCE


class Session:
    """A shell's place at a terminal: a session whose leader runs one command line at a time.

    Args:
        agent: The agent.
        script: What the shell is to run, None to be typed; ``$RUN`` is ``bootlease run … --``.
        shell: The shell.
    """

    def __init__(self, agent: ScriptedAgent, script: str | None, shell: tuple[str, ...]) -> None:
        run = (
            f"{sys.executable} -P -m bootlease run --scope a --audience b --socket {agent.path} --"
        )
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = [*shell, *([] if script is None else [script])]
            environment = {**os.environ, "RUN": run, "PS1": "$ "}
            os.execvpe(shell[0], command, environment)  # noqa: S606 - the shell itself
        attributes = termios.tcgetattr(self.fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until ``text`` has come."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no {text!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError as exc:
                raise TimeoutError(f"no {text!r} in {self.seen!r}") from exc
        return self.seen

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.fd, text.encode())

    def close(self) -> None:
        """Hang up."""
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        finally:
            os.waitpid(self.pid, 0)


@pytest.fixture
def sessions(agent: ScriptedAgent) -> Iterator[list[Session]]:
    """Sessions to be closed."""
    agent.life = 10.0
    opened: list[Session] = []
    yield opened
    for session in opened:
        session.close()


SHELL = ("bash", "--norc", "-i", "-c")


def test_interactive_command_has_the_terminal(
    agent: ScriptedAgent, sessions: list[Session]
) -> None:
    """It reads what is typed, sees a terminal, and Ctrl-C reaches it, once."""
    program = "trap 'echo INT' INT; test -t 0 && echo ready; read x; read x; echo got $x"
    session = Session(
        agent, f'$RUN sh -c "{program.replace("$", chr(92) + "$")}"; echo code $?', SHELL
    )
    sessions.append(session)
    session.until("ready")
    session.type("\x03")
    session.until("INT")
    session.type("one\ntwo\n")
    seen = session.until("code ")
    assert "got" in seen
    assert seen.count("INT") == 1


def test_ctrl_c_ends_it(agent: ScriptedAgent, sessions: list[Session]) -> None:
    """Ctrl-C ends a command that does not mind it: 130."""
    session = Session(agent, "$RUN sh -c 'echo ready; exec sleep 60'; echo code $?", SHELL)
    sessions.append(session)
    session.until("ready")
    time.sleep(0.2)
    session.type("\x03")
    session.until("code 130")


def test_ctrl_z_and_foreground(agent: ScriptedAgent, sessions: list[Session]) -> None:
    """Ctrl-Z gives the shell its terminal back, fg lets the command go on where it was."""
    interactive = Session(agent, None, ("bash", "--norc", "-i"))
    sessions.append(interactive)
    interactive.type("$RUN sh -c 'echo ready; read x; echo got $x'; echo code $?\n")
    interactive.until("ready\r\n")
    time.sleep(0.2)
    interactive.type("\x1a")
    interactive.until("Stopped")
    interactive.type("echo alive-$((1+1))\n")
    interactive.until("alive-2")
    interactive.type("fg\n")
    time.sleep(0.5)
    interactive.type("typed\n")
    interactive.until("got typed")


def test_pipeline_keeps_its_terminal(agent: ScriptedAgent, sessions: list[Session]) -> None:
    """In a pipeline the command after it may read the keyboard."""
    script = (
        "$RUN sh -c 'echo data; sleep 60'"
        " | sh -c 'read x; read y </dev/tty; echo piped $x typed $y; cat'; echo code $?"
    )
    session = Session(agent, script, SHELL)
    sessions.append(session)
    time.sleep(1.0)
    session.type("key\n")
    session.until("piped data typed key")


def test_terminal_hung_up(agent: ScriptedAgent, tmp_path: Path) -> None:
    """When the terminal goes, so does the workload, as it would without a leash."""
    marker = tmp_path / "pid"
    session = Session(
        agent, f"$RUN sh -c 'echo $$ > {marker}; echo ready; exec sleep 60'; true", SHELL
    )
    session.until("ready")
    agent.wait_for_streams(1)
    session.close()
    agent.wait_for_streams(0)


def test_nothing_is_typed_for_the_caller(
    agent: ScriptedAgent, sessions: list[Session], tmp_path: Path
) -> None:
    """A command cannot put a line into its terminal, for the shell to execute after its end."""
    program = tmp_path / "type.py"
    program.write_text(
        "import fcntl, sys\n"
        "for each in b'echo out-$((1+1))\\n':\n"
        "    try: fcntl.ioctl(0, 0x5412, bytes([each]))\n"
        "    except OSError as exc: sys.exit(exc.errno)\n"
    )
    interactive = Session(agent, None, ("bash", "--norc", "-i"))
    sessions.append(interactive)
    interactive.type(f"$RUN {sys.executable} {program}; echo code $?\n")
    interactive.until(f"code {errno.EPERM}")


def test_a_terminal_that_stops_writers_does_not_stop_the_guard(
    agent: ScriptedAgent, sessions: list[Session]
) -> None:
    """Under ``stty tostop`` a guard still says what happens, and goes on renewing."""
    script = "$RUN sh -c 'stty tostop; echo ready; read x; echo got $x'; echo code $?"
    session = Session(agent, script, SHELL)
    sessions.append(session)
    session.until("ready")
    agent.hang_up()
    session.until("bootlease: ")
    session.type("typed\n")
    session.until("got typed")
    session.until("code 0")
