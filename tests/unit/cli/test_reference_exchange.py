"""``bootlease reference export``, ``import`` and ``diff``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bootlease import cbor
from bootlease.cbor import CBORTag
from bootlease.cli import run
from bootlease.model import HashAlg
from bootlease.reference import IMAReferenceSet, parse_any_reference, serialise_any_reference
from bootlease.reference.imaset import Origin, parse_file_digest
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.ima_list import file_fields, list_entry

Capture = pytest.CaptureFixture[str]
TAGS: Final = frozenset({501, 506})
GOOD: Final = hashlib.sha256(b"good").digest()


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A set of what a golden node booted, beside its log."""
    (tmp_path / "golden.log").write_bytes(simulate_boot(grub_description()).event_log)
    command = ["reference", "learn", "--log", str(tmp_path / "golden.log"), "--name", "golden"]
    path = tmp_path / "golden.json"
    assert run([*command, "--match", "events:4,8", "-o", str(path)]) == 0
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A set of files."""
    listed = {b"/usr/bin/a": (parse_file_digest(f"sha256:{GOOD.hex()}"),)}
    path = tmp_path / "files.json"
    path.write_bytes(serialise_any_reference(IMAReferenceSet("web", "1", Origin.BUILT, listed)))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A key pair."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def digest(path: Path) -> bytes:
    """The digest of the set in a file."""
    return parse_any_reference(path.read_bytes()).digest


@pytest.mark.parametrize("kind", ["golden", "files"])
def test_export_and_import_keep_the_set(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capfd: Capture
) -> None:
    """A set of either kind comes back under its digest."""
    path: Path = request.getfixturevalue(kind)
    corim, back = tmp_path / "x.corim", tmp_path / "back.json"
    assert run(["reference", "export", str(path), "-o", str(corim), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["digest"] == digest(path).hex()
    assert told["bytes"] == corim.stat().st_size
    assert run(["reference", "import", str(corim), "--unsafe-unsigned", "-o", str(back)]) == 0
    assert digest(back) == digest(path)
    assert run(["reference", "diff", str(path), str(back)]) == 0
    assert capfd.readouterr().out == ""


def test_a_signed_export_needs_its_key(
    golden: Path, keys: tuple[Path, Path], tmp_path: Path, capfd: Capture
) -> None:
    """A signature is verified with the operator's key; without one nothing is read."""
    corim, back = tmp_path / "x.corim", tmp_path / "back.json"
    options = ["--sign-with", str(keys[0]), "--signer", "ACME Ltd."]
    assert run(["reference", "export", str(golden), *options, "-o", str(corim)]) == 0
    command = ["reference", "import", str(corim), "-o", str(back)]
    assert run([*command, "--unsafe-unsigned"]) == 2
    assert "give the signer's public key with --key" in capfd.readouterr().err
    assert run(command) == 2
    assert run([*command, "--key", str(keys[1])]) == 0
    assert "the signer calls itself ACME Ltd." in capfd.readouterr().err
    assert digest(back) == digest(golden)


def test_another_key_is_a_refusal(
    golden: Path, keys: tuple[Path, Path], tmp_path: Path, capfd: Capture
) -> None:
    """Whoever else signed is refused; what nobody signed is not what was asked for."""
    corim, unsigned = tmp_path / "x.corim", tmp_path / "y.corim"
    options = ["--sign-with", str(keys[0]), "--signer", "ACME Ltd."]
    assert run(["reference", "export", str(golden), *options, "-o", str(corim)]) == 0
    assert run(["reference", "export", str(golden), "-o", str(unsigned)]) == 0
    other = tmp_path / "other.pem"
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert run(["reference", "import", str(corim), "--key", str(other)]) == 1
    assert "corim.signature.invalid" in capfd.readouterr().err
    assert run(["reference", "import", str(unsigned), "--key", str(keys[1])]) == 2
    assert "it is not signed" in capfd.readouterr().err
    other.write_bytes(b"junk")
    assert run(["reference", "import", str(corim), "--key", str(other)]) == 2
    assert f"--key {other}" in capfd.readouterr().err


