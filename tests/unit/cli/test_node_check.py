"""``bootlease node check``: the configuration, and whether this machine fits it."""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.cli import run
from bootlease.eventlog import encode_event_log
from bootlease.model import HashAlg
from bootlease.node.client import VerifierClient
from bootlease.testing.sealing import SealedLedger
from bootlease.testing.tokens import ISSUER, FakeIssuer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

CONFIG = """schema = 1
[verifier]
bundle = "{folder}/join.json"
[node]
tcti = "device:{folder}/tpm"
log = "{folder}/log"
state = "{folder}/state"
[api]
socket = "{folder}/api.sock"
[metrics]
listen = "127.0.0.1:9464"
"""
RULE = """
[[workload]]
name = "tests"
scope = ["a"]
audience = ["b"]
"""
OTHER_USER = 12345


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everything that a configuration names, as it should be."""
    tmp_path.chmod(0o755)
    keys = FakeIssuer().keys.to_jwks()
    (tmp_path / "join.json").write_text(
        json.dumps(
            {"v": 1, "issuer": ISSUER, "keys": keys, "ledger_key": str(SealedLedger.create().key)}
        )
    )
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "tpm").write_text("")
    (tmp_path / "log").write_bytes(encode_event_log([], [HashAlg.SHA256]))
    return tmp_path


@pytest.fixture
def check(folder: Path, capfd: Capture) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Check a configuration, and return exit code and JSON."""

    def checked(
        *more: str,
        place: str = "api.sock",
        state: str = "state",
        tcti: str | None = None,
        options: tuple[str, ...] = (),
    ) -> tuple[int, dict[str, Any]]:
        config = folder / "agent.toml"
        text = CONFIG.format(folder=folder).replace("api.sock", place)
        text = text.replace(f"{folder}/state", f"{folder}/{state}")
        if tcti is not None:
            text = text.replace(f"device:{folder}/tpm", tcti)
            text = text.replace(f'log = "{folder}/log"\n', "")
        config.write_text(text + "".join(more))
        code = run(["node", "check", "--config", str(config), "--json", *options])
        return code, json.loads(capfd.readouterr().out)

    return checked


def test_a_configuration_is_checked(folder: Path, capfd: Capture) -> None:
    """`node check` says what a good file means, and names line and key of a wrong one."""
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(folder=folder))
    assert run(["node", "check", "--config", str(config), "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["verifier"] == ISSUER
    assert (shown["socket"], shown["metrics"]) == (f"{folder}/api.sock", "127.0.0.1:9464")
    assert (shown["problems"], shown["warnings"], shown["reached"]) == ([], [], None)
    assert run(["node", "check", "--config", str(config)]) == 0
    assert capfd.readouterr().out.endswith("keep: 0\nworkload: 0\n")
    config.write_text(config.read_text() + "port = 1\n")
    assert run(["node", "check", "--config", str(config)]) == 2
    assert f"{config}: line 12: metrics.port: unknown key" in capfd.readouterr().err
    assert run(["node", "check"]) == 2
    assert "Missing option '--config'" in capfd.readouterr().err


def test_a_configuration_without_its_bundle(folder: Path, capfd: Capture) -> None:
    """A join bundle that is not there, or none, is named."""
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(folder=folder))
    (folder / "join.json").unlink()
    assert run(["node", "check", "--config", str(config)]) == 3
    assert "cannot read join bundle" in capfd.readouterr().err
    (folder / "join.json").write_text("{}")
    assert run(["node", "check", "--config", str(config)]) == 2
    assert f"{folder / 'join.json'}: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("exe", "why"),
    [
        ("none", "No such file or directory"),
        ("file", "is no program"),
        ("script", "is a script: the kernel runs its interpreter, which is the program to name"),
    ],
)
def test_a_rule_of_a_program_that_is_none(folder: Path, check: Any, exe: str, why: str) -> None:
    """Its path is named; where the rule has no other program it speaks of nobody."""
    (folder / "file").write_text("")
    (folder / "file").chmod(0o644)
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    code, found = check(RULE, f'uid = [0]\nexe = ["{folder}/{exe}"]\n')
    assert code == 2
    assert found["problems"] == [
        f"rule tests: program {folder}/{exe}: {why}",
        "rule tests speaks of nobody: none of its programs is there",
    ]
    code, found = check(RULE, f'uid = [0]\nexe = ["/bin/sh", "{folder}/{exe}"]\n')
    assert code == 0
    assert found["warnings"] == [f"rule tests: program {folder}/{exe}: {why}"]


@pytest.mark.parametrize("key", ["user", "group"])
def test_a_rule_of_a_user_that_is_none(folder: Path, capfd: Capture, key: str) -> None:
    """A name that this machine does not know is named with its key."""
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(folder=folder) + RULE + f'{key} = ["nobody-of-this-name"]\n')
    assert run(["node", "check", "--config", str(config)]) == 2
    assert f"there is no {key} 'nobody-of-this-name'" in capfd.readouterr().err


def test_a_rule_without_a_user_is_warned_of(check: Any) -> None:
    """It speaks of those of containers too, which may not be meant."""
    code, found = check(RULE, 'cgroup = ["/a"]\n')
    assert code == 0
    (warning,) = found["warnings"]
    assert warning.startswith("rule tests names no user: it speaks of everybody's processes")
    assert check(RULE, 'cgroup = ["/a"]\nuid = [0]\n')[1]["warnings"] == []


def test_a_state_folder_that_is_open_to_others(folder: Path, check: Any) -> None:
    """The agent would refuse it."""
    (folder / "state").chmod(0o750)
    code, found = check()
    assert code == 2
    assert found["problems"] == [
        f"state folder {folder}/state: is open to other users: chmod 700 {folder}/state"
    ]


