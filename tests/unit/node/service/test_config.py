"""The agent's configuration: what is taken, and how what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.evidence import TokenEncoding
from bootlease.node.confirm import Confirmation
from bootlease.node.logline import LogFormat
from bootlease.node.service.config import (
    LoopbackAddress,
    UnixAddress,
    parse_config,
    takes_restart,
)
from bootlease.node.tables import parse_tables
from bootlease.node.tpm.key_kinds import EKAlgorithm

LEAST = """schema = 1
[verifier]
bundle = "/etc/bootlease/join.json"
[api]
"""
FULL = """schema = 1
[verifier]
bundle = "/etc/bootlease/join.json"
unsafe_plain_http = true
[node]
tcti = "swtpm:path=/run/tpm"
state = "/srv/state"
ek_algorithm = "ecc-p256"
ak_algorithm = "rsa-2048"
log = "/srv/log"
ima_list = "/srv/ima"
max_leases = 20
[api]
socket = "/run/x.sock"
mode = "0660"
group = "root"
[metrics]
listen = "127.0.0.1:9464"
[log]
format = "json"
[[keep]]
scope = ["a", "b"]
audience = "https://x.example"
encoding = "jwt"
token_file = "/srv/token"
key_file = "/srv/key"
[[keep]]
scope = ["c"]
audience = "https://x.example"
confirmation = "tpm"
[[workload]]
name = "w"
uid = [1000]
scope = ["a"]
audience = ["https://x.example"]
"""


def test_least() -> None:
    """What is left out has the defaults of `node run`'s options."""
    config = parse_config(LEAST.encode())
    assert config.node.tcti == "device:/dev/tpmrm0"
    assert config.node.state == Path("/var/lib/bootlease")
    assert config.api is not None
    assert (config.api.socket, config.api.mode) == (Path("/run/bootlease/workload.sock"), 0o666)
    assert config.metrics is None
    assert config.log_format is LogFormat.TEXT
    assert not config.unsafe_plain_http
    assert (config.keep, config.rules.rules) == ((), ())


def test_state_directory_of_the_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory in the file, the one that systemd made is used."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/other:/var/lib/more")
    assert parse_config(LEAST.encode()).node.state == Path("/var/lib/other")


def test_full() -> None:
    """Every key is read."""
    config = parse_config(FULL.encode())
    assert config.unsafe_plain_http
    assert config.node.ek_algorithm is EKAlgorithm.ECC_P256
    assert config.node.max_leases == 20
    assert config.metrics == LoopbackAddress("127.0.0.1", 9464)
    assert config.api is not None
    assert (config.api.mode, config.api.gid) == (0o660, 0)
    assert config.log_format is LogFormat.JSON
    first, second = config.keep
    assert first.wish.encoding is TokenEncoding.JWT
    assert first.wish.optional
    assert second.confirmation is Confirmation.TPM
    assert [rule.name for rule in config.rules.rules] == ["w"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("schema = 1\n", "", "schema: is missing"),
        ("schema = 1", "schema = 2", "line 1: schema: is not 1"),
        ("schema = 1", "schema = true", "line 1: schema: is not an integer"),
        ("bundle =", "bundel =", "line 2: verifier.bundle: is missing"),
        ("/etc/bootlease/join.json", "join.json", "line 3: verifier.bundle: is not an absolute"),
        ("[log]", "[logs]", "line 19: logs: unknown key; did you mean log?"),
        (
            "[[workload]]",
            "[[workloads]]",
            "line 31: workloads: unknown key; did you mean workload?",
        ),
        ("[log]", "[[log]]", "log: is not a table"),
        ("log = ", "lgo = ", "line 10: node.lgo: unknown key; did you mean log?"),
        ("max_leases = 20", "max_leases = 257", "line 12: node.max_leases: is not 1 to 256"),
        ('"ecc-p256"', '"ecc"', "line 8: node.ek_algorithm: is none of rsa-2048, ecc-p256"),
        ('"0660"', '"660"', "line 15: api.mode: is not four octal digits"),
        ('group = "root"', 'group = "no such"', "line 16: api.group: is no group"),
        ("/run/x.sock", "/" + "x" * 107, "line 14: api.socket: is longer than the 107"),
        ("127.0.0.1:9464", "0.0.0.0:9464", "line 18: metrics.listen: is neither a socket"),
        ("127.0.0.1:9464", "127.0.0.1:99999", "line 18: metrics.listen: is neither a socket"),
        ("127.0.0.1:9464", "127.0.0.1.example:1", "line 18: metrics.listen: is neither"),
        ('"json"', '"xml"', "line 20: log.format: is none of text, json"),
        ('scope = ["a", "b"]', "scope = []", "line 22: keep[1].scope: has not 1 to"),
        ('scope = ["a", "b"]', 'scope = ["a", 1]', "line 22: keep[1].scope: is not an array of"),
        ('scope = ["a", "b"]', 'scope = "a"', "line 22: keep[1].scope: is not an array of texts"),
        ('scope = ["a", "b"]', 'scope = ["a b"]', "line 21: keep[1]: "),
        ('scope = ["c"]', 'scpe = ["c"]', "line 27: keep[2].scope: is missing"),
        ('"tpm"\n', '"tpm"\nkey_file = "/k"\n', "line 31: keep[2].key_file: a key in the TPM"),
        ('"tpm"\n', '"tpm"\ntoken_file = "/srv/key"\n', "/srv/key is named twice"),
        ("[api]", "[api", "is not TOML"),
        ("uid = ", "uids = ", "workload[1]"),
    ],
)
def test_wrong_key_is_named(old: str, new: str, complaint: str) -> None:
    """One wrong key in a good file gives the complaint that names it and its line."""
    assert FULL.count(old) >= 1
    with pytest.raises(MalformedError) as caught:
        parse_config(FULL.replace(old, new, 1).encode())
    assert complaint in str(caught.value)


