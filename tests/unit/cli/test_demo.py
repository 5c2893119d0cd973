"""``bootlease demo``: whatever ends it, it cleans up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.testing import demo


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_demo_cleans_up(
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each way to stop it removes its folder, says so, and has the signal's exit code."""
    folders: list[Path] = []

    def play(story: object, folder: Path) -> None:
        del story
        folders.append(folder)
        os.kill(os.getpid(), number)
        pytest.fail("the signal did not interrupt")

    monkeypatch.setattr(demo, "_play", play)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run(["demo"]) == code
    assert capfd.readouterr().err == "bootlease: interrupted; everything is stopped and removed\n"
    assert not folders[0].exists()
    after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == handlers


def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGHUP that is ignored on purpose stays ignored."""
    monkeypatch.setattr(demo, "_play", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(["demo"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
