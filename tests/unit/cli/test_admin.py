"""The commands that ask a verifier: whom they trust with the credential, and what they say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE

Capture = pytest.CaptureFixture[str]
NODES = ["verifier", "nodes", "--verifier"]


@pytest.fixture(autouse=True)
def credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential in the environment."""
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "the-credential")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "command",
    [
        ["verifier", "nodes"],
        ["verifier", "node", "00" * 32],
        ["verifier", "decision", "00" * 32],
        ["verifier", "join-token"],
        ["verifier", "add-root", __file__],
        ["policy", "activate", __file__],
        ["reference", "register", __file__],
    ],
)
def test_the_credential_never_goes_over_a_network_in_the_clear(
    command: list[str], capfd: Capture
) -> None:
    """Every command refuses before it connects."""
    assert run([*command, "--verifier", "http://192.0.2.1:8400"]) == 2
    said = capfd.readouterr().err
    assert "plain HTTP" in said
    assert "--unsafe-plain-http" in said


def test_an_operator_may_insist_on_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The danger is in the option's name; then it is tried."""
    monkeypatch.setattr("bootlease.cli.admin_client.is_loopback", lambda _: False)
    with answering(200, b'{"nodes": []}') as url:
        assert run([*NODES, url]) == 2
        assert run([*NODES, url, "--unsafe-plain-http"]) == 0


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8477", "verifier.example", "ftp://v", "https://", "http://[::1", "http://v:0"],
)
def test_what_is_no_url_is_wrong_usage(url: str, capfd: Capture) -> None:
    """A forgotten scheme is named as such, not as a network that fails."""
    assert run([*NODES, url]) == 2
    assert "--verifier" in capfd.readouterr().err


def test_a_ca_file_that_holds_no_certificate_is_named(tmp_path: Path, capfd: Capture) -> None:
    """With its option."""
    file = tmp_path / "junk.pem"
    for content in (b"junk", b""):
        file.write_bytes(content)
        assert run([*NODES, "https://127.0.0.1:1", "--ca", str(file)]) == 2
        said = capfd.readouterr().err
        assert "--ca" in said
        assert f"{file} holds no PEM certificate" in said


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hello</html>"), (200, b"[]"), (200, b"{}"), (404, b"not here"), (302, b"")],
)
def test_another_server_is_told_from_a_verifier(status: int, body: bytes, capfd: Capture) -> None:
    """Whatever it answers; exit code 3, for no verifier was reached."""
    with answering(status, body) as url:
        assert run([*NODES, url]) == 3
        assert f"{url} did not answer as a bootlease verifier" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, 1, "[admin.credential.refused]"),
        (404, 2, "Title: Detail."),
        (409, 2, "refuses the request (409)"),
        (429, 3, "answered 429"),
        (503, 3, "answered 503"),
    ],
)
def test_a_verifiers_no_has_the_exit_code_that_it_means(
    status: int, code: int, said: str, capfd: Capture
) -> None:
    """Refused, wrong, or not now."""
    with answering(status, b'{"title": "Title", "detail": "Detail."}') as url:
        assert run([*NODES, url]) == code
        assert said in capfd.readouterr().err


def test_nobody_there_is_exit_3(capfd: Capture) -> None:
    """A closed port."""
    assert run([*NODES, "http://127.0.0.1:1"]) == 3
    assert "cannot reach the verifier" in capfd.readouterr().err


@pytest.mark.parametrize("content", ["", "two words", "ü"])
def test_a_credential_file_that_holds_none_is_named(
    content: str, tmp_path: Path, capfd: Capture
) -> None:
    """Empty, a sentence, another alphabet."""
    file = tmp_path / "credential"
    file.write_text(content)
    assert run([*NODES, "http://127.0.0.1:1", "--credential-file", str(file)]) == 2
    assert f"{file} holds no admin credential" in capfd.readouterr().err
