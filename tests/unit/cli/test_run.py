"""The whole command line: exit codes, and what becomes of its standard streams."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from bootlease import cli
from bootlease.cli import bootlease, run
from bootlease.cli.exits import ExitCode
from bootlease.errors import VerificationError
from bootlease.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which ``$bootlease`` is the command."""
    prologue = f'bootlease="{sys.executable} -m bootlease"; '
    return subprocess.run(
        ["bash", "-c", prologue + script], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", ["--help", "token show x"])
def test_closed_standard_output_is_wrong_usage(command: str) -> None:
    """What nobody can read is not begun: one line and 2, never a traceback."""
    done = shell(f"$bootlease {command} >&-")
    assert (done.returncode, done.stderr) == (2, "bootlease: error: standard output is closed\n")


@pytest.mark.parametrize("closed", [">&- 2>&-", "2>&-"])
def test_closed_standard_error_changes_no_exit_code(closed: str) -> None:
    """Without a place for complaints the exit code still says what happened."""
    assert shell(f"$bootlease token show x {closed}").returncode == 2


def test_complaints_that_cannot_be_written_change_no_exit_code() -> None:
    """A full disk under standard error hides the complaint, not the exit code."""
    assert shell("$bootlease token show x 2>/dev/full").returncode == 2
    assert shell("$bootlease token verifer 2>/dev/full").returncode == 2


@pytest.mark.parametrize("command", ["--help", "eventlog --help"])
def test_reader_that_has_gone_is_no_verdict(command: str) -> None:
    """A closed pipe ends the command as SIGPIPE would, never as a refusal or success."""
    done = shell(f"(sleep 0.3; $bootlease {command}) | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, "")


def test_full_standard_output_is_named() -> None:
    """Output that is lost is not success."""
    done = shell("$bootlease --help >/dev/full")
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr == (
        "bootlease: error: cannot write to standard output: No space left on device\n"
    )


def test_output_is_as_unbuffered_as_asked() -> None:
    """PYTHONUNBUFFERED keeps its meaning for who reads line by line."""
    code = (
        "import sys; from bootlease.cli import standard_output as output; output.install();"
        "print('now'); import os; os._exit(0)"
    )
    done = shell(f'PYTHONUNBUFFERED=1 {sys.executable} -c "{code}"')
    assert done.stdout == "now\n"


@pytest.fixture
def failing() -> Iterator[click.Command]:
    """A command that tests give a body."""
    command = click.Command("failing")
    cli._COMMANDS["failing"] = "failing"
    sys.modules["bootlease.cli.failing"] = module = type(sys)("failing")
    module.failing = command  # type: ignore[attr-defined]
    yield command
    del cli._COMMANDS["failing"], sys.modules["bootlease.cli.failing"]


def test_file_that_is_full_is_not_taken_for_standard_output(
    failing: click.Command, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file's own trouble keeps its own message."""

    def body() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.json")

    failing.callback = body
    assert run(["failing"]) == ExitCode.USAGE
    assert capfd.readouterr().err == "bootlease: error: out.json: No space left on device\n"


def test_notes_of_a_refusal_follow_its_findings(
    failing: click.Command, capfd: pytest.CaptureFixture[str]
) -> None:
    """What to do next stands below why."""
    refused = VerificationError(Finding("a.b", "It is so."))
    refused.add_note("hint: do otherwise")

    def body() -> None:
        raise refused

    failing.callback = body
    assert run(["failing"]) == ExitCode.REFUSED
    assert capfd.readouterr().err.splitlines() == [
        "bootlease: refused: It is so. [a.b]",
        "bootlease: hint: do otherwise",
    ]


def test_misspelt_command_gets_a_suggestion(capfd: pytest.CaptureFixture[str]) -> None:
    """The nearest command is named."""
    assert run(["verifer"]) == ExitCode.USAGE
    error = capfd.readouterr().err
    assert "No such command 'verifer'" in error
    assert "verifier" in error.replace("verifer'", "")


MINE = ("eventlog", "node", "token", "quote", "demo")


def test_no_short_help_is_cut() -> None:
    """Every line of a list of commands is a whole thought."""
    context = click.Context(bootlease)
    for name in MINE:
        command = bootlease.get_command(context, name)
        assert command is not None
        commands = [command, *getattr(command, "commands", {}).values()]
        for each in commands:
            short = each.get_short_help_str(limit=60)
            assert not short.endswith("..."), (name, each.name, short)
            assert short, each.name
