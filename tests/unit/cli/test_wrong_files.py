"""Files and options that are not what a command wants: the user is told in their own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE
from bootlease.cli.policy import policy

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def junk(tmp_path: Path) -> Path:
    """A file that is nothing of ours."""
    path = tmp_path / "junk"
    path.write_bytes(b"# nothing of ours\n" * 9)
    return path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["reference", "import", "--unsafe-unsigned"], "junk: not a CoRIM that can be read: "),
        (["policy", "check"], "junk: policy: "),
        (["ima", "show"], "junk is not a measurement list of IMA: "),
        (["eventlog", "show"], "junk is not a TCG event log: "),
        (["reference", "show"], "junk is not a reference set: "),
    ],
)
def test_a_file_of_another_kind_is_named(
    junk: Path, capfd: Capture, command: list[str], said: str
) -> None:
    """Which file, and what it should have been, before what its parser says."""
    assert run([*command, str(junk)]) == 2
    assert said in capfd.readouterr().err


def test_diff_says_what_can_be_compared(junk: Path, capfd: Capture) -> None:
    """A file of no kind is named with the kinds that there are."""
    assert run(["reference", "diff", str(junk), str(junk)]) == 2
    printed = capfd.readouterr().err
    assert "junk: neither a reference set nor an IMA list nor an event log: " in printed


def test_what_is_no_toml_is_called_so(tmp_path: Path, capfd: Capture) -> None:
    """The reader's own words alone leave open what it tried to read."""
    (tmp_path / "policy.toml").write_text("{}")
    assert run(["policy", "check", str(tmp_path / "policy.toml")]) == 2
    assert "policy: not TOML: " in capfd.readouterr().err


def test_standard_input_is_called_so() -> None:
    """Nobody looks for a file with the name of a dash."""
    refused = CliRunner().invoke(policy, ["check", "-"], input="schema = 2").exception
    assert str(refused).startswith("standard input: policy: ")


def test_a_path_of_bytes_is_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """Files of an image are opened by bytes, and named as the user knows them."""
    (tmp_path / "a b").write_bytes(b"x")

    def refuse(name: bytes, *rest: object) -> None:
        del rest
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("bootlease.cli.file_hashes._hash_file", refuse)
    assert run(["reference", "ima", "directory", str(tmp_path), "--name", "web"]) == 2
    assert f"error: {tmp_path}/a b: Permission denied" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "kind"), [([], "regular file"), (["--programs-only"], "program")]
)
def test_an_empty_directory_makes_no_set(
    tmp_path: Path, capfd: Capture, options: list[str], kind: str
) -> None:
    """What is missing is a file, not a rule of sets."""
    command = ["reference", "ima", "directory", str(tmp_path), "--name", "web", *options]
    assert run(command) == 2
    assert f"there is no {kind} below {tmp_path}" in capfd.readouterr().err


def test_a_quoted_value_without_its_bank(tmp_path: Path, capfd: Capture) -> None:
    """The form is told, not which hash algorithms there are."""
    (tmp_path / "list").write_bytes(b"")
    assert run(["ima", "replay", "--quoted", "00" * 32, str(tmp_path / "list")]) == 2
    assert "is not BANK:HEX, such as sha256:<64 hex digits>" in capfd.readouterr().err


@pytest.mark.parametrize(
    "command", [["explain", "ab" * 32], ["ledger", "proof", "ab" * 16, "--out", "lease.proof"]]
)
def test_a_wrong_url_is_of_the_option_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture, command: list[str]
) -> None:
    """Not of one that other commands have."""
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "secret")
    assert run([*command, "--url", "htp://x"]) == 2
    assert "Invalid value for '--url'" in capfd.readouterr().err
