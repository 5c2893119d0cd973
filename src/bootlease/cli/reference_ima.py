"""``bootlease reference ima``: sets of the files that a good system may load."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from bootlease.cli.deb_package import read_package
from bootlease.cli.file_hashes import HASHES, Digests, FileHasher, hash_tree
from bootlease.cli.files import name_of, naming, read_file
from bootlease.cli.ima import QuotedValue
from bootlease.cli.reference_files import (
    Moment,
    Progress,
    json_option,
    output_option,
    read_any_reference,
    write_reference,
)
from bootlease.errors import MalformedError
from bootlease.ima import (
    DEFAULT_LIMITS,
    IMAEntry,
    IMAState,
    attest_list,
    display_name,
    measured_name,
    parse_list,
)
from bootlease.model import HashAlg
from bootlease.reference import IMAReferenceSet
from bootlease.reference.imajoin import join_ima
from bootlease.reference.imalearn import learn_files
from bootlease.reference.imaset import Origin, Scope, ScopeKind, SignerRule

R = TypeVar("R")

_existing = click.Path(path_type=Path, exists=True, dir_okay=False)
_MEGA: Final = 1_000_000
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class _Rules:
    """What options say beside the files."""

    content_below: tuple[bytes, ...]
    signers: dict[str, bytes]
    signed: tuple[SignerRule, ...]
    unsafe_exclude: tuple[Scope, ...]
    not_before: int | None
    not_after: int | None

    def with_files(
        self, name: str, version: str, origin: Origin, files: Digests, buffers: Digests
    ) -> IMAReferenceSet:
        """Make the set.

        Raises:
            click.UsageError: Options and files make none.
        """
        try:
            return IMAReferenceSet(
                name,
                version,
                origin,
                files,
                buffers,
                content_below=self.content_below,
                signers=self.signers,
                signed=self.signed,
                unsafe_exclude=self.unsafe_exclude,
                not_before=self.not_before,
                not_after=self.not_after,
            )
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc


class _Named(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``."""

    name = "NAME=VALUE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Read the option's value."""
        left, equals, right = str(value).partition("=")
        if not left or not equals or not right:
            self.fail(f"{value!r:.80} is not NAME=VALUE", param, ctx)
        return left, right


