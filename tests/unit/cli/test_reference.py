"""``bootlease reference``, ``policy`` and ``appraise``: thin, with stable exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.evidence import log_digest
from bootlease.lineage import Prior
from bootlease.model import HashAlg
from bootlease.reference import parse_reference, serialise_reference
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A golden log."""
    path = tmp_path / "golden.bin"
    path.write_bytes(simulate_boot(grub_description()).event_log)
    return path


def learn(golden: Path, output: Path, *options: str) -> int:
    """Learn a set from the golden log."""
    command = ["reference", "learn", "--log", str(golden), "--name", "golden", "-o", str(output)]
    return run([*command, *options])


def test_learn_writes_a_set_that_show_prints(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """The file is the set, and people can read it."""
    output = tmp_path / "golden.json"
    assert learn(golden, output, "--match", "events:4,8", "--version", "7") == 0
    loaded = parse_reference(output.read_bytes())
    assert sorted(loaded.pcrs) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]
    capfd.readouterr()
    assert run(["reference", "show", str(output)]) == 0
    shown = capfd.readouterr().out
    assert loaded.digest.hex() in shown
    assert "boot application \\EFI\\debian\\grubx64.efi" in shown
    assert run(["reference", "show", "--json", str(output)]) == 0
    assert json.loads(capfd.readouterr().out)["digest"] == loaded.digest.hex()


def test_learn_prints_without_an_output_file(golden: Path, capfd: Capture) -> None:
    """Data goes to stdout, and nothing else does."""
    command = ["reference", "learn", "--log", str(golden), "--name", "golden"]
    assert run([*command, "--pcrs", "0-2,7"]) == 0
    assert sorted(parse_reference(capfd.readouterr().out.encode()).pcrs) == [0, 1, 2, 7]


def test_learn_compares_with_quoted_values(golden: Path, tmp_path: Path) -> None:
    """A log that does not explain the PCRs of the boot is refused."""
    values = simulate_boot(grub_description()).pcrs()[HashAlg.SHA256]
    quoted = tmp_path / "pcrs.json"
    text = {str(pcr): value.hex() for pcr, value in values.items()}
    options = ["--quoted", str(quoted), "--pcrs", "0,4,7"]
    quoted.write_text(json.dumps({"sha256": text}))
    assert learn(golden, tmp_path / "good.json", *options) == 0
    quoted.write_text(json.dumps({"sha256": {**text, "4": "00" * 32}}))
    assert learn(golden, tmp_path / "bad.json", *options) == 1
    for odd in ({"sha1": text}, {"sha256": {**text, "4": "00"}}, {"sha256": {**text, "x": "00"}}):
        quoted.write_text(json.dumps(odd))
        assert learn(golden, tmp_path / "bad.json", *options) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--pcrs", "24"],
        ["--pcrs", "9-0"],
        ["--pcrs", ""],
        ["--match", "events"],
        ["--match", "all:4"],
        ["--match", "events:12"],
        ["--bank", "sha-256"],
        ["--name", "Golden Node"],
    ],
)
def test_wrong_usage_of_learn_is_exit_2(golden: Path, tmp_path: Path, options: list[str]) -> None:
    """A slip of the pen never learns something else."""
    assert learn(golden, tmp_path / "x.json", *options) == 2
    assert not (tmp_path / "x.json").exists()


