"""Boot descriptions are strict TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.testing.boot_description import load_boot_description, parse_boot_description
from bootlease.testing.examples import grub_description, uki_description

BOOTS = Path(__file__).parents[3] / "fixtures" / "boots"
GRUB = (BOOTS / "grub-server.toml").read_text(encoding="utf-8")


def test_fixtures_are_the_examples() -> None:
    """The files in the repository say what the shipped examples say."""
    assert load_boot_description(BOOTS / "grub-server.toml") == grub_description()
    assert load_boot_description(BOOTS / "uki-machine.toml") == uki_description()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "needs schema = 1"),
        ('name = "grub-server"', "", "lacks the key 'name'"),
        ("enabled = true", "enabled = 1", "secure_boot: enabled must be of type bool"),
        ("enabled = true", "enabled = true\nx = 1", "secure_boot has an unknown key 'x'"),
        ("number = 1", "number = -1", "number must not be negative"),
        ("number = 1", "number = 65536", "has 16 bits"),
        ("base = 0x820000", "base = 0x1_0000_0000_0000_0000", "64 bits"),
        ("[grub]", "[grubb]", "unknown key 'grubb'"),
        ('[firmware]\nversion = "2022.11-6"', '[firmware]\nversion = ["1"]', "must be of type str"),
        ("[firmware]\n", "[firmware]\nstartup_locality = 4\n", "startup_locality is 0 or 3"),
        ('kek = ["Simulated Key Exchange Key"]', 'kek = "x"', "must be an array"),
        ("schema = 1", "schema = ", "is no TOML"),
    ],
)
def test_faulty_description_names_the_place(old: str, new: str, message: str) -> None:
    """A typo is an error that says where it is, never a default."""
    assert old in GRUB
    with pytest.raises(MalformedError, match=message):
        parse_boot_description(GRUB.replace(old, new, 1))


def test_other_encoding_is_malformed(tmp_path: Path) -> None:
    """A file that is not UTF-8 is no description."""
    path = tmp_path / "boot.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MalformedError, match="UTF-8"):
        load_boot_description(path)


def test_deep_nesting_is_malformed() -> None:
    """Nesting beyond reason is refused, not followed."""
    with pytest.raises(MalformedError, match="is no TOML"):
        parse_boot_description("a = " + "[" * 100_000)


def test_two_loaders_are_refused() -> None:
    """A machine boots GRUB or a unified kernel image, not both."""
    uki = (BOOTS / "uki-machine.toml").read_text(encoding="utf-8")
    both = GRUB + uki[uki.index("[uki]") :]
    with pytest.raises(MalformedError, match="either"):
        parse_boot_description(both)


@given(st.text())
def test_any_text_parses_or_is_malformed(text: str) -> None:
    """Parse, or MalformedError, never any other."""
    with pytest.raises(MalformedError):
        parse_boot_description(text)
