"""Telling a demonstration: commands that must end in a certain way, or the story is not true."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootlease.errors import TransportError
from bootlease.testing.story import Story, run_command, run_refused, service


def test_failed_command_ends_the_story(tmp_path: Path) -> None:
    """A command that fails is not told as if it had worked."""
    with pytest.raises(TransportError, match="bootlease token failed"):
        run_command(Story(tmp_path), "token", "show", str(tmp_path / "none"))


@pytest.mark.parametrize("arguments", [("--version",), ("token", "show", "none")])
def test_refusal_must_be_one(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Neither success nor a malformed input passes for a refusal."""
    with pytest.raises(TransportError, match="did not refuse"):
        run_refused(Story(tmp_path), *arguments)


def test_commands_are_told_with_short_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shown is what a person in that folder would type."""
    run_command(Story(tmp_path), "--version")
    Story(tmp_path).command(("token", "show", f"{tmp_path}/token"))
    assert capsys.readouterr().out.split("\n")[-2].strip() == "$ bootlease token show token"


def test_a_service_has_what_its_environment_is_given() -> None:
    """A process of the story can be told things that are not in its command line."""
    reading = "import os; print('it is', os.environ['STORY'], flush=True)"
    told = {"STORY": "told"}
    with service("reader", "timeit", "-n1", "-r1", reading, environment=told) as running:
        running.wait_for("it is told", seconds=10)
