"""The verifier's own certificate and key: what is wrong with them is said, and nothing asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootlease.errors import MalformedError
from bootlease.verifier.tls import check_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "tls.pem", folder / "key.pem"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=verifier"),
    )
    return certificate, key


def openssl(*arguments: str) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_a_pair_will_do(pair: tuple[Path, Path]) -> None:
    """Nothing is said of it."""
    check_pair(*pair)


def test_each_file_is_named_where_it_is_of_another_form(pair: tuple[Path, Path]) -> None:
    """Certificate and key given for each other."""
    certificate, key = pair
    with pytest.raises(MalformedError, match=f"--tls-cert {key} holds no PEM certificate"):
        check_pair(key, key)
    with pytest.raises(MalformedError, match=f"--tls-key {certificate} holds no PEM private key"):
        check_pair(certificate, certificate)
    with pytest.raises(MalformedError, match="No such file"):
        check_pair(certificate.with_name("absent"), key)


def test_the_key_of_another_certificate_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """And both files are named."""
    other = tmp_path / "other.pem"
    openssl(
        "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(other)
    )
    with pytest.raises(MalformedError, match=f"--tls-key {other} does not belong to .*{pair[0]}"):
        check_pair(pair[0], other)


@pytest.mark.parametrize("form", [["pkcs8", "-topk8"], ["ec", "-aes128"]])
def test_an_encrypted_key_is_refused_without_a_question(
    pair: tuple[Path, Path], tmp_path: Path, form: list[str]
) -> None:
    """PKCS #8 and the older PEM encryption: a service has nobody to ask."""
    locked = tmp_path / "locked.pem"
    openssl(*form, "-in", str(pair[1]), "-out", str(locked), "-passout", "pass:secret")
    with pytest.raises(MalformedError, match=f"--tls-key {locked} is encrypted"):
        check_pair(pair[0], locked)
