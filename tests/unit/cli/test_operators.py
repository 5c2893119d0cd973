"""The commands of several operators: what is refused before a verifier is asked."""

from __future__ import annotations

import json

import click
import pytest

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE, tell_proposed
from bootlease.cli.operators import ROLES, credential
from bootlease.ports import Role

NODE = "00" * 32
NOBODY = ["--verifier", "http://127.0.0.1:9"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential in the environment."""
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "the-credential")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["label", NODE], "give --label"),
        (["label", NODE, "--label", "a", "--none"], "give --label"),
        (["label", "zz", "--none"], "64 lower-case hex digits"),
        (["replace", NODE], "give --by"),
        (["replace", NODE, "--by", NODE, "--join-token"], "give --by"),
        (["replace", NODE, "--by", "zz"], "64 lower-case hex digits"),
        (["readmit", NODE], "--reason"),
        (["credential", "add", "--label", "a"], "--role"),
        (["credential", "add", "--label", "a", "--role", "emperor"], "emperor"),
        (["credential", "add", "--role", "auditor"], "--label"),
        (["two-person", "maybe"], "maybe"),
    ],
)
def test_a_slip_is_said_before_anybody_is_asked(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and which option or argument it was."""
    assert run(["verifier", *words, *NOBODY]) == 2
    assert said in capfd.readouterr().err


def test_the_roles_that_can_be_given_are_those_that_there_are() -> None:
    """The command imports nothing heavy, so it has the names once more."""
    assert set(ROLES) == {role.value for role in Role}
    add = credential.commands["add"]
    (role,) = [each for each in add.params if each.name == "roles"]
    assert isinstance(role.type, click.Choice)
    assert role.multiple


def test_a_label_of_a_bundle_needs_a_join_token(
    tmp_path: object, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without one, nobody would be labelled."""
    words = ["verifier", "bundle", "--data", str(tmp_path), "-o", "-", "--label", "a"]
    assert run(words) == 2
    assert "--join-token" in capfd.readouterr().err


def test_what_waits_is_told_from_what_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    """A script finds the proposal in JSON, a person the command that approves it."""
    proposal = {"digest": "ab" * 32, "expires_at": 0}
    assert not tell_proposed({"id": "p"}, as_json=False)
    assert tell_proposed({"proposal": proposal}, as_json=False)
    assert f"bootlease policy approve {'ab' * 32}" in capfd.readouterr().out
    assert tell_proposed({"proposal": proposal}, as_json=True)
    assert json.loads(capfd.readouterr().out) == {"proposal": proposal}