def _with_rules(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that make ``_Rules``, its first argument."""

    @click.option(
        "--content-below",
        multiple=True,
        metavar="DIR/",
        help="Files below it are good whose content any path of the set has (container images).",
    )
    @click.option(
        "--signer",
        "signers",
        type=_Named(),
        multiple=True,
        metavar="NAME=FILE",
        help="A signer of files: PEM public key or certificate.",
    )
    @click.option(
        "--signed-below",
        "signed",
        type=_Named(),
        multiple=True,
        metavar="SIGNER=DIR/",
        help="Files below it are good if the signer signed them, where policy counts signatures.",
    )
    @click.option(
        "--unsafe-exclude-below",
        "excluded",
        multiple=True,
        metavar="DIR/",
        help="Do not judge what is below it: whoever makes mount namespaces loads what he likes.",
    )
    @click.option(
        "--unsafe-exclude-buffer",
        "excluded_buffers",
        multiple=True,
        metavar="NAME",
        help="Do not judge measured buffers of this name.",
    )
    @click.option("--not-before", type=Moment(), help="First moment at which the set counts.")
    @click.option("--not-after", type=Moment(), help="Last moment at which the set counts.")
    @functools.wraps(command)
    def wrapped(
        *,
        content_below: tuple[str, ...],
        signers: tuple[tuple[str, str], ...],
        signed: tuple[tuple[str, str], ...],
        excluded: tuple[str, ...],
        excluded_buffers: tuple[str, ...],
        not_before: int | None,
        not_after: int | None,
        **options: object,
    ) -> R:
        below: dict[str, list[str]] = {}
        for signer, path in signed:
            below.setdefault(path, []).append(signer)
        try:
            rules = _Rules(
                tuple(_path(path) for path in content_below),
                {name: _key(Path(file)) for name, file in signers},
                tuple(
                    SignerRule(Scope(ScopeKind.BELOW, _path(path)), tuple(names))
                    for path, names in below.items()
                ),
                (
                    *(Scope(ScopeKind.BELOW, _path(path)) for path in excluded),
                    *(Scope(ScopeKind.BUFFER, _path(name)) for name in excluded_buffers),
                ),
                not_before,
                not_after,
            )
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc
        return command(rules, **options)

    return wrapped


def _path(text: str) -> bytes:
    return measured_name(text.encode("utf-8", "surrogateescape"))


def _key(file: Path) -> bytes:
    """Return the DER of a PEM public key or certificate."""
    data = read_file(file)
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise MalformedError(f"{file} is no PEM public key or certificate: {exc}") from exc
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


_hash = click.option(
    "--hash",
    "algorithms",
    type=click.Choice([*HASHES]),
    multiple=True,
    default=("sha256",),
    show_default=True,
    help="What the nodes measure with (ima_hash=); can be repeated.",
)
_programs = click.option(
    "--programs-only",
    is_flag=True,
    help="Leave out what is no program, library, script or kernel module.",
)
_name = click.option("--name", required=True, help="The set's name: policies accept it by name.")
_version = click.option("--version", default="1", show_default=True, help="The set's version.")


@click.group(name="ima")
def ima() -> None:
    """Make sets of the files that a good system may load.

    A node's kernel measures each file it loads (IMA); a policy that demands IMA accepts sets like
    these by name.
    """


def _hasher(algorithms: tuple[str, ...], *, programs_only: bool) -> tuple[FileHasher, Progress]:
    progress = Progress()

    def report(files: int, size: int) -> None:
        progress.say(f"hashed {files:,} files, {size / _MEGA:,.0f} MB")

    names = tuple(dict.fromkeys(algorithms))
    return FileHasher(names, programs_only=programs_only, report=report), progress


def _tell_aliases(aliases: list[bytes]) -> None:
    if aliases:
        named = ", ".join(map(display_name, aliases[:_NAMED]))
        click.echo(
            f"note: the kernel measures {len(aliases)} paths with spaces under the name of another"
            f" file, so that either is good for both: {named}",
            err=True,
        )


@ima.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--as",
    "prefix",
    default="/",
    show_default=True,
    metavar="PATH",
    help="What the node calls ROOT: / for a whole image, /usr for a tree that lies there.",
)
@_hash
@_programs
@_name
@_version
@output_option
@json_option
@_with_rules
def directory(
    rules: _Rules,
    *,
    root: Path,
    prefix: str,
    algorithms: tuple[str, ...],
    programs_only: bool,
    name: str,
    version: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a set of the files below ROOT: a mounted image, or a build's output.

    Symbolic links are not followed: the kernel measures what they lead to. A file that cannot be
    read is an error, for a set with holes refuses good nodes.
    """
    if not prefix.startswith("/"):
        raise click.BadParameter("the node knows absolute paths only", param_hint="'--as'")
    hasher, progress = _hasher(algorithms, programs_only=programs_only)
    try:
        below = prefix.rstrip("/").encode("utf-8", "surrogateescape")
        hash_tree(bytes(root), below, hasher)
    finally:
        progress.end()
    if not hasher.digests and not rules.signed:
        kind = "program" if programs_only else "regular file"
        raise click.BadParameter(f"there is no {kind} below {root}", param_hint="'ROOT'")
    _tell_aliases(hasher.aliases)
    made = rules.with_files(name, version, Origin.BUILT, hasher.digests, {})
    write_reference(made, output, as_json=as_json)


@ima.command()
@click.argument("packages", type=_existing, nargs=-1, required=True, metavar="PACKAGE...")
@click.option(
    "--merged-usr/--no-merged-usr",
    default=True,
    help="The node's /bin, /lib and the like are links into /usr (as in every Debian since 12).",
)
@_hash
@_programs
@click.option("--name", help="The set's name; by default that of the one package.")
@click.option("--version", help="The set's version; by default that of the one package.")
@output_option
@json_option
@_with_rules
def package(
    rules: _Rules,
    *,
    packages: tuple[Path, ...],
    merged_usr: bool,
    algorithms: tuple[str, ...],
    programs_only: bool,
    name: str | None,
    version: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a set of the files in Debian packages (.deb).

    The packages are taken as they are: that they are the archive's is for apt to say.
    """
    if len(packages) > 1 and (name is None or version is None):
        raise click.UsageError("a set of several packages needs --name and --version")
    hasher, progress = _hasher(algorithms, programs_only=programs_only)
    fields: dict[str, str] = {}
    try:
        for each in packages:
            fields = read_package(each, hasher, merged_usr=merged_usr)
    finally:
        progress.end()
    _tell_aliases(hasher.aliases)
    made = rules.with_files(
        name or fields["Package"].replace("+", "-plus"),
        version or fields["Version"],
        Origin.BUILT,
        hasher.digests,
        {},
    )
    write_reference(made, output, as_json=as_json)


@ima.command()
@click.argument("file", type=click.File("rb", lazy=True))
@click.option(
    "--quoted",
    type=QuotedValue(),
    multiple=True,
    help="Quoted PCR 10 of the same boot: the list must lead to it, and counts up to there.",
)
@_name
@_version
@output_option
@json_option
@_with_rules
def node(
    rules: _Rules,
    *,
    file: IO[bytes],
    quoted: tuple[tuple[HashAlg, bytes], ...],
    name: str,
    version: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a set of what a running node loaded, from its binary IMA list in FILE.

    The node is good because you say so: nothing in its list can tell. The set is marked as learned.
    """
    data = file.read(DEFAULT_LIMITS.max_bytes + 1)
    with naming(f"{name_of(file)} is no binary IMA list"):
        learned = learn_files(_entries(data, dict(quoted)))
    if learned.violations:
        click.echo(
            f"note: {learned.violations} files were written while they were in use; nobody knows"
            " what was loaded, and they are left out",
            err=True,
        )
    made = rules.with_files(name, version, Origin.LEARNED, learned.files, learned.buffers)
    write_reference(made, output, as_json=as_json)


def _entries(data: bytes, quoted: dict[HashAlg, bytes]) -> Iterator[IMAEntry]:
    if quoted:
        return attest_list(IMAState.START, data, quoted).entries()
    return parse_list(data)


@ima.command()
@click.argument("files", type=click.File("rb", lazy=True), nargs=-1, required=True)
@_name
@_version
@output_option
@json_option
def join(
    files: tuple[IO[bytes], ...],
    *,
    name: str,
    version: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make one set of several: what one of them lists is listed."""
    sets = []
    for file in files:
        reference = read_any_reference(file)
        if not isinstance(reference, IMAReferenceSet):
            raise MalformedError(f"{name_of(file)} is about a boot, not about loaded files")
        sets.append(reference)
    try:
        joined = join_ima(sets, name=name, version=version)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    write_reference(joined, output, as_json=as_json)
