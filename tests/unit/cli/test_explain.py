"""``bootlease explain`` and ``appraise --explain``: one screen, and files to learn from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.cli.explain_text import explanation_lines
from bootlease.explain import LookingBack, explain_decision
from bootlease.reference import serialise_reference
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.recorded_verifier import RecordedNode, RecordedVerifier, recorded_verifier
from bootlease.testing.scene import POLICY, Scene

Capture = pytest.CaptureFixture[str]
ADDED = "init=/bin/sh"


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA
) -> Iterator[tuple[RecordedVerifier, RecordedNode]]:
    """A verifier that granted a lease and then refused twice, for a kernel parameter."""
    folder = tmp_path_factory.mktemp("explained") / "v"
    description = grub_description()
    line = f"{description.command_line} {ADDED}"
    with recorded_verifier(folder, local_ca) as verifier:
        node = verifier.enrol()
        assert verifier.decide(node)
        for _ in range(2):
            verifier.clock.time += 60
            node.device.boot(simulate_boot(description.with_command_line(line)))
            verifier.lapse(node)
            assert not verifier.decide(node)
        yield verifier, node


@pytest.fixture
def arguments(recorded: tuple[RecordedVerifier, RecordedNode]) -> list[str]:
    """The command that explains the node's latest decision."""
    verifier, node = recorded
    return ["explain", node.node.hex(), "--data", str(verifier.folder)]


def test_one_screen_says_what_changed_where_since_when_and_what_to_do(
    arguments: list[str], capfd: Capture
) -> None:
    """The refusal fits on a screen, and its first part names the change."""
    assert run(arguments) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("REFUSED")
    assert any("2 refusals" in line for line in lines[:6])
    changed = lines.index("What changed since the last good boot")
    assert lines[changed + 1] == f"  kernel parameter: + {ADDED}"
    for heading in ("Why", "Nearest reference", "What to do", "To approve it instead"):
        assert heading in lines
    assert len(lines) <= 50


def test_a_grant_tells_of_the_refusals_that_it_ended(local_ca: LocalCA) -> None:
    """They were before it: it is refused by none of them."""
    history = RecordedHistory(Scene.create(local_ca))
    description = grub_description()
    line = f"{description.command_line} {ADDED}"
    for boot in (description, description.with_command_line(line), description):
        history.scene.node.boot(simulate_boot(boot))
        history.scene.prior = None
        decided = history.decide()
    made = explain_decision(decided.record.digest, LookingBack(history)).explanation
    lines = list(explanation_lines(made, whole=False))
    assert lines[0].startswith("ACCEPTED")
    assert any(each.startswith("before    since ") and "1 refusal" in each for each in lines)
    assert not any(each.startswith("refused") for each in lines)


def test_the_whole_timeline_has_every_event(arguments: list[str], capfd: Capture) -> None:
    """With --timeline each event has a line of its own."""
    assert run([*arguments, "--timeline"]) == 1
    printed = capfd.readouterr().out
    assert printed.count(" ok  ") == 38
    assert printed.count(" UNKNOWN  ") == 3
    assert printed.count(" missing  ") == 3


