"""``bootlease quote verify``: options, files and exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.cli import run as command_line
from bootlease.cli.quote import quote
from bootlease.errors import MalformedError
from bootlease.model import ClockInfo, HashAlg
from bootlease.tpm import (
    TPM_GENERATED,
    TPMRH,
    TPMST,
    PCRSelection,
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMSAttest,
    TPMSQuoteInfo,
    TPMSSignatureECC,
    TPMTAsymScheme,
    TPMTSignature,
    ecc_public,
)

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = ec.generate_private_key(ec.SECP256R1())
POINT: Final = KEY.public_key().public_numbers()
AK: Final = ecc_public(
    POINT.x,
    POINT.y,
    TPMECCCurve.NIST_P256,
    attributes=TPMAObject.FIXED_TPM
    | TPMAObject.FIXED_PARENT
    | TPMAObject.SENSITIVE_DATA_ORIGIN
    | TPMAObject.RESTRICTED
    | TPMAObject.SIGN_ENCRYPT,
    scheme=TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA256),
)
PCRS: Final = {str(pcr): HashAlg.SHA256.digest(bytes([pcr])).hex() for pcr in range(8)}
OWNER_CHILD: Final = b"\x00\x0b" + bytes(32)


@dataclass
class Files:
    """The files of a good quote, and a way to run the command on them."""

    folder: Path

    def __post_init__(self) -> None:
        digest = HashAlg.SHA256.digest(b"".join(bytes.fromhex(value) for value in PCRS.values()))
        attest = TPMSAttest(
            TPM_GENERATED,
            TPMST.ATTEST_QUOTE,
            AK.qualified_name(TPMRH.ENDORSEMENT),
            b"\x01\x02",
            ClockInfo(1, 5, 0, safe=True),
            1,
            TPMSQuoteInfo((PCRSelection(HashAlg.SHA256, tuple(range(8))),), digest),
        ).marshal()
        r, s = decode_dss_signature(KEY.sign(attest, ec.ECDSA(hashes.SHA256())))
        body = TPMSSignatureECC(HashAlg.SHA256, r.to_bytes(32, "big"), s.to_bytes(32, "big"))
        self.write("attest", attest)
        self.write("signature", TPMTSignature(TPMAlg.ECDSA, body).marshal())
        self.write("ak", AK.marshal())
        self.write("pcrs", json.dumps({"sha256": PCRS}).encode())

    def write(self, name: str, data: bytes) -> None:
        """Write one input."""
        (self.folder / name).write_bytes(data)

    def run(self, *options: str, **changes: str) -> tuple[int, str]:
        """Run the command; return its exit code and standard output."""
        arguments = {
            "nonce": "0102",
            "require": "sha256:0,7",
            **{name: str(self.folder / name) for name in ("attest", "signature", "ak", "pcrs")},
            **changes,
        }
        result = CliRunner().invoke(
            quote, ["verify", *(f"--{name}={value}" for name, value in arguments.items()), *options]
        )
        code = 2 if isinstance(result.exception, MalformedError) else result.exit_code
        return code, result.stdout

    def report(self, *options: str, **changes: str) -> tuple[int, dict[str, Any]]:
        """Run with --json; return its exit code and what it printed."""
        code, output = self.run("--json", *options, **changes)
        return code, json.loads(output)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A good quote in files."""
    return Files(tmp_path)


def ids(report: dict[str, Any]) -> list[str]:
    """Return the ids of the findings."""
    return [finding["id"] for finding in report["findings"]]


def test_a_good_quote_is_accepted_and_shown(files: Files) -> None:
    """Exit 0; JSON says what was proven, with the quoted values alone."""
    code, report = files.report()
    assert (code, report["verdict"], report["findings"]) == (0, "accepted", [])
    assert report["quote"]["pcrs"] == {"sha256": PCRS}
    assert report["quote"]["reset_count"] == 5


def test_the_text_form_says_verdict_findings_and_values(files: Files) -> None:
    """A person reads one line per thing."""
    code, text = files.run()
    assert code == 0
    assert text.startswith("accepted\n")
    assert f"  sha256:0   {PCRS['0']}\n" in text
    code, text = files.run(nonce="ffff")
    assert code == 1
    assert text.startswith("refused\n  refuses  quote.nonce.mismatch  ")
    assert "expected ffff, seen 0102" in text


def test_a_refused_quote_tells_everything_it_lacks(files: Files) -> None:
    """Findings on coverage and counters come beside those on the proof; no values are shown."""
    code, report = files.report(
        nonce="00", require="sha256:0,23+sha384:0", **{"min-reset-count": "6"}
    )
    assert (code, report["verdict"]) == (1, "refused")
    assert ids(report) == [
        "quote.nonce.mismatch",
        "quote.pcr.missing",
        "quote.bank.missing",
        "clock.reset-count.rollback",
    ]
    assert "quote" not in report


def test_a_tpm2b_public_is_read_too(files: Files) -> None:
    """--ak takes both binary forms."""
    files.write("ak", AK.marshal_2b())
    assert files.run()[0] == 0


