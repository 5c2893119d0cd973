"""Promises of the project's files: pins, versions, documents that say what is."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest

import bootlease.cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ("base", "node", "dev", "build")
LONGEST_MODULE: Final = 450
HELP: Final = "sys.argv[1:] = ['--help']; from bootlease.cli import main; main()"
PIN: Final = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)

# Spelled in pieces, so that this file does not hold what it forbids.
PLACES_OF_ONE_MACHINE: Final = tuple(
    "/" + "/".join(parts)
    for parts in (("work", ""), ("opt", "pypi"), ("opt", "wheels"), ("tmp", "w", ""), (".pyenv",))
)
REGISTRY_HOSTS: Final = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("deb", "debian", "org"))
)


def project_files(*suffixes: str) -> list[Path]:
    """Return the files that git tracks or would track, with one of the suffixes or any."""
    # Git refuses a tree of another owner, as a container's mounted checkout is, unless named.
    listed = subprocess.run(
        [
            *("git", "-c", f"safe.directory={ROOT}", "ls-files"),
            *("--cached", "--others", "--exclude-standard", "-z"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and (path.suffix in suffixes or not suffixes)]


def pins(name: str) -> dict[str, str]:
    """Return the pinned version of every package in requirements/``name``.txt."""
    return dict(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def test_installed_version_is_the_packages_own() -> None:
    """The distribution and the package agree on the version."""
    assert importlib.metadata.version("bootlease") == bootlease.__version__


def test_changelog_knows_the_version() -> None:
    """The changelog has a section for this version, or for what is not released yet."""
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {"Unreleased", bootlease.__version__} & set(headings)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_carry_hashes_and_no_addresses(name: str) -> None:
    """Every requirement is an exact pin with hashes; the file names no place to fetch from."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-[a-z]|--(?!hash))", text, re.MULTILINE)
    code = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, code.splitlines()):
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+(\s+--hash=sha256:[0-9a-f]{64})+\s*$", line)


def test_requirements_agree() -> None:
    """Base is part of node, node of dev, and build pins nothing differently."""
    base, node, dev, build = (pins(name) for name in REQUIREMENTS)
    assert base.items() <= node.items() <= dev.items()
    assert all(dev.get(package, version) == version for package, version in build.items())


def test_requirements_cover_pyproject() -> None:
    """Every dependency that pyproject.toml declares is pinned where it belongs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for declared, pinned in (
        (project["dependencies"], pins("base")),
        (extras["node"], pins("node")),
        (extras["dev"], pins("dev")),
    ):
        names = {re.split(r"[^a-zA-Z0-9.-]", text)[0].lower() for text in declared}
        assert names <= pinned.keys()


def test_verifier_needs_no_tpm_library() -> None:
    """The base requirements leave out what only a node needs."""
    assert "tpm2-pytss" not in pins("base")
    assert "tpm2-pytss" in pins("node")


@pytest.mark.parametrize(
    "statement", ["import bootlease.testing.plugin", HELP], ids=["plugin", "help"]
)
def test_works_without_the_node_extra(statement: str) -> None:
    """The pytest plugin, which loads wherever bootlease is installed, and the help need no TPM."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['tpm2_pytss'] = None; {statement}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_no_file_names_one_machine() -> None:
    """No file carries a path of the machine it was written on, or a registry's address."""
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in project_files()
        for text in PLACES_OF_ONE_MACHINE + REGISTRY_HOSTS
        if text.encode() in path.read_bytes()
    ]
    assert found == []


def test_source_has_no_asserts() -> None:
    """No check of the package vanishes under ``python -O``."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_modules_stay_readable() -> None:
    """No module of the package outgrows what a reader can hold."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "src").rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_make_prints_its_targets() -> None:
    """``make`` alone lists what can be made, and each listed target exists."""
    text = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    listed = set(re.findall(r"^  make (\w+)", text, re.MULTILINE))
    assert {"setup", "demo", "test", "check", "bench", "clean"} <= listed
    assert listed <= make_targets()


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def documents() -> list[Path]:
    """Return every Markdown page of the project."""
    return project_files(".md")


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and its fragment a heading of that file."""
    for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if fragment:
            assert fragment in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Return the fragments that a Markdown page's headings can be reached by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def shell_lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page's shell blocks, continuation lines joined."""
    for language, block in re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        if language in {"sh", "bash", "console", "shell"}:
            joined = block.replace("\\\n", " ")
            for line in joined.splitlines():
                if language != "console":
                    yield line.strip()
                elif line.startswith("$ "):
                    yield line[2:].strip()


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_commands_exist(page: Path) -> None:
    """Each command line in a document's shell block names a real command, options or target."""
    for line in shell_lines(page):
        words = shlex.split(line, comments=True)
        name = Path(words[0]).name if words else ""
        if name == "make":
            assert {word for word in words[1:] if re.fullmatch("[a-z]+", word)} <= make_targets()
        elif name == "bootlease":
            assert unknown_words(words[1:]) == [], line


def unknown_words(words: list[str]) -> list[str]:
    """Return the subcommands and options of a ``bootlease`` command line that do not exist."""
    command: click.Command = bootlease.cli.bootlease
    unknown = []
    for word in words:
        if word == "--" or word in {"|", ">", "2>", "&", "&&", ";"}:
            break
        if word.startswith("--"):
            context = click.Context(command, info_name=command.name)
            options = {name for item in command.get_params(context) for name in item.opts}
            options |= {
                name for item in command.get_params(context) for name in item.secondary_opts
            }
            if word.partition("=")[0] not in options:
                unknown.append(f"{command.name} {word}")
        elif isinstance(command, click.Group):
            below = command.get_command(click.Context(command), word)
            if below is None:
                unknown.append(f"{command.name} {word}")
                break
            command = below
    return unknown


def test_command_page_is_current() -> None:
    """docs/cli.md is what the commands say of themselves."""
    run = subprocess.run(
        [sys.executable, "docs/write_cli.py", "--check"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def collect_conformance(**environment: str) -> subprocess.CompletedProcess[str]:
    """Collect the conformance tests under another environment."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/conformance"],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def test_absent_corpus_is_said() -> None:
    """Without a corpus its tests are deselected, never skipped, and one line says how many."""
    run = collect_conformance(BOOTLEASE_CORPUS="/nonexistent", BOOTLEASE_REQUIRE_CORPUS="")
    assert re.search(r"^\d+ tests deselected: no corpus at /nonexistent", run.stdout, re.MULTILINE)
    assert "error" not in run.stdout.lower()


def test_required_corpus_ends_the_run() -> None:
    """Where a corpus is required, its absence is an error and nothing runs."""
    run = collect_conformance(BOOTLEASE_CORPUS="/nonexistent", BOOTLEASE_REQUIRE_CORPUS="1")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "BOOTLEASE_CORPUS names the corpus" in run.stderr


def test_decision_records_are_numbered_in_order() -> None:
    """The decision records count from 1 without a gap or a twin."""
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
