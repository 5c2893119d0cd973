"""The verifier's small parts: rates, secrets, folder, addresses, problems."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, TransportError
from bootlease.model import Finding
from bootlease.ports import StoredCredential
from bootlease.verifier.datadir import (
    DATABASE,
    LEDGER_KEY,
    SETTINGS,
    SIGNING_KEY,
    Settings,
    check_issuer,
    exclusive,
    load_keys,
    make_keys,
    read_settings,
    write_private,
    write_settings,
)
from bootlease.verifier.glance import core_size
from bootlease.verifier.limits import Rate
from bootlease.verifier.operators.access import (
    ADMIN_PREFIX,
    bearer_digest,
    credential_of,
    new_secret,
    secret_digest,
)
from bootlease.verifier.problems import ProblemError, ProblemKind, problem_members
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.server import parse_listen

ISSUER = "https://verifier.example:8443"


def test_a_rate_allows_its_count_and_tells_how_long_to_wait() -> None:
    """The next window starts anew."""
    counter = RateCounter(Rate(2, 60), 10)
    assert [counter.count(("a",), 100) for _ in range(3)] == [0, 0, 20]
    assert counter.wait(("b",), 100) == 0
    assert counter.wait(("a",), 119) == 1
    assert counter.wait(("a",), 120) == 0


def test_a_flood_of_keys_shares_one_counter() -> None:
    """Memory is bounded, and the flood slows itself."""
    counter = RateCounter(Rate(5, 60), 3)
    for number in range(50):
        counter.count((str(number),), 0)
    assert len(counter._counts) <= 4
    assert counter.wait(("another",), 0) > 0
    assert counter.wait(("0",), 0) == 0


def test_a_secret_is_long_and_never_the_same() -> None:
    """256 bits behind a prefix that names it."""
    secrets = {new_secret(ADMIN_PREFIX) for _ in range(10)}
    assert len(secrets) == 10
    assert all(secret.startswith(ADMIN_PREFIX) and len(secret) >= 43 for secret in secrets)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic x", "x", "B" * 300])
def test_a_header_without_a_bearer_credential_has_no_digest(header: str | None) -> None:
    """Nothing is compared, so nothing can be equal."""
    assert bearer_digest(header) is None


def test_a_credential_is_known_by_its_digest_alone() -> None:
    """Right, wrong, and none registered."""
    known = [StoredCredential(secret_digest(name), name) for name in ("one", "two")]
    digest = bearer_digest("bearer two")
    assert digest is not None
    assert credential_of(digest, known) == known[1]
    assert credential_of(secret_digest("three"), known) is None
    assert credential_of(digest, []) is None


@pytest.mark.parametrize(
    ("issuer", "good"),
    [
        ("https://verifier.example:8443", True),
        ("http://127.0.0.1:8400", True),
        ("https://verifier.example/base", True),
        ("https://verifier.example/", False),
        ("verifier.example", False),
        ("ftp://verifier.example", False),
        ("https://user@verifier.example", False),
        ("https://verifier.example?x", False),
        ("https://verifier.example#x", False),
        ("https://[bad", False),
        ("https://verifier.example:0", False),
        ("https://verifier.example:99999", False),
        ("https://verifier example", False),
        ("https://v\n.example", False),
        ("https://" + "v" * 600, False),
    ],
)
def test_an_issuer_has_one_spelling(issuer: str, good: bool) -> None:  # noqa: FBT001 - parametrised
    """Tokens carry it byte for byte."""
    if good:
        assert check_issuer(issuer) == issuer
    else:
        with pytest.raises(MalformedError):
            check_issuer(issuer)


def test_settings_are_read_as_written(tmp_path: Path) -> None:
    """And a folder without them says how to make one."""
    folder = tmp_path / "my verifier"
    hint = "init --data '.*my verifier' --issuer URL --policy FILE --ek-root FILE"
    with pytest.raises(MalformedError, match=hint):
        read_settings(folder)
    write_settings(tmp_path, Settings("https://v.example"))
    (tmp_path / DATABASE).touch()
    assert read_settings(tmp_path) == Settings("https://v.example")
    with pytest.raises(FileExistsError):
        write_settings(tmp_path, Settings("https://w.example"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"schema": 2, "issuer": "https://v"}',
        '{"schema": 1, "issuer": 7}',
        '{"schema": 1, "issuer": "https://v", "more": 1}',
        " " * 70_000,
    ],
)
def test_damaged_settings_are_refused(tmp_path: Path, text: str) -> None:
    """Nothing is guessed."""
    (tmp_path / DATABASE).touch()
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(MalformedError):
        read_settings(tmp_path)


@pytest.mark.parametrize("name", [SIGNING_KEY, LEDGER_KEY])
def test_a_key_is_private_and_made_once(tmp_path: Path, name: str) -> None:
    """Mode 0600, never overwritten, loaded as it was made."""
    make_keys(tmp_path)
    path = tmp_path / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = load_keys(tmp_path, ISSUER), load_keys(tmp_path, ISSUER)
    assert first.token.key_id == second.token.key_id
    assert first.ledger.key == second.ledger.key
    assert first.ledger.key.name == "verifier.example:8443/ledger"
    with pytest.raises(FileExistsError):
        make_keys(tmp_path)


@pytest.mark.parametrize("name", [SIGNING_KEY, LEDGER_KEY])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700, 0o4600])
def test_a_key_with_a_wider_mode_is_not_used(tmp_path: Path, name: str, mode: int) -> None:
    """Whoever else could read it could sign tokens, or another history."""
    make_keys(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(MalformedError, match="mode"):
        load_keys(tmp_path, ISSUER)


def test_keys_are_not_exchanged(tmp_path: Path) -> None:
    """The ledger's key does not sign tokens, nor the other way round."""
    make_keys(tmp_path)
    for name, other in ((SIGNING_KEY, LEDGER_KEY), (LEDGER_KEY, SIGNING_KEY)):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
        with pytest.raises(MalformedError, match="is not an"):
            load_keys(tmp_path, ISSUER)
        (tmp_path / name).write_bytes(kept)


