"""The commands ``bootlease ima show`` and ``replay``."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bootlease.cli import run as command_line
from bootlease.cli.ima import ima
from bootlease.errors import VerificationError
from bootlease.model import HashAlg
from bootlease.testing.ima_templates import (
    Entry,
    Kernel,
    evm_sig,
    ima_buf,
    ima_modsig,
    ima_ng,
    ima_sig,
)

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = bytes(range(32))
SIGNATURE = b"\3\2\4\xaa\xbb\xcc\xdd\0\1s"
KERNEL = Kernel(
    tuple(HashAlg.from_label(label) for label in ("sha1", "sha256", "sha384", "sha512")),
    entries=[
        Entry("ima-ng", ima_ng(b"boot_aggregate", DIGEST)),
        Entry("ima-sig", ima_sig(ima_ng(b"/bin/a\nb", DIGEST), SIGNATURE)),
        Entry("ima-ng", ima_ng(b"/var/x", bytes(32)), violation=True),
        Entry("ima-buf", ima_buf(b".ima", b"key")),
        Entry("ima-modsig", ima_modsig(b"/m.ko", DIGEST, DIGEST, b"pkcs7")),
        Entry("evm-sig", evm_sig(b"/e", DIGEST, b"\5bad", {b"security.ima": b"x"}, (1, 2, 3))),
        Entry("ima-ng", b"\0\0"),
    ],
)


def run(*arguments: str, data: bytes | None = None) -> str:
    """Run a command that must succeed on a list, and return what it printed."""
    stdin = KERNEL.list() if data is None else data
    result = CliRunner().invoke(ima, [*arguments, "-"], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_prints_a_line_for_each_entry() -> None:
    """Number, PCR, template, digest and name, and in brackets what to know of it."""
    lines = run("show").splitlines()
    shown = f"sha256:{DIGEST.hex()}"
    assert lines[0].split() == ["0", "PCR", "10", "ima-ng", shown, "boot_aggregate"]
    assert lines[1].endswith("/bin/a\\x0ab  [signature of key aabbccdd, unverified]")
    assert lines[2].endswith("/var/x  [violation: written while in use]")
    fingerprint = hashlib.sha256(b"key").hexdigest()
    assert lines[3].endswith(f".ima  [key for the kernel's keyring .ima, SHA-256 {fingerprint}]")
    assert lines[4].endswith("/m.ko  [appended signature, unverified]")
    assert lines[5].endswith("/e  [signature malformed: a file signature of 4 bytes]")
    assert lines[6].endswith("-  [template data with too few fields (at byte 0)]")
    assert len(lines) == 7


def test_show_marks_a_hash_that_is_not_the_datas() -> None:
    """An entry that was edited stands out."""
    changed = KERNEL.list().replace(b"/m.ko", b"/n.ko")
    marked = [line for line in run("show", data=changed).splitlines() if "not the hash" in line]
    assert len(marked) == 1
    assert "/n.ko" in marked[0]


def test_show_json() -> None:
    """The JSON form has every field that an entry has, and no other."""
    entries = json.loads(run("show", "--json"))["entries"]
    assert [entry["number"] for entry in entries] == list(range(7))
    assert entries[1] == {
        "number": 1,
        "pcr": 10,
        "template": "ima-sig",
        "template_hash": HashAlg.SHA1.digest(KERNEL.entries[1].data).hex(),
        "has_its_hash": True,
        "violation": False,
        "kind": "file",
        "name": "/bin/a\\x0ab",
        "digest": f"sha256:{DIGEST.hex()}",
        "signature": SIGNATURE.hex(),
    }
    assert (entries[3]["kind"], entries[3]["buffer"]) == ("buffer", b"key".hex())
    assert entries[3]["keyring"] == ".ima"
    assert entries[4]["modsig_digest"] == f"sha256:{DIGEST.hex()}"
    assert (entries[5]["uid"], entries[5]["gid"], entries[5]["mode"]) == (1, 2, 3)
    assert entries[5]["xattrs"] == {"security.ima": b"x".hex()}
    assert "too few fields" in entries[6]["malformed"]
    assert json.loads(run("show", "--json", data=b"")) == {"entries": []}


def test_show_reads_text() -> None:
    """A list in text is shown like the binary one."""
    entry = KERNEL.entries[0]
    template_hash = HashAlg.SHA1.digest(entry.data).hex()
    text = f"10 {template_hash} ima-ng sha256:{DIGEST.hex()} boot_aggregate\n"
    assert run("show", data=text.encode()) == run("show", data=entry.encode())


def test_replay() -> None:
    """Where the list leads in each bank, and after how many entries."""
    lines = run("replay").splitlines()
    pcr = KERNEL.pcr()
    assert lines == [f"{bank.label}:10  {pcr[bank].hex()}  after 7 entries" for bank in pcr]


def test_replay_json() -> None:
    """The JSON form says how far the list was replayed, and how."""
    shown = json.loads(run("replay", "--json"))
    assert shown == {
        "pcr": 10,
        "template_hash": "per_bank",
        "banks": {bank.label: value.hex() for bank, value in KERNEL.pcr().items()},
        "entries": 7,
        "bytes": len(KERNEL.list()),
        "ahead": 0,
    }


def test_replay_to_quoted_values() -> None:
    """The replay stops at the quoted values; what follows is counted."""
    pcr = KERNEL.pcr(3)
    options = [f"--quoted={bank.label}:{pcr[bank].hex()}" for bank in list(pcr)[:2]]
    shown = json.loads(run("replay", "--json", *options))
    assert (shown["entries"], shown["ahead"]) == (3, 4)
    assert list(shown["banks"]) == ["sha1", "sha256"]
    assert run("replay", *options).splitlines()[-1] == "4 entries follow, measured after the quote"


def test_replay_to_a_value_that_no_part_leads_to() -> None:
    """A mismatch is a refusal."""
    with pytest.raises(VerificationError, match="no part of the measurement list"):
        run("replay", f"--quoted=sha256:{'11' * 32}")


def test_replay_of_an_old_kernel() -> None:
    """A kernel that pads SHA-1 is refused by name, and replayed where the option says so."""
    old = Kernel((HashAlg.SHA256,), padded=True, entries=KERNEL.entries)
    value = old.pcr()[HashAlg.SHA256].hex()
    with pytest.raises(VerificationError, match="SHA-1 into every bank"):
        run("replay", f"--quoted=sha256:{value}")
    assert value in run("replay", "--sha1-padding")
    shown = json.loads(run("replay", "--json", "--sha1-padding", f"--quoted=sha256:{value}"))
    assert shown["template_hash"] == "sha1_padded"


@pytest.mark.parametrize(
    "quoted", ["sha256", "sha256:zz", "sha256:00", "md5:00", f"sha256:{'00' * 20}"]
)
def test_wrong_use(quoted: str) -> None:
    """A quoted value is a known bank's, and as long as its digests."""
    result = CliRunner().invoke(ima, ["replay", "--quoted", quoted, "-"], input=b"")
    assert result.exit_code == 2


def test_a_bank_twice() -> None:
    """Each bank has one value."""
    twice = ["--quoted", f"sha1:{'00' * 20}"] * 2
    result = CliRunner().invoke(ima, ["replay", *twice, "-"], input=b"")
    assert result.exit_code == 2
    assert "twice" in result.output


def test_malformed_input_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no list ends with code 2 and one clear line."""
    path = tmp_path / "list"
    for command, data in (
        ("show", b"\1\2\3\0"),
        ("replay", KERNEL.list()[:-1]),
        ("replay", b"10 text"),
    ):
        path.write_bytes(data)
        assert command_line(["ima", command, str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"bootlease: error: {path} is not a measurement list")