def test_learn_overwrites_nothing(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """What nodes are compared with is not lost to a slip of the pen."""
    output = tmp_path / "golden.json"
    output.write_text("mine")
    assert learn(golden, output) == 2
    assert f"{output} exists" in capfd.readouterr().err
    assert output.read_text() == "mine"


def test_learn_names_the_file_that_is_no_good(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """Log or PCR values, with the option."""
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    assert learn(junk, tmp_path / "x.json") == 2
    assert f"--log {junk} is not a TCG event log: " in capfd.readouterr().err
    assert learn(golden, tmp_path / "x.json", "--quoted", str(junk)) == 2
    assert f"--quoted {junk} does not hold PCR values: " in capfd.readouterr().err


def test_diff_prints_differences(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """One line each, or JSON; nothing on stdout where nothing differs."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert learn(golden, first) == 0
    boot = simulate_boot(grub_description().with_command_line("debug"))
    golden.write_bytes(boot.event_log)
    assert learn(golden, second) == 0
    capfd.readouterr()
    assert run(["reference", "diff", str(first), str(second)]) == 0
    assert "+ PCR 8: kernel command line: /vmlinuz debug" in capfd.readouterr().out
    assert run(["reference", "diff", "--json", str(first), str(second)]) == 0
    assert {each["pcr"] for each in json.loads(capfd.readouterr().out)} == {8, 9}
    assert run(["reference", "diff", str(first), str(first)]) == 0
    assert capfd.readouterr().out == ""


def test_policy_check_names_the_key(tmp_path: Path, capfd: Capture) -> None:
    """A sound policy has a digest; an unsound one is exit 2 with one line naming the key."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    assert run(["policy", "check", str(path)]) == 0
    assert "sound policy" in capfd.readouterr().out
    assert run(["policy", "check", "--json", str(path)]) == 0
    assert json.loads(capfd.readouterr().out)["id"] == "default"
    path.write_text(POLICY.replace("max_leases", "max_lease"))
    assert run(["policy", "check", str(path)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "lease.max_leases is missing" in lines[0]


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., list[str]]:
    """Write the files of one decision and return the command that appraises them."""
    ca = LocalCA.create()

    def write(*, extend: bool = False, renew: bool = False) -> list[str]:
        scene = Scene.create(ca)
        previous = None
        extra = []
        if renew:
            scene.begin()
            assert isinstance(scene.prior, Prior)
            previous = scene.prior.head
            (tmp_path / "prior.cbor").write_bytes(scene.prior.encode())
            (tmp_path / "log.bin").write_bytes(scene.node.event_log)
            assert scene.prior.log_digests["tcg"] == log_digest(scene.node.event_log)
            extra = [
                "--prior", str(tmp_path / "prior.cbor"), "--log", str(tmp_path / "log.bin"),
            ]  # fmt: skip
        if extend:
            scene.node.pcr_extend(14, {HashAlg.SHA256: bytes(32)})
        challenge = scene.challenge()
        evidence = scene.attest(challenge, previous=previous, full=not renew)
        files = {
            "evidence": evidence.encode(),
            "challenge": challenge.encode(),
            "enrolment": scene.enrolment.encode(),
            "policy": POLICY.encode(),
            "reference": serialise_reference(scene.references[0]),
            "root": ca.roots_pem,
        }
        options = []
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            if name != "evidence":
                options += [f"--{name}", str(tmp_path / name)]
        return ["appraise", str(tmp_path / "evidence"), *options, *extra, "--at", str(scene.now)]

    return write


@pytest.mark.parametrize("renew", [False, True])
def test_appraise_accepts_what_a_verifier_would(
    case: Callable[..., list[str]], capfd: Capture, *, renew: bool
) -> None:
    """Exit 0, and JSON says what was proven."""
    assert run([*case(renew=renew), "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["verdict"] == "accepted"
    assert result["ear_trustworthiness_vector"] == {"instance-identity": 2, "executables": 3}


def test_appraise_names_why_it_refuses(case: Callable[..., list[str]], capfd: Capture) -> None:
    """Exit 1, with every finding."""
    assert run(case(extend=True)) == 1
    out = capfd.readouterr().out
    assert out.startswith("refused\n")
    assert "[eventlog.pcr14.replay-mismatch, refuses]" in out


def test_appraise_refuses_what_is_not_authenticated(
    case: Callable[..., list[str]], tmp_path: Path, capfd: Capture
) -> None:
    """Evidence for another challenge never reaches appraisal; garbage is malformed."""
    command = case()
    assert run([*command, "--at", "5"]) == 1
    assert "challenge.expired" in capfd.readouterr().err
    (tmp_path / "evidence").write_bytes(b"\x80")
    assert run(command) == 2


def test_appraise_refuses_another_log(case: Callable[..., list[str]], tmp_path: Path) -> None:
    """A log of another digest is a mistake of whoever calls."""
    command = case(renew=True)
    (tmp_path / "log.bin").write_bytes(b"another")
    assert run(command) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evidence", "EVIDENCE {}: "),
        ("challenge", "--challenge {}: "),
        ("enrolment", "--enrolment {}: "),
        ("policy", "{}: policy: "),
        ("reference", "{} is not a reference set: "),
        ("root", "--root {}: neither a PEM nor a DER certificate"),
        ("prior.cbor", "--prior {}: "),
    ],
)
def test_appraise_names_the_file_that_is_no_good(
    case: Callable[..., list[str]], tmp_path: Path, capfd: Capture, name: str, said: str
) -> None:
    """Of seven files, the operator learns which."""
    command = case(renew=True)
    (tmp_path / name).write_bytes(b"junk")
    assert run(command) == 2
    assert said.format(tmp_path / name) in capfd.readouterr().err