def test_a_signing_key_that_is_none_is_refused(tmp_path: Path) -> None:
    """Absent, a link, not PEM, RSA, another curve."""
    with pytest.raises(MalformedError):
        load_keys(tmp_path, ISSUER)
    make_keys(tmp_path)
    path = tmp_path / SIGNING_KEY
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError):
        load_keys(tmp_path, ISSUER)
    path.unlink()
    pems = [b"nonsense"] + [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256K1()),
        )
    ]
    for pem in pems:
        write_private(path, pem)
        with pytest.raises(MalformedError):
            load_keys(tmp_path, ISSUER)
        path.unlink()


def test_one_process_serves_a_folder(tmp_path: Path) -> None:
    """The second is told so; after the first has gone it may."""
    with (
        exclusive(tmp_path),
        pytest.raises(TransportError, match="another verifier"),
        exclusive(tmp_path),
    ):
        pass
    with exclusive(tmp_path):
        pass


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:8400", True),
        ("127.8.8.8:1", True),
        ("localhost:1", True),
        ("[::1]:8400", True),
        ("unix:/run/v.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("verifier.example:1", False),
        ("localhost.evil.example:1", False),
    ],
)
def test_loopback_is_known_by_address(text: str, loopback: bool) -> None:  # noqa: FBT001 - parametrised
    """Everything that is not surely loopback needs TLS."""
    assert parse_listen(text).loopback is loopback


@pytest.mark.parametrize("text", ["", "8400", ":8400", "host:", "host:x", "host:70000", "unix:"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """With what it should look like."""
    with pytest.raises(MalformedError, match="listen"):
        parse_listen(text)


def test_every_problem_has_a_type_of_its_own_and_an_error_status() -> None:
    """Programs tell problems apart by type alone."""
    assert len({kind.uri for kind in ProblemKind}) == len(ProblemKind)
    assert all(400 <= kind.status < 600 for kind in ProblemKind)


def test_a_problem_carries_its_findings_and_decision() -> None:
    """As RFC 9457 extension members."""
    error = ProblemError(
        ProblemKind.REFUSED, "No.", findings=[Finding("a.b", "Why.", pcr=4)], decision=b"\1" * 32
    )
    members = json.loads(json.dumps(problem_members(error)))
    assert members["status"] == 403
    assert members["findings"] == [{"id": "a.b", "effect": "refuses", "message": "Why.", "pcr": 4}]
    assert members["decision"] == "01" * 32


@given(st.binary(max_size=64), st.integers(0, 70_000))
def test_only_a_log_that_is_there_is_left_out_of_a_documents_size(noise: bytes, size: int) -> None:
    """No announcement makes a document look smaller than what follows the log."""
    prefix = b"\xa7\x61v\x01\x64logs\xa1\x63tcg\x5a" + size.to_bytes(4, "big")
    assert core_size(noise) == len(noise)
    honest = prefix + b"\0" * size + noise
    assert core_size(honest) == len(prefix) + len(noise)
    assert core_size(prefix + noise) >= 0


@given(st.integers(0, (1 << 32) - 1), st.binary(max_size=400), st.binary(max_size=400))
def test_neither_log_nor_list_counts_for_a_documents_size(
    first: int, entries: bytes, log: bytes
) -> None:
    """What follows both is what a parser has to work for."""
    logs = {"ima": b"e" * 24 + entries, "tcg": b"l" * 24 + log}
    for carried in ({}, {"ima": logs["ima"]}, {"tcg": logs["tcg"]}, logs):
        others = dict.fromkeys(("pcrs", "quote", "leases", "binding", "signature"), b"")
        document = cbor.encode({"v": 1, "ima": [first, bytes(32)], "logs": carried, **others})
        assert core_size(document) == len(document) - sum(map(len, carried.values()))


@given(st.binary(max_size=64), st.integers(0, 70_000))
def test_no_announced_list_hides_what_is_there(noise: bytes, size: int) -> None:
    """A list that is announced and not there hides nothing behind it."""
    head = b"\xa8\x61v\x01\x63ima\x82\x00\x58\x20" + bytes(32) + b"\x64logs\xa2\x63ima\x5a"
    document = head + size.to_bytes(4, "big") + b"\0" * size + noise
    assert core_size(document) >= len(head) + 4 + min(len(noise), 10)
    assert core_size(head + size.to_bytes(4, "big") + noise) >= len(head)


def test_a_verifier_that_lost_its_database_does_not_start_on_an_empty_one(tmp_path: Path) -> None:
    """An empty database would forget counters and decisions; the folder is refused."""
    (tmp_path / SETTINGS).write_text('{"schema": 1, "issuer": "http://127.0.0.1:8400"}')
    with pytest.raises(MalformedError, match="has lost its"):
        read_settings(tmp_path)
    (tmp_path / DATABASE).touch()
    assert read_settings(tmp_path).issuer == "http://127.0.0.1:8400"