def test_json_is_the_explanation(arguments: list[str], capfd: Capture) -> None:
    """--json prints its members."""
    assert run([*arguments, "--json"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert told["verdict"] == "refused"
    assert told["history"]["refusals"] == 2
    assert told["history"]["changes"]["meaning"][0]["after"] == ADDED


def test_a_grant_is_explained_with_exit_code_0(
    recorded: tuple[RecordedVerifier, RecordedNode], capfd: Capture
) -> None:
    """The exit code is that of the decision."""
    verifier, node = recorded
    granted = node.decisions[0].hex()
    assert run(["explain", granted, "--data", str(verifier.folder)]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("ACCEPTED")
    assert "What to do" not in printed


def test_its_own_commands_approve_the_boot(
    arguments: list[str], capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed as they stand, the commands save, learn and compare; the new set has the change."""
    arguments[3] = str(Path(arguments[3]).resolve())
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 1
    lines = capfd.readouterr().out.splitlines()
    commands = [shlex.split(line.strip()[2:]) for line in lines if line.startswith("  $ ")]
    save, learn, diff, register = commands
    assert run(save[1:]) == 1
    capfd.readouterr()
    assert run(learn[1:]) == 0
    assert run(diff[1:]) == 0
    assert ADDED in capfd.readouterr().out
    assert register[1:4] == ["reference", "register", "golden-2.json"]
    assert (tmp_path / "golden-2.json").exists()
    # Saving again would overwrite what was saved.
    assert run(save[1:]) == 2


def test_boots_of_a_verifier_can_be_compared(
    recorded: tuple[RecordedVerifier, RecordedNode], capfd: Capture
) -> None:
    """``reference diff`` takes a decision, and a node for its latest one, beside --data."""
    verifier, node = recorded
    good = node.decisions[0].hex()
    between = ["reference", "diff", good, node.node.hex(), "--data", str(verifier.folder)]
    assert run(between) == 0
    assert ADDED in capfd.readouterr().out
    assert run([*between[:2], good, good, *between[4:]]) == 0
    assert "no difference" in capfd.readouterr().err
    assert run([*between[:2], good, "00" * 32, *between[4:]]) == 1
    assert run(between[:4]) == 2


@pytest.mark.parametrize(
    "wrong", [[], ["--data", "/nonexistent"], ["--data", ".", "--url", "http://127.0.0.1:1"]]
)
def test_one_place_is_needed(wrong: list[str]) -> None:
    """--data or --url, and a digest."""
    assert run(["explain", "ab" * 32, *wrong]) == 2


def test_names_that_are_no_digest_are_refused(arguments: list[str], capfd: Capture) -> None:
    """A name of another form is wrong usage, and so is one of no decision: 1 is for refusals."""
    assert run(["explain", "xyz", *arguments[2:]]) == 2
    assert run(["explain", "00" * 32, *arguments[2:]]) == 2
    assert "No decision of this digest is recorded" in capfd.readouterr().err


def test_hostile_text_cannot_leave_its_line(local_ca: LocalCA) -> None:
    """Whatever a log says, each printed line is printable, and none is its own."""
    history = RecordedHistory(Scene.create(local_ca))
    history.decide()
    description = grub_description()
    line = f"{description.command_line} \x1b[2J\nREFUSED x=\u202e"
    history.scene.node.boot(simulate_boot(description.with_command_line(line)))
    history.scene.prior = None
    decided = history.decide()
    made = explain_decision(decided.record.digest, LookingBack(history)).explanation
    for whole in (False, True):
        lines = list(explanation_lines(made, whole=whole))
        assert all(each.isprintable() for each in lines)
        assert not any(each.startswith("REFUSED") for each in lines[1:])


@pytest.fixture
def offline(tmp_path: Path, local_ca: LocalCA) -> list[str]:
    """The command that appraises evidence in files: a boot with one kernel parameter more."""
    scene = Scene.create(local_ca)
    description = grub_description()
    line = f"{description.command_line} {ADDED}"
    scene.node.boot(simulate_boot(description.with_command_line(line)))
    challenge = scene.challenge()
    files = {
        "evidence": scene.attest(challenge).encode(),
        "challenge": challenge.encode(),
        "enrolment": scene.enrolment.encode(),
        "policy": POLICY.encode(),
        "reference": serialise_reference(scene.references[0]),
        "root": local_ca.roots_pem,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    options = [(f"--{name}", str(tmp_path / name)) for name in list(files)[1:]]
    return [
        *("appraise", str(tmp_path / "evidence"), "--at", str(scene.now)),
        *(word for option in options for word in option),
    ]


def test_appraise_explains_offline(offline: list[str], capfd: Capture) -> None:
    """Without a history, the unknown events are told beside their PCRs."""
    assert run([*offline, "--explain"]) == 1
    printed = capfd.readouterr().out
    assert printed.startswith("REFUSED\n")
    assert "What changed" not in printed
    (line,) = [each for each in printed.splitlines() if "UNKNOWN     kernel command line" in each]
    assert ADDED in line
    assert "golden 1" in printed
    save = next(line for line in printed.splitlines() if line.endswith("--save boot"))
    assert shlex.split(save.strip()[2:])[1:-2] == [*_ordered(offline), "--explain"]


def _ordered(arguments: list[str]) -> list[str]:
    """Return the arguments in the order in which the command declares them."""
    words = iter(arguments[2:])
    options = dict(zip(words, words, strict=True))
    order = ("--challenge", "--enrolment", "--policy", "--reference", "--root", "--at")
    return [*arguments[:2], *(word for name in order for word in (name, options[name]))]


def test_appraise_saves_what_it_explains(offline: list[str], tmp_path: Path) -> None:
    """Log, values and nearest reference are written, once."""
    folder = tmp_path / "boot"
    assert run([*offline, "--explain", "--save", str(folder)]) == 1
    assert {path.name for path in folder.iterdir()} == {
        *("eventlog.bin", "pcrs.json", "reference.json")
    }
    assert run([*offline, "--explain", "--save", str(folder)]) == 2
    assert run([*offline, "--save", str(tmp_path / "other")]) == 2


def test_appraise_explains_in_json(offline: list[str], capfd: Capture) -> None:
    """--json prints the explanation's members."""
    assert run([*offline, "--explain", "--json"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert told["decision"] is None
    assert told["history"] is None
    assert told["nearest_reference"]["misses"] == 3
