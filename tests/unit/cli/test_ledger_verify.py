"""``bootlease ledger verify``: what is trusted comes from the options, and is said in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.audit import build_proof
from bootlease.cli import run
from bootlease.ledger import Ed25519Cosigner
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import Scene
from bootlease.token import PrivateKeySigner

Out = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Files:
    """A proof, and the files of what is trusted."""

    proof: Path
    ledger: Path
    tokens: Path
    witness: Path
    roots: Path

    @property
    def keys(self) -> list[str]:
        """The command and both keys."""
        keys = ["--ledger-key", str(self.ledger), "--token-keys", str(self.tokens)]
        return ["ledger", "verify", str(self.proof), *keys]


@pytest.fixture
def files(tmp_path: Path, local_ca: LocalCA) -> Files:
    """A proof with a witness."""
    history = RecordedHistory(Scene.create(local_ca))
    signer = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    witness = Ed25519Cosigner("witness.example/one", signer)
    decided = history.decide()
    history.cosign(witness)
    lease = decided.claims[0].lease_id
    proof = build_proof(
        decided.record.digest,
        lease,
        history,
        token=history.token(decided),
        witnesses=[witness.key],
    )
    made = Files(*(tmp_path / name for name in ("proof", "ledger", "tokens", "witness", "roots")))
    made.proof.write_bytes(proof.encode())
    made.ledger.write_text(f"{history.ledger.key}\n")
    made.tokens.write_bytes(
        history.signer.public.load().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    made.witness.write_text(str(witness.key))
    made.roots.write_bytes(local_ca.roots_pem)
    return made


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Out:
    """Read what a command printed."""
    return lambda: capsys.readouterr().out


def test_two_keys_are_enough(files: Files, out: Out) -> None:
    """The ledger's key and the token's accept, and say that no witness is believed."""
    assert run(files.keys) == 0
    text = out()
    assert text.startswith("accepted\n")
    assert "This proves:" in text
    assert "no witness that you trust" in text
    assert "their keys came with the file" in text


def test_a_trusted_witness_is_told(files: Files, out: Out) -> None:
    """A witness whose key is given counts, and is named."""
    witness = ["--witness", files.witness.read_text()]
    assert run([*files.keys, *witness, "--json"]) == 0
    report = json.loads(out())
    assert (report["witnesses"], report["unchecked_witnesses"]) == (["witness.example/one"], [])
    assert any("cosigned by witnesses you trust" in each for each in report["proves"])
    assert not any("no witness" in each for each in report["does_not_prove"])


def test_all_witnesses_must_have_cosigned_unless_told_otherwise(files: Files, out: Out) -> None:
    """A witness that has not cosigned refuses, until a smaller quorum is asked for."""
    signer = PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
    absent = str(Ed25519Cosigner("witness.example/two", signer).key)
    witnesses = ["--witness", str(files.witness), "--witness", absent]
    assert run([*files.keys, *witnesses, "--json"]) == 1
    assert [each["id"] for each in json.loads(out())["findings"]] == ["proof.witness.quorum"]
    assert run([*files.keys, *witnesses, "--quorum", "1"]) == 0
    assert run([*files.keys, *witnesses, "--quorum", "3"]) == 2
    assert run([*files.keys, *witnesses[:2], *witnesses[:2]]) == 2


def test_what_no_proof_shows_is_told(files: Files, out: Out) -> None:
    """What was in force, and which spelling of a signature was given, nobody learns from it."""
    assert run([*files.keys, "--json"]) == 0
    unproven = " / ".join(json.loads(out())["does_not_prove"])
    assert "governance records had activated by then" in unproven
    assert "(r, n - s) verifies as well" in unproven


def test_own_roots_are_told(files: Files, out: Out) -> None:
    """Roots of one's own take the place of the verifier's."""
    assert run([*files.keys, "--roots", str(files.roots), "--json"]) == 0
    report = json.loads(out())
    assert report["own_roots"] is True
    assert any("your own roots" in each for each in report["proves"])
    strange = LocalCA.create()
    files.roots.write_bytes(strange.roots_pem)
    assert run([*files.keys, "--roots", str(files.roots)]) == 1


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--ledger-key", "LEDGER"],
        ["--token-keys", "TOKENS"],
        ["--ledger-key", "rubbish", "--token-keys", "TOKENS"],
        ["--ledger-key", "LEDGER", "--token-keys", "LEDGER"],
        ["--ledger-key", "LEDGER", "--token-keys", "TOKENS", "--witness", "LEDGER"],
        ["--ledger-key", "LEDGER", "--token-keys", "TOKENS", "--roots", "LEDGER"],
        ["--trust", "LEDGER"],
        ["--trust", "LEDGER", "--ledger-key", "LEDGER"],
    ],
)
def test_too_little_trust_or_none_is_wrong_usage(files: Files, options: list[str]) -> None:
    """Missing, doubled and malformed keys exit 2."""
    paths = {"LEDGER": str(files.ledger), "TOKENS": str(files.tokens)}
    given = [paths.get(each, each) for each in options]
    assert run(["ledger", "verify", str(files.proof), *given]) == 2