def test_wrong_usage_of_export_is_exit_2(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """A key without a name, no key at all, one that does not sign, or a name nobody can read."""
    command = ["reference", "export", str(golden), "-o", str(tmp_path / "x.corim")]
    assert run([*command, "--signer", "x"]) == 2
    assert run(["reference", "export", str(golden), "--json"]) == 2
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"junk")
    capfd.readouterr()
    assert run([*command, "--sign-with", str(junk), "--signer", "x"]) == 2
    assert "is no private key to sign with" in capfd.readouterr().err
    key = rsa.generate_private_key(65537, 2048)
    junk.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert run([*command, "--sign-with", str(junk), "--signer", "x"]) == 2
    assert "is no private key to sign with" in capfd.readouterr().err


def test_an_export_to_stdout_is_the_corim_alone(
    golden: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Data goes to stdout, and nothing else does."""
    capfdbinary.readouterr()
    assert run(["reference", "export", str(golden)]) == 0
    assert capfdbinary.readouterr().out.startswith(b"\xd9\x01\xf5")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Somebody else's CoRIM with PCRs of two banks."""
    registers = {0: [[1, GOOD], [7, bytes(48)]]}
    comid = {1: {0: "x"}, 4: {0: [[{0: {1: "ACME"}}, [{1: {14: registers}}]]]}}
    tags = [CBORTag(506, cbor.encode(comid))]
    path = tmp_path / "foreign.corim"
    path.write_bytes(cbor.encode(CBORTag(501, {0: "acme", 1: tags}), tags=TAGS))
    return path


def test_pcrs_of_others_are_imported_under_a_name(
    foreign: Path, tmp_path: Path, capfd: Capture
) -> None:
    """The operator names the set and the bank; what is left out is said."""
    output = tmp_path / "acme.json"
    command = ["reference", "import", str(foreign), "--unsafe-unsigned", "-o", str(output)]
    assert run(command) == 2
    assert "--name and --version" in capfd.readouterr().err
    command += ["--name", "acme", "--version", "1"]
    assert run(command) == 2
    assert "choose one with --bank" in capfd.readouterr().err
    assert run([*command, "--bank", "sha384", "--json"]) == 0
    streams = capfd.readouterr()
    assert "values of bank sha256 are left out" in streams.err
    assert json.loads(streams.out)["name"] == "acme"


def test_a_set_of_our_own_keeps_its_name(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """A CoRIM that brings its name is not imported under another."""
    corim = tmp_path / "x.corim"
    assert run(["reference", "export", str(golden), "-o", str(corim)]) == 0
    command = ["reference", "import", str(corim), "--unsafe-unsigned", "--name", "other"]
    assert run(command) == 2
    assert "brings name" in capfd.readouterr().err
    assert run(["reference", "import", str(golden), "--unsafe-unsigned"]) == 2


def tampered(tmp_path: Path) -> Path:
    """The log of a boot with another kernel command line."""
    path = tmp_path / "tampered.log"
    path.write_bytes(simulate_boot(grub_description().with_command_line("debug")).event_log)
    return path


def test_a_set_is_compared_with_a_log(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """The words are those in which an appraisal would refuse the boot."""
    assert run(["reference", "diff", str(golden), str(tmp_path / "golden.log")]) == 0
    assert capfd.readouterr().out == ""
    assert run(["reference", "diff", str(golden), str(tampered(tmp_path))]) == 0
    out = capfd.readouterr().out
    assert "PCR 8: kernel command line: /vmlinuz debug" in out
    assert "is not in reference golden 1" in out
    assert run(["reference", "diff", "--json", str(golden), str(tampered(tmp_path))]) == 0
    assert {each["pcr"] for each in json.loads(capfd.readouterr().out)} == {8, 9}


def test_two_boots_are_compared(golden: Path, tmp_path: Path, capfd: Capture) -> None:
    """Two logs are compared event by event, without a set."""
    log = str(golden.with_suffix(".log"))
    assert run(["reference", "diff", log, str(tampered(tmp_path))]) == 0
    assert "+ PCR 8: kernel command line: /vmlinuz debug" in capfd.readouterr().out
    assert run(["reference", "diff", "--pcrs", "0-4", log, str(tampered(tmp_path))]) == 0
    assert capfd.readouterr().out == ""


def runtime(path: Path, **files: bytes) -> Path:
    """An IMA list of files in /usr/bin, after the boot aggregate."""
    entries = [file_fields("boot_aggregate", hashlib.sha256(path.name.encode()).digest())]
    for name, content in files.items():
        entries.append(file_fields(f"/usr/bin/{name}", hashlib.sha256(content).digest()))
    path.write_bytes(b"".join(list_entry("ima-ng", data) for data in entries))
    return path


def test_files_are_compared_with_a_list(files: Path, tmp_path: Path, capfd: Capture) -> None:
    """What a node loaded is compared with a set, the boot aggregate aside."""
    good = runtime(tmp_path / "good", a=b"good")
    assert run(["reference", "diff", str(files), str(good)]) == 0
    assert capfd.readouterr().out == ""
    bad = runtime(tmp_path / "bad", a=b"evil", b=b"new")
    assert run(["reference", "diff", str(files), str(bad)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "/usr/bin/a is not what" in lines[0]
    assert "[ima.file.unlisted]" in lines[1]


def test_two_nodes_are_compared(tmp_path: Path, capfd: Capture) -> None:
    """Two lists are compared file by file."""
    first = runtime(tmp_path / "first", a=b"good", b=b"same")
    second = runtime(tmp_path / "second", a=b"evil", b=b"same", c=b"new")
    assert run(["reference", "diff", str(first), str(second)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(",")[0].partition(" (")[0] for line in lines] == [
        "~ file /usr/bin/a",
        "+ file /usr/bin/c",
    ]


def test_unlike_things_are_not_compared(golden: Path, files: Path, tmp_path: Path) -> None:
    """A set and something of another kind are wrong usage; junk is malformed."""
    for first, second in (
        (golden, files),
        (files, golden.with_suffix(".log")),
        (golden.with_suffix(".log"), golden),
        (golden, runtime(tmp_path / "list", a=b"good")),
    ):
        assert run(["reference", "diff", str(first), str(second)]) == 2
    (tmp_path / "junk").write_bytes(b"junk")
    assert run(["reference", "diff", str(golden), str(tmp_path / "junk")]) == 2


def test_rules_of_sets_are_compared_in_words(tmp_path: Path, capfd: Capture) -> None:
    """Signers, trees and exclusions that come or go are said."""
    listed = {b"/a": (parse_file_digest(f"sha256:{GOOD.hex()}"),)}
    paths = []
    for version, below in (("1", ()), ("2", (b"/srv/",))):
        made = IMAReferenceSet("web", version, Origin.BUILT, listed, content_below=below)
        paths.append(tmp_path / f"{version}.json")
        paths[-1].write_bytes(serialise_any_reference(made))
    assert run(["reference", "diff", *map(str, paths)]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "~ version (1 -> 2)",
        "+ copies of listed files may lie below /srv/",
    ]


def test_learn_takes_a_validity(golden: Path, tmp_path: Path) -> None:
    """A set that is learned can be limited in time."""
    output = tmp_path / "limited.json"
    command = ["reference", "learn", "--log", str(golden.with_suffix(".log")), "--name", "x"]
    limits = ["--not-before", "2026-01-01T00:00:00Z", "--not-after", "2027-01-01T00:00:00Z"]
    assert run([*command, *limits, "-o", str(output)]) == 0
    learned = parse_any_reference(output.read_bytes())
    assert (learned.not_before, learned.not_after) == (1767225600, 1798761600)
    assert HashAlg.SHA256.label in output.read_text()
    assert run([*command, *limits[2:], "--not-before", "2028-01-01T00:00:00Z"]) == 2