def test_twice_the_same_wish() -> None:
    """Two tables for one wish are one too many."""
    keep = '[[keep]]\nscope = ["a"]\naudience = "b"\n'
    with pytest.raises(MalformedError, match="two tables ask for the same"):
        parse_config((LEAST + keep + keep).encode())


def test_nothing_to_do() -> None:
    """An agent that neither keeps nor serves anything is a mistake."""
    with pytest.raises(MalformedError, match="nothing to do"):
        parse_config(LEAST.replace("[api]", "").encode())


def test_socket_for_metrics() -> None:
    """A path is a Unix socket; IPv6's loopback goes in brackets."""
    found = parse_config((LEAST + '[metrics]\nlisten = "/run/m"\n').encode())
    assert found.metrics == UnixAddress(Path("/run/m"))
    found = parse_config((LEAST + '[metrics]\nlisten = "[::1]:1"\n').encode())
    assert str(found.metrics) == "[::1]:1"


def test_what_takes_a_restart() -> None:
    """Standing wishes, rules and the log's form change live; all else is named."""
    old = parse_config(FULL.encode())
    live = FULL.replace('"json"', '"text"').replace('"c"', '"d"').replace("1000", "1001")
    assert takes_restart(old, parse_config(live.encode())) == ()
    text = FULL.replace("9464", "9465").replace("join.json", "other.json")
    text = text.replace("/run/tpm", "/run/tpm2").replace("0660", "0600")
    assert takes_restart(old, parse_config(text.encode())) == (
        "verifier.bundle",
        "node.tcti",
        "api",
        "metrics",
    )


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    """Any bytes are a table, or malformed, and nothing else."""
    try:
        parse_tables(data)
    except MalformedError:
        return


@given(st.text(alphabet='abekps[]="1.,{}\n ', max_size=120))
def test_any_toml(text: str) -> None:
    """Any text behind a good beginning is a configuration, or malformed."""
    try:
        parse_config((LEAST + text).encode())
    except MalformedError:
        return


def test_too_long() -> None:
    """A file is bounded before it is parsed."""
    with pytest.raises(MalformedError, match="longer than"):
        parse_config(b"#" * (1 << 20 | 1))


def test_values_of_other_kinds() -> None:
    """Texts, numbers and flags are told apart by type, and arrays are bounded."""
    table = parse_tables(b'a = true\nb = [1, -1]\nc = ""\nd = [1, 2, 3]\ne = 1\n')
    assert table.flag("a")
    for call in (
        lambda: table.flag("e"),
        lambda: table.integers("b"),
        lambda: table.text("c"),
        lambda: table.integers("d", at_most=2),
        lambda: table.tables("d"),
        lambda: table.text("f"),
    ):
        with pytest.raises(MalformedError):
            call()
    assert table.integers("d") == (1, 2, 3)
    assert table.name == ""