def test_a_key_that_may_not_attest_is_refused(files: Files) -> None:
    """A key that is not restricted proves nothing (B1)."""
    data = AK.marshal().replace(AK.object_attributes.to_bytes(4, "big"), b"\x00\x04\x00\x32", 1)
    files.write("ak", data)
    code, report = files.report()
    assert code == 1
    assert ids(report) == ["ak.attributes.restricted"]


def test_a_pem_key_is_noted(files: Files) -> None:
    """PEM verifies the signature and says that it proves no attributes."""
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files.write("ak", pem)
    code, report = files.report()
    assert code == 0
    assert [(item["id"], item["effect"]) for item in report["findings"]] == [
        ("ak.attributes.unproven", "notes")
    ]
    assert files.run("--parent=endorsement")[0] == 2


def test_the_signer_is_compared_only_with_a_parent(files: Files, tmp_path: Path) -> None:
    """--parent takes a name, a handle or a file with a qualified name."""
    other = tmp_path / "parent"
    other.write_bytes(OWNER_CHILD)
    for parent in ("endorsement", "4000000b", "4000000B"):
        assert files.run(f"--parent={parent}")[0] == 0
    for parent in ("owner", "40000001", str(other)):
        code, report = files.report(f"--parent={parent}")
        assert (code, ids(report)) == (1, ["quote.signer.mismatch"])
    other.write_bytes(OWNER_CHILD + b"\0")
    for parent in ("40000002", "nowhere", str(other)):
        assert files.run(f"--parent={parent}")[0] == 2


MALFORMED: Final = {
    "attest": b"\xff\x54\x43\x47",
    "signature": b"\x00",
    "ak": b"\x00\x23\x00",
    "pcrs": b"[]",
}


@pytest.mark.parametrize("part", MALFORMED)
def test_each_malformed_input_is_named(files: Files, part: str) -> None:
    """Exit 2 and the one input that has not its form."""
    files.write(part, MALFORMED[part])
    code, report = files.report()
    assert (code, report["verdict"], ids(report)) == (2, "malformed", [f"quote.{part}.malformed"])


def test_malformed_input_is_told_once(files: Files, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --json one line on standard error says it all."""
    files.write("attest", b"\xff")
    options = {name: str(files.folder / name) for name in ("attest", "signature", "ak", "pcrs")}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    arguments += ["--nonce=0102", "--require=sha256:0-7"]
    assert command_line(["quote", "verify", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("bootlease: error: attest: ")


def test_required_pcrs_may_be_ranges(files: Files) -> None:
    """--require takes what `node collect --pcrs` takes."""
    assert files.run(require="sha256:0-7")[0] == 0
    code, report = files.report(require="sha256:0-8")
    assert (code, ids(report)) == (1, ["quote.pcr.missing"])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "\xff",
        '{"sha256": []}',
        '{"sha256": {"0": 5}}',
        '{"sha256": {"0": "0"}}',
        '{"sha256": {"00": "00"}}',
        '{"sha256": {"24": "00"}}',
        '{"sha256": {"-1": "00"}}',
        '{"sha256": {"0": "00", "0": "01"}}',
        '{"sha256": {}, "sha256": {}}',
        '{"md5": {}}',
    ],
)
def test_pcr_values_of_another_form_are_malformed(files: Files, text: str) -> None:
    """Each value and index has one spelling (D22), and no member appears twice (G6)."""
    files.write("pcrs", text.encode("latin-1"))
    code, report = files.report()
    assert (code, ids(report)) == (2, ["quote.pcrs.malformed"])


@pytest.mark.parametrize("text", [b"-----BEGIN PUBLIC KEY-----\nAA==\n", b"-----BEGIN "])
def test_a_broken_pem_is_malformed(files: Files, text: bytes) -> None:
    """PEM that is none exits with 2."""
    files.write("ak", text)
    assert files.report()[0] == 2


def test_a_pem_key_of_another_kind_is_malformed(files: Files) -> None:
    """No TPM signs quotes with Ed25519."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    files.write("ak", key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert files.report()[0] == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("nonce", "0"),
        ("nonce", "zz"),
        ("require", "sha256"),
        ("require", "sha256:"),
        ("require", "sha256:24"),
        ("require", "sha256:00"),
        ("require", "md5:0"),
        ("require", "sha256:0+sha256:1"),
        ("min-reset-count", "-1"),
        ("attest", "/nonexistent"),
    ],
)
def test_a_bad_option_is_a_usage_error(files: Files, option: str, value: str) -> None:
    """Exit 2, and nothing on standard output."""
    assert files.run(**{option: value}) == (2, "")


def test_an_endless_file_is_not_read_whole(files: Files) -> None:
    """A file above the limit is a usage error."""
    files.write("attest", bytes((1 << 20) + 1))
    assert files.run() == (2, "")


def test_the_group_is_a_click_command() -> None:
    """The command line wires it by name."""
    assert isinstance(quote, click.Group)
    assert set(quote.commands) == {"verify"}
