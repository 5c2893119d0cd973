"""What swtpm_setup is told is what the folder swtpm/ shows."""

from __future__ import annotations

import shutil
from pathlib import Path

from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import write_swtpm_configuration

SHOWN = Path(__file__).parents[3] / "swtpm"


def test_written_configuration_is_the_one_shown(tmp_path: Path) -> None:
    """The files for people and the files that are written do not drift apart."""
    setup = write_swtpm_configuration(tmp_path, LocalCA.create())
    localca = shutil.which("swtpm_localca") or "swtpm_localca"
    for name in ("swtpm_setup.conf.in", "swtpm-localca.conf.in", "swtpm-localca.options"):
        shown = (SHOWN / name).read_text(encoding="utf-8")
        shown = shown.replace("@FOLDER@", str(tmp_path)).replace("@SWTPM_LOCALCA@", localca)
        assert (tmp_path / name.removesuffix(".in")).read_text(encoding="utf-8") == shown
    assert setup == tmp_path / "swtpm_setup.conf"


def test_key_of_the_ca_is_for_its_owner_only(tmp_path: Path) -> None:
    """Nobody else reads the CA's signing key while it lies on disk."""
    write_swtpm_configuration(tmp_path, LocalCA.create())
    assert (tmp_path / "signkey.pem").stat().st_mode & 0o777 == 0o600
