"""The leash key in the verifier's folder: made once, private, and used for nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import MalformedError
from bootlease.verifier.datadir import (
    LEASH_KEY,
    SIGNING_KEY,
    keep_key,
    load_keys,
    make_keys,
    make_leash_key,
)

ISSUER = "https://verifier.example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every key."""
    make_keys(tmp_path)
    return tmp_path


def test_it_is_made_once_and_is_no_other_key(folder: Path) -> None:
    """Making it again leaves it; it is private, and not the token key."""
    keys = load_keys(folder, ISSUER)
    make_leash_key(folder)
    again = load_keys(folder, ISSUER)
    assert keys.leash is not None
    assert again.leash is not None
    assert again.leash.public == keys.leash.public != keys.token.public
    assert (folder / LEASH_KEY).stat().st_mode & 0o777 == 0o600


def test_a_folder_without_one_is_read_all_the_same(folder: Path) -> None:
    """An older folder has none before it is served."""
    (folder / LEASH_KEY).unlink()
    assert load_keys(folder, ISSUER).leash is None


def test_the_token_key_is_no_leash_key(folder: Path) -> None:
    """What it signs begins with bytes that a node chose."""
    shutil.copy(folder / SIGNING_KEY, folder / LEASH_KEY)
    with pytest.raises(MalformedError, match="the token key"):
        load_keys(folder, ISSUER)


def test_one_on_another_curve_is_refused(folder: Path) -> None:
    """Not every TPM verifies with it."""
    (folder / LEASH_KEY).unlink()
    keep_key(folder / LEASH_KEY, ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(MalformedError, match="P-256"):
        load_keys(folder, ISSUER)


def test_one_that_others_can_read_is_refused(folder: Path) -> None:
    """As of every key of the folder."""
    (folder / LEASH_KEY).chmod(0o640)
    with pytest.raises(MalformedError, match="0640"):
        load_keys(folder, ISSUER)
