"""Why a TPM cannot be reached, in words for its operator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from bootlease.node.tpm import esapi

ERROR = TSS2_Exception(0xA000A)


def test_missing_device() -> None:
    """A device that is not there is named."""
    assert esapi._unreachable("device:/dev/no-tpm", ERROR).startswith("no TPM at /dev/no-tpm")


@pytest.mark.parametrize(
    ("path", "hint"),
    [("/dev/tpmrm0", "; is this user in the group tss?"), ("/run/tpm", "")],
)
def test_forbidden_device(path: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of the kernel's resource manager belongs to a group that has a name."""
    monkeypatch.setattr(Path, "stat", lambda *_, **__: os.stat_result(range(10)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    kind = "device" if path.startswith("/dev") else "swtpm"
    prefix = ":path=" if kind == "swtpm" else ":"
    said = esapi._unreachable(f"{kind}{prefix}{path}", ERROR)
    assert said == f"permission denied on {path}{hint}"


def test_forbidden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket in a folder that one may not enter is not called missing."""

    def stat(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", stat)
    said = esapi._unreachable("swtpm:path=/locked/tpm", ERROR)
    assert said == "permission denied on the way to /locked/tpm"
