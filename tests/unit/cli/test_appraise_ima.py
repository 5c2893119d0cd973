"""``bootlease appraise`` on evidence of a node that measures what it loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.reference import serialise_any_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import IMA_POLICY, Scene, files_reference

BASH = "/usr/bin/bash"


@pytest.mark.parametrize(("content", "code"), [(b"bash", 0), (b"another", 1)])
@pytest.mark.parametrize("carried", [True, False])
def test_a_list_is_judged_offline(
    tmp_path: Path,
    local_ca: LocalCA,
    capfd: pytest.CaptureFixture[str],
    content: bytes,
    code: int,
    *,
    carried: bool,
) -> None:
    """In the document or beside it, with sets of both kinds; the refusal names the file."""
    scene = Scene.create(local_ca, policy=IMA_POLICY)
    scene.node.start_ima().measure(BASH, content)
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    if not carried:
        (tmp_path / "list").write_bytes(evidence.logs["ima"])
        (tmp_path / "log").write_bytes(evidence.logs["tcg"])
    files = {
        "evidence": (evidence if carried else evidence.without_logs()).encode(),
        "challenge": challenge.encode(),
        "enrolment": scene.enrolment.encode(),
        "policy": IMA_POLICY.encode(),
        "boot": serialise_any_reference(scene.references[0]),
        "files": serialise_any_reference(files_reference({BASH: b"bash"})),
        "root": local_ca.roots_pem,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    options = [f"--{name}={tmp_path / name}" for name in ("challenge", "enrolment", "policy")]
    options += [f"--reference={tmp_path / name}" for name in ("boot", "files")]
    options += [f"--root={tmp_path / 'root'}", f"--at={scene.now}"]
    if not carried:
        options += [f"--ima-list={tmp_path / 'list'}", f"--log={tmp_path / 'log'}"]
    missing = [] if carried else ["lineage.full-evidence-required"]
    assert run(["appraise", str(tmp_path / "evidence"), *options]) == (1 if missing else code)
    said = capfd.readouterr().out
    assert all(finding in said for finding in missing)
    assert (f"{BASH} is not what" in said) == (code == 1)
