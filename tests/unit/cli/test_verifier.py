"""``bootlease verifier init``, ``serve`` and ``bundle``: what an operator's slips lead to."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.node.bundle import parse_bundle
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE
from bootlease.verifier import server
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.server import ServeOptions

Capture = pytest.CaptureFixture[str]
Init = Callable[..., int]


@pytest.fixture(scope="module")
def roots() -> bytes:
    """An EK root."""
    return LocalCA.create().roots_pem


@pytest.fixture
def init(tmp_path: Path, roots: bytes) -> Init:
    """Makes a verifier in ``tmp_path / "v"``."""
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "roots.pem").write_bytes(roots)

    def call(*options: str, issuer: str = "http://127.0.0.1:1") -> int:
        return run(
            [
                *("verifier", "init", "--data", str(tmp_path / "v"), "--issuer", issuer),
                *("--policy", str(tmp_path / "policy.toml")),
                *("--ek-root", str(tmp_path / "roots.pem"), *options),
            ]
        )

    return call


def test_init_tells_of_references_that_are_not_registered(init: Init, capfd: Capture) -> None:
    """Nobody wonders why the first node is refused; the credential is all there is on stdout."""
    assert init() == 0
    out, err = capfd.readouterr()
    assert (
        f"note: policy accepts reference {REFERENCE!r}, which is not registered yet: no node gets"
        " a lease until `bootlease reference register`\n"
    ) in err
    assert len(out.splitlines()) == 1
    assert "the admin credential was printed once on standard output" in err
    assert "warning" not in err


def test_init_keeps_the_credential_in_a_file(init: Init, tmp_path: Path, capfd: Capture) -> None:
    """Private, new, and printed nowhere."""
    file = tmp_path / "credential"
    assert init("--credential-file", str(file), "--json") == 0
    out, err = capfd.readouterr()
    credential = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert credential
    assert credential not in out + err
    assert json.loads(out)["credential_file"] == str(file)


def test_init_overwrites_no_credential_file_and_leaves_none_behind(
    init: Init, tmp_path: Path, capfd: Capture
) -> None:
    """Where there is one, no verifier is made; where none is made, there is no file."""
    file = tmp_path / "credential"
    file.write_text("of another verifier")
    assert init("--credential-file", str(file)) == 2
    assert str(file) in capfd.readouterr().err
    assert file.read_text() == "of another verifier"
    assert not (tmp_path / "v").exists()
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "something").touch()
    assert init("--credential-file", str(tmp_path / "new")) == 2
    assert "is not empty" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_init_warns_of_a_plain_issuer_off_this_machine(init: Init, capfd: Capture) -> None:
    """It may be a laboratory, so it is made all the same."""
    assert init(issuer="http://verifier.example:8400") == 0
    assert "warning: issuer http://verifier.example:8400 is plain HTTP" in capfd.readouterr().err


def test_init_names_the_file_that_is_no_good(init: Init, tmp_path: Path, capfd: Capture) -> None:
    """With its option, and exit code 2."""
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    assert init("--reference", str(junk)) == 2
    assert f"--reference {junk} is not a reference set: " in capfd.readouterr().err
    assert init("--ek-root", str(junk)) == 2
    assert f"--ek-root {junk}: neither a PEM nor a DER certificate" in capfd.readouterr().err
    (tmp_path / "policy.toml").write_text("junk")
    assert init() == 2
    assert f"--policy {tmp_path / 'policy.toml'}: " in capfd.readouterr().err
    assert not (tmp_path / "v").exists()


def test_a_verifier_that_is_there_already_or_not_at_all_is_exit_2(
    init: Init, tmp_path: Path, capfd: Capture
) -> None:
    """Neither is out of reach: the folder is the wrong one."""
    bundle = ["verifier", "bundle", "-o", "-", "--data", str(tmp_path / "v")]
    assert run(bundle) == 2
    assert "holds no verifier" in capfd.readouterr().err
    assert init() == 0
    assert init() == 2
    assert "already" in capfd.readouterr().err


def test_a_bundle_holds_no_private_key(init: Init, tmp_path: Path, capfd: Capture) -> None:
    """A file with the key beside the certificate is refused, and nothing written."""
    assert init() == 0
    key = (tmp_path / "v" / "signing-key.pem").read_bytes()
    wrong = tmp_path / "tls.pem"
    wrong.write_bytes((tmp_path / "roots.pem").read_bytes() + key)
    output = tmp_path / "join.json"
    bundle = ["verifier", "bundle", "--data", str(tmp_path / "v"), "-o", str(output), "--tls-root"]
    capfd.readouterr()
    assert run([*bundle, str(wrong)]) == 2
    assert f"--tls-root {wrong}: holds a PEM block 'PRIVATE KEY'" in capfd.readouterr().err
    assert not output.exists()
    assert run([*bundle, str(tmp_path / "roots.pem")]) == 0
    root = parse_bundle(output.read_bytes()).tls_root
    assert root is not None
    assert root.startswith("-----BEGIN CERTIFICATE-----\n")


def test_the_life_of_no_join_token_is_wrong_usage(init: Init, tmp_path: Path) -> None:
    """Who gives a life believes there is a token."""
    assert init() == 0
    bundle = ["verifier", "bundle", "--data", str(tmp_path / "v"), "-o", str(tmp_path / "j")]
    assert run([*bundle, "--expires-in", "60"]) == 2
    assert run([*bundle, "--expires-in", "60", "--join-token"]) == 0


def test_a_file_in_the_place_of_a_socket_is_left_alone(
    init: Init, tmp_path: Path, capfd: Capture
) -> None:
    """It is said plainly, and is wrong usage."""
    assert init() == 0
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    serve = ["verifier", "serve", "--data", str(tmp_path / "v"), "--listen", f"unix:{file}"]
    assert run(serve) == 2
    assert f"{file} exists and is no socket" in capfd.readouterr().err
    assert file.read_text() == "mine"
    assert run([*serve[:-1], f"unix:{tmp_path}/absent/v.sock"]) == 2
    assert "No such file" in capfd.readouterr().err


@pytest.mark.parametrize(("options", "grants"), [((), 32), (("--grants-per-life", "7"), 7)])
def test_how_often_a_node_is_granted_leases_is_the_operators(
    options: tuple[str, ...], grants: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the life of one; without a word it is what the documentation says."""
    served: list[ServeOptions] = []
    monkeypatch.setattr(server, "serve", lambda given, _: served.append(given))
    assert run(["verifier", "serve", "--data", str(tmp_path), *options]) == 0
    assert served[0].limits == replace(DEFAULT_LIMITS, grants_per_life=grants)


@pytest.mark.parametrize("wrong", ["0", "-1", "x"])
def test_a_verifier_that_never_grants_is_a_slip(wrong: str, tmp_path: Path) -> None:
    """Usage, as for every number out of its range."""
    assert run(["verifier", "serve", "--data", str(tmp_path), "--grants-per-life", wrong]) == 2


def test_help_loads_nothing_that_serves_or_stores() -> None:
    """Help is there at once."""
    heavy = {"fastapi", "uvicorn", "sqlalchemy", "alembic", "httpx2", "cryptography"}
    code = (
        "import sys; from bootlease.cli import run; run(['verifier', 'nodes', '--help']);"
        f"sys.exit(len({heavy} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
