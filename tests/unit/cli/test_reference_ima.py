"""``bootlease reference ima``: sets made of directories, Debian packages and running nodes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.cli import run
from bootlease.model import HashAlg
from bootlease.reference import IMAReferenceSet, parse_ima_reference
from bootlease.reference.imaset import Origin
from bootlease.testing.ima_list import field, file_fields, list_entry

Capture = pytest.CaptureFixture[str]
ELF: Final = b"\x7fELF and so on"


def sha256(data: bytes) -> str:
    """The digest of a file as sets write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def made(path: Path) -> IMAReferenceSet:
    """The set in a file."""
    return parse_ima_reference(path.read_bytes())


def listed(path: Path) -> dict[str, list[str]]:
    """The files of a set as text."""
    return {
        name.decode("utf-8", "backslashreplace"): [*map(str, digests)]
        for name, digests in made(path).files.items()
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small image."""
    root = tmp_path / "image"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(ELF)
    (root / "usr/bin/script").write_bytes(b"#!/bin/sh\n")
    (root / "usr/share").mkdir()
    (root / "usr/share/text").write_bytes(b"text")
    (root / "usr/share/run-me").write_bytes(b"data")
    (root / "usr/share/run-me").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/other").symlink_to("tool")
    os.mkfifo(root / "usr/pipe")
    return root


def directory(root: Path, output: Path, *options: str) -> int:
    """Make a set of a directory."""
    command = ["reference", "ima", "directory", str(root), "--name", "web", "-o", str(output)]
    return run([*command, *options])


def test_a_directory_becomes_a_set(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    """Regular files only, under the paths that the node calls them by; no link is followed."""
    output = tmp_path / "web.json"
    assert directory(tree, output, "--version", "7", "--json") == 0
    assert listed(output) == {
        "/usr/bin/script": [sha256(b"#!/bin/sh\n")],
        "/usr/bin/tool": [sha256(ELF)],
        "/usr/share/run-me": [sha256(b"data")],
        "/usr/share/text": [sha256(b"text")],
    }
    assert made(output).origin is Origin.BUILT
    assert json.loads(capfd.readouterr().out) == {
        "kind": "ima",
        "name": "web",
        "version": "7",
        "digest": made(output).digest.hex(),
    }


def test_a_long_job_says_what_it_does(
    tree: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal, a line goes to the log from time to time, and none of a short job."""
    assert directory(tree, tmp_path / "short.json") == 0
    assert "hashed" not in capfd.readouterr().err
    monkeypatch.setattr("bootlease.cli.reference_files._BEFORE_LOG_LINE", 0)
    assert directory(tree, tmp_path / "long.json") == 0
    (line,) = [each for each in capfd.readouterr().err.splitlines() if "hashed" in each]
    assert line.startswith("hashed ")
    assert line.endswith(" MB")


def test_a_part_of_an_image_keeps_its_place(tree: Path, tmp_path: Path) -> None:
    """``--as`` says what the node calls the directory; hashes are chosen and may be several."""
    output = tmp_path / "web.json"
    options = ["--as", "/usr/bin/", "--hash", "sha512", "--hash", "sha256"]
    assert directory(tree / "usr/bin", output, *options) == 0
    assert sorted(listed(output)) == ["/usr/bin/script", "/usr/bin/tool"]
    assert [text.partition(":")[0] for text in listed(output)["/usr/bin/tool"]] == [
        "sha256",
        "sha512",
    ]
    assert directory(tree, tmp_path / "no.json", "--as", "usr") == 2


def test_programs_alone_can_be_listed(tree: Path, tmp_path: Path) -> None:
    """ELF files, scripts, what may be executed and kernel modules are programs."""
    (tree / "usr/share/x.ko").write_bytes(b"module")
    output = tmp_path / "web.json"
    assert directory(tree, output, "--programs-only") == 0
    assert sorted(listed(output)) == [
        "/usr/bin/script",
        "/usr/bin/tool",
        "/usr/share/run-me",
        "/usr/share/x.ko",
    ]


def test_names_are_those_that_the_kernel_measures(
    tree: Path, tmp_path: Path, capfd: Capture
) -> None:
    """A space becomes an underline, odd bytes stay, and two files of one name are said."""
    (tree / "usr/share/a b").write_bytes(b"1")
    (tree / "usr/share/a_b").write_bytes(b"2")
    Path(os.fsdecode(bytes(tree) + b"/usr/share/\xff\n")).write_bytes(b"3")
    output = tmp_path / "web.json"
    assert directory(tree, output) == 0
    assert sorted(listed(output)["/usr/share/a_b"]) == sorted([sha256(b"1"), sha256(b"2")])
    assert made(output).files[b"/usr/share/\xff\n"]
    assert "under the name of another" in capfd.readouterr().err


def test_an_unreadable_file_is_an_error(
    tree: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set with holes would refuse good nodes, so none is made."""
    opened = os.open

    def refuse(path: bytes | str, *args: int, **kwargs: int) -> int:
        if bytes(os.fsencode(path)).endswith(b"tool"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("bootlease.cli.file_hashes.os.open", refuse)
    assert directory(tree, tmp_path / "web.json") == 2
    assert "Permission denied" in capfd.readouterr().err
    assert not (tmp_path / "web.json").exists()


def pem(path: Path) -> Path:
    """A public key in a file."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_rules_come_from_options(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    """Signers, trees, exclusions and validity are part of the set, and shown."""
    output = tmp_path / "web.json"
    options = [
        *("--signer", f"vendor={pem(tmp_path / 'key.pem')}", "--signed-below", "vendor=/opt/v/"),
        *("--content-below", "/var/lib/containers/", "--unsafe-exclude-below", "/var/spool/"),
        *("--unsafe-exclude-buffer", "kernel_version"),
        *("--not-before", "2026-01-01T00:00:00Z", "--not-after", "1800000000"),
    ]
    assert directory(tree, output, *options) == 0
    reference = made(output)
    assert (reference.not_before, reference.not_after) == (1767225600, 1800000000)
    assert run(["reference", "show", str(output)]) == 0
    shown = capfd.readouterr().out
    for said in (
        "made of the files themselves",
        "vendor may sign below /opt/v/",
        "copies of listed files may lie below /var/lib/containers/",
        "not judged at all (unsafe_exclude): below /var/spool/",
        "not judged at all (unsafe_exclude): buffer kernel_version",
        "valid from 2026-01-01 00:00:00 UTC",
        f"{sha256(ELF)}  /usr/bin/tool",
    ):
        assert said in shown
    assert run(["reference", "show", "--json", str(output)]) == 0
    assert json.loads(capfd.readouterr().out)["digest"] == reference.digest.hex()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--unsafe-exclude-below", "/"], "would cover every file"),
        (["--content-below", "usr"], "begin and end with /"),
        (["--signed-below", "vendor=/opt/"], "has no key"),
        (["--signer", "vendor"], "is not NAME=VALUE"),
        (["--not-after", "tomorrow"], "is no moment"),
        (["--name", "Web"], "no reference name"),
        (["--hash", "sha1"], "is not one of"),
    ],
)
def test_wrong_usage_is_exit_2(
    tree: Path, tmp_path: Path, capfd: Capture, options: list[str], why: str
) -> None:
    """A slip of the pen makes no set, and is named."""
    assert directory(tree, tmp_path / "x.json", *options) == 2
    assert why in capfd.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_a_signer_without_a_key_is_named(tree: Path, tmp_path: Path, capfd: Capture) -> None:
    """A file that holds no key is malformed."""
    (tmp_path / "junk").write_bytes(b"junk")
    options = ["--signer", f"vendor={tmp_path / 'junk'}", "--signed-below", "vendor=/opt/"]
    assert directory(tree, tmp_path / "x.json", *options) == 2
    assert "is no PEM public key or certificate" in capfd.readouterr().err


# -- Debian packages


def tar(files: dict[str, bytes], *, links: dict[str, str] | None = None, mode: str = "w") -> bytes:
    """A tar file with a symbolic link in it, and hard ones."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]  # as given
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
        member = tarfile.TarInfo("./usr/bin/alias")
        member.type, member.linkname = tarfile.SYMTYPE, "tool"
        archive.addfile(member)
    return stream.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    """An ``ar`` archive."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        parts += [head.encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


CONTROL: Final = b"Package: libtool++\nVersion: 1:2.0~rc1-1\nArchitecture: amd64\nEssential: no\n"
FILES: Final = {
    "./bin/tool": ELF,
    "./usr/share/doc/a b": b"odd",
    "./opt/x": b"x" * 3_000_000,
    "./.hidden": b"h",
}


def deb(path: Path, **members: bytes) -> Path:
    """A package; members are given as ``data_tar_xz``."""
    given = {name.replace("_", "."): content for name, content in members.items()}
    control = (
        {}
        if any(name.startswith("control") for name in given)
        else {"control.tar.gz": tar({"./control": CONTROL}, mode="w:gz")}
    )
    path.write_bytes(ar({"debian-binary": b"2.0\n", **control, **given}))
    return path


def package(path: Path, output: Path, *options: str) -> int:
    """Make a set of a package."""
    return run(["reference", "ima", "package", str(path), "-o", str(output), *options])


@pytest.mark.parametrize(
    ("name", "mode"), [("data_tar", "w"), ("data_tar_gz", "w:gz"), ("data_tar_xz", "w:xz")]
)
def test_a_package_becomes_a_set(tmp_path: Path, name: str, mode: str) -> None:
    """Files of a package under the paths of a merged /usr, named as the package is."""
    data = tar(FILES, links={"./bin/link": "./bin/tool"}, mode=mode)
    output = tmp_path / "tool.json"
    assert package(deb(tmp_path / "tool.deb", **{name: data}), output) == 0
    reference = made(output)
    assert (reference.name, reference.version) == ("libtool-plus-plus", "1:2.0~rc1-1")
    assert reference.origin is Origin.BUILT
    assert listed(output) == {
        "/.hidden": [sha256(b"h")],
        "/opt/x": [sha256(b"x" * 3_000_000)],
        "/usr/bin/link": [sha256(ELF)],
        "/usr/bin/tool": [sha256(ELF)],
        "/usr/share/doc/a_b": [sha256(b"odd")],
    }


def test_an_unmerged_usr_and_another_name(tmp_path: Path) -> None:
    """Where /bin is a directory of its own the paths stay; names can be given."""
    output = tmp_path / "tool.json"
    path = deb(tmp_path / "tool.deb", data_tar=tar(FILES))
    assert package(path, output, "--no-merged-usr", "--name", "x", "--version", "2") == 0
    assert "/bin/tool" in listed(output)
    assert made(output).label == "x 2"


def test_several_packages_make_one_set(tmp_path: Path, capfd: Capture) -> None:
    """Several packages need a name, and their files are joined."""
    first = deb(tmp_path / "a.deb", data_tar=tar({"./bin/tool": ELF}))
    second = deb(tmp_path / "b.deb", data_tar=tar({"./bin/tool": b"newer", "./b": b"b"}))
    output = tmp_path / "x.json"
    assert package(first, output, str(second)) == 2
    assert "needs --name" in capfd.readouterr().err
    assert package(first, output, str(second), "--name", "x", "--version", "1") == 0
    assert listed(output) == {
        "/b": [sha256(b"b")],
        "/usr/bin/tool": sorted([sha256(ELF), sha256(b"newer")]),
    }


@pytest.fixture
def zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``zstd`` that undoes zlib: what is tried here is how it is run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "zstd"
    program.write_text(
        f"#!{sys.executable}\nimport sys, zlib\n"
        "sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


@pytest.mark.usefixtures("zstd")
def test_zstandard_is_undone_by_the_program(tmp_path: Path, capfd: Capture) -> None:
    """Ubuntu's packages are read through zstd, and a broken stream is an error."""
    packed = zlib.compress(tar(FILES))
    control = zlib.compress(tar({"control": CONTROL}))
    path = deb(tmp_path / "x.deb", control_tar_zst=control, data_tar_zst=packed)
    assert package(path, tmp_path / "x.json") == 0
    assert listed(tmp_path / "x.json")["/usr/bin/tool"] == [sha256(ELF)]
    deb(path, data_tar_zst=packed[:-100])
    assert package(path, tmp_path / "y.json") == 2
    assert "no sound Debian package" in capfd.readouterr().err


def test_without_zstd_the_refusal_says_what_to_do(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compression that cannot be undone is no empty package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = deb(tmp_path / "x.deb", data_tar_zst=zlib.compress(tar(FILES)))
    assert package(path, tmp_path / "x.json") == 2
    assert "install zstd" in capfd.readouterr().err


GOOD: Final = tar(FILES)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not a package", "not an ar archive"),
        (b"", "not an ar archive"),
        (ar({"debian-binary": b"2.0\n"}), "lacks control.tar or data.tar"),
        (ar({"data.tar": GOOD}), "lacks control.tar or data.tar"),
        (ar({"control.tar": tar({"control": b"Package: x\n"}), "data.tar": GOOD}), "lacks"),
        (ar({"control.tar": tar({"control": CONTROL}), "data.tar": GOOD})[:-4000], "sound"),
        (ar({"control.tar": b"x" * 1000, "data.tar": GOOD}), "sound"),
        (ar({"control.tar": tar({"control": CONTROL}), "data.tar.lz4": GOOD}), "compression"),
        (ar({"control.tar": tar({"control": CONTROL}), "data.tar.xz": GOOD}), "sound"),
        (ar({"control.tar": tar({"control": CONTROL}), "data.tar.gz": GOOD}), "sound"),
        (ar({"data.tar": GOOD}).replace(b"`\n", b"xx", 1), "header is broken"),
        (
            ar({"control.tar": tar({"control": CONTROL}), "data.tar": tar({"../x": b"y"})}),
            "outside the root",
        ),
    ],
    ids=range(12),
)
def test_a_broken_package_is_named(
    tmp_path: Path, capfd: Capture, content: bytes, why: str
) -> None:
    """Whatever is wrong with a package, it is one clear line and exit code 2."""
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    assert package(path, tmp_path / "x.json") == 2
    err = capfd.readouterr().err
    assert why in err
    assert str(path) in err
    assert not (tmp_path / "x.json").exists()


# -- running nodes


def fields(path: str, content: bytes) -> bytes:
    """Template data of a file."""
    return file_fields(path, hashlib.sha256(content).digest())


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """What a node measured: the boot aggregate, files, a buffer and a violation."""
    line = b"root=/dev/vda"
    data = [
        list_entry("ima-ng", fields("boot_aggregate", b"pcrs")),
        list_entry("ima-ng", fields("/usr/bin/tool", ELF)),
        list_entry("ima-ng", fields("/usr/bin/tool", ELF)),
        list_entry("ima-ng", fields("/usr/bin/tool", b"newer")),
        list_entry("ima-buf", fields("kexec-cmdline", line) + field(line)),
        list_entry("ima-ng", fields("/var/log/x", b"?"), violation=True),
    ]
    path = tmp_path / "list"
    path.write_bytes(b"".join(data))
    return path


def node(path: Path, output: Path, *options: str) -> int:
    """Make a set of a list."""
    command = ["reference", "ima", "node", str(path), "--name", "web", "-o", str(output)]
    return run([*command, *options])


def test_a_running_node_becomes_a_set(runtime: Path, tmp_path: Path, capfd: Capture) -> None:
    """Files and buffers are learned and marked so; violations are left out and said."""
    output = tmp_path / "web.json"
    assert node(runtime, output) == 0
    reference = made(output)
    assert reference.origin is Origin.LEARNED
    assert listed(output) == {"/usr/bin/tool": sorted([sha256(ELF), sha256(b"newer")])}
    assert [*reference.buffers] == [b"kexec-cmdline"]
    assert "1 files were written while they were in use" in capfd.readouterr().err
    assert run(["reference", "show", str(output)]) == 0
    assert "learned from a running node" in capfd.readouterr().out


def test_a_list_counts_up_to_the_quote(runtime: Path, tmp_path: Path) -> None:
    """With a quoted PCR 10 only what it attests is learned; a value that does not fit refuses."""
    pcr = bytes(32)
    for data in (fields("boot_aggregate", b"pcrs"), fields("/usr/bin/tool", ELF)):
        pcr = HashAlg.SHA256.digest(pcr + HashAlg.SHA256.digest(data))
    output = tmp_path / "web.json"
    assert node(runtime, output, "--quoted", f"sha256:{pcr.hex()}") == 0
    assert listed(output) == {"/usr/bin/tool": [sha256(ELF)]}
    assert node(runtime, tmp_path / "x.json", "--quoted", f"sha256:{'00' * 32}") == 1


def test_a_node_that_measures_by_sha1_is_refused(tmp_path: Path, capfd: Capture) -> None:
    """A hash that no longer tells files apart makes no reference, and the way out is said."""
    data = file_fields("/bin/x", bytes(20), HashAlg.SHA1)
    path = tmp_path / "list"
    path.write_bytes(list_entry("ima-ng", data))
    assert node(path, tmp_path / "x.json") == 1
    assert "ima_hash=sha256" in capfd.readouterr().err


def test_what_is_no_list_is_malformed(tmp_path: Path, capfd: Capture) -> None:
    """Junk is named with the file."""
    path = tmp_path / "junk"
    path.write_bytes(b"junk")
    assert node(path, tmp_path / "x.json") == 2
    assert f"{path} is no binary IMA list" in capfd.readouterr().err


# -- several sets


def test_sets_are_joined(tree: Path, runtime: Path, tmp_path: Path) -> None:
    """What one set lists is listed, and what a node taught stays marked."""
    first, second, output = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    assert directory(tree, first) == 0
    assert node(runtime, second) == 0
    command = ["reference", "ima", "join", "--name", "all", "--version", "3", "-o", str(output)]
    assert run([*command, str(first), str(second)]) == 0
    assert listed(output)["/usr/bin/tool"] == sorted([sha256(ELF), sha256(b"newer")])
    assert "/usr/share/text" in listed(output)
    assert made(output).origin is Origin.LEARNED
    assert made(output).label == "all 3"


def test_sets_that_contradict_each_other_are_not_joined(
    tree: Path, tmp_path: Path, capfd: Capture
) -> None:
    """One name for two keys is nobody's name."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        key = pem(tmp_path / f"{path.stem}.pem")
        options = ["--signer", f"v={key}", "--signed-below", "v=/opt/"]
        assert directory(tree, path, *options) == 0
    output = tmp_path / "c.json"
    command = ["reference", "ima", "join", "--name", "all", "-o", str(output)]
    assert run([*command, *map(str, paths)]) == 2
    assert "different keys" in capfd.readouterr().err