def test_what_to_type_can_be_pasted(folder: Path, check: Any) -> None:
    """A folder whose name has a space is quoted."""
    (folder / "my state").mkdir(mode=0o750)
    code, found = check(place="api.sock", state="my state")
    assert code == 2
    assert found["problems"][0].endswith(f": chmod 700 '{folder}/my state'")


def test_a_tpm_that_is_not_there(folder: Path, check: Any) -> None:
    """The path is looked at, the TPM not asked."""
    (folder / "tpm").unlink()
    code, found = check()
    assert code == 2
    assert found["problems"] == [f"no TPM at {folder}/tpm (tcti under [node])"]


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), ("", "is empty"), ("x", "is not a TCG event log")],
)
def test_an_event_log_that_is_none(folder: Path, check: Any, content: str | None, why: str) -> None:
    """A file that is named in place of the kernel's is read."""
    (folder / "log").unlink()
    if content is not None:
        (folder / "log").write_text(content)
    code, found = check()
    assert code == 2
    (problem,) = found["problems"]
    assert f"{folder}/log" in problem
    assert why in problem


@pytest.mark.parametrize(
    ("tcti", "why"),
    [
        ("device:/dev/tpm65000", "no event log at /sys/kernel/security/tpm65000/binary_"),
        ("swtpm:path=/dev/null", "the kernel keeps no event log for the TPM at swtpm:path=/dev"),
    ],
)
def test_a_kernel_without_an_event_log(check: Any, tcti: str, why: str) -> None:
    """It has to be named: there is none of the kernel's."""
    code, found = check(tcti=tcti)
    assert code == 2
    assert found["problems"][-1].startswith(why)
    assert found["problems"][-1].endswith("; log under [node] names another file")


def test_a_state_folder_that_is_not_there_yet(folder: Path, check: Any) -> None:
    """It will be made, and not by the check."""
    (folder / "state").rmdir()
    code, found = check()
    assert (code, len(found["warnings"])) == (0, 1)
    assert "is not there yet" in found["warnings"][0]
    assert not (folder / "state").exists()


def test_a_state_folder_that_is_none(folder: Path, check: Any) -> None:
    """A file in its place is named."""
    (folder / "state").rmdir()
    (folder / "state").write_text("")
    code, found = check()
    assert code == 2
    assert found["problems"] == [f"state folder {folder}/state: is not a folder"]


def test_a_state_folder_of_another_user(
    folder: Path, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is neither root nor its owner is told to look as that one."""
    monkeypatch.setattr("bootlease.node.service.survey.os.geteuid", lambda: OTHER_USER)
    code, found = check()
    assert code == 2
    assert found["problems"][0].startswith(f"state folder {folder}/state: belongs to ")
    assert found["problems"][0].endswith("check as the user that the agent runs as")


@pytest.mark.root
def test_root_looks_for_the_agents_user(folder: Path, check: Any) -> None:
    """The owner of the state folder is who the agent runs as; its own folders are good for it."""
    os.chown(folder / "state", OTHER_USER, OTHER_USER)
    code, found = check()
    assert (code, found["problems"], found["user"]) == (0, [], str(OTHER_USER))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none/none/s", "none is not a folder"),
        ("shared/s", "others may put something else at"),
        ("taken", "something else is there, and would be left alone"),
    ],
)
def test_a_socket_where_none_can_be(folder: Path, check: Any, path: str, why: str) -> None:
    """No folder, a folder that others may write to, or a path that is taken."""
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o777)
    (folder / "taken").write_text("")
    code, found = check(place=path)
    assert code == 2
    (problem,) = found["problems"]
    assert problem.startswith(f"socket {folder}/{path}: ")
    assert why in problem


def test_a_sockets_folder_that_is_not_there_yet(folder: Path, check: Any) -> None:
    """The agent makes it, or systemd does."""
    code, found = check(place="run/s")
    assert code == 0
    assert found["warnings"] == [
        f"socket's folder {folder}/run: is not there yet; the agent or systemd makes it"
    ]


def test_what_may_not_be_looked_at_is_a_problem_like_others(
    folder: Path, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is closed to who checks hides nothing else of what is found."""
    look = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{folder}/closed/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    code, found = check(
        f'[[keep]]\nscope = ["a"]\naudience = "b"\ntoken_file = "{folder}/closed/x/token"\n',
        place="closed/x/s",
    )
    assert code == 2
    assert found["problems"] == [
        f"socket {folder}/closed/x/s: Permission denied",
        f"{folder}/closed/x/token: Permission denied",
    ]


def test_files_of_standing_wishes_need_their_folder(folder: Path, check: Any) -> None:
    """A token cannot be written where there is no folder."""
    code, found = check(
        f'[[keep]]\nscope = ["a"]\naudience = "b"\ntoken_file = "{folder}/none/token"\n'
    )
    assert code == 2
    assert found["problems"] == [f"{folder}/none/token: {folder}/none is not a folder"]


def test_a_verifier_is_asked_only_when_told_to(
    folder: Path, check: Any, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --reach nobody is asked; with it, one that gives no answer is exit code 3."""
    asked: list[VerifierClient] = []

    def rotations(client: VerifierClient) -> None:
        asked.append(client)

    monkeypatch.setattr(VerifierClient, "rotations", rotations)
    assert check()[1]["reached"] is None
    assert asked == []
    assert check(options=("--reach",))[1]["reached"] is True
    assert len(asked) == 1
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bundle = folder / "join.json"
    bundle.write_text(bundle.read_text().replace(ISSUER, f"http://127.0.0.1:{port}"))
    config = folder / "agent.toml"
    assert run(["node", "check", "--config", str(config), "--reach"]) == 3
    assert f"cannot reach the verifier at http://127.0.0.1:{port}" in capfd.readouterr().err
