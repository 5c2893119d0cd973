"""The file form of a set of files that a node may load: JSON with a strict schema.

    {"schema": 1, "kind": "ima", "name": "web", "version": "2026-11", "origin": "built",
     "not_before": 1790000000, "not_after": 1800000000,                          (both optional)
     "files": {"/usr/bin/bash": ["sha256:<hex>"], "/usr/lib/libc.so.6": ["verity:sha256:<hex>"]},
     "hex_files": {"2f746d702fff": ["sha256:<hex>"]},                                 (optional)
     "buffers": {"kexec-cmdline": ["sha256:<hex>"]},                                  (optional)
     "content_below": ["/var/lib/containers/"],                                       (optional)
     "signers": {"vendor": "<base64 of the DER SubjectPublicKeyInfo>"},               (optional)
     "signed": [{"below": "/opt/vendor/", "by": ["vendor"]}],                         (optional)
     "unsafe_exclude": [{"below": "/var/tmp/"}, {"path": "/x"}, {"buffer": "y"}]}     (optional)

A path is text where its bytes are UTF-8, and stands under ``hex_files`` where they are not, so that
each has one form. Within rules a path that is not UTF-8 cannot be written. Every other member is an
error, and so is one that is missing, empty or repeated.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.ima.entry import IMADigest
from bootlease.reference.imaset import (
    MAX_DIGESTS,
    MAX_FILES,
    MAX_RULES,
    MAX_SIGNERS,
    IMAReferenceSet,
    Listed,
    Origin,
    Scope,
    ScopeKind,
    SignerRule,
    parse_file_digest,
)
from bootlease.token import strictjson

IMA_KIND: Final = "ima"
MAX_IMA_FILE: Final = 256 * 1024 * 1024
_MAX_TIME: Final = 1 << 53
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_REQUIRED: Final = frozenset({"schema", "kind", "name", "version", "origin", "files"})
_OPTIONAL: Final = frozenset(
    {
        *("not_before", "not_after", "hex_files", "buffers"),
        *("content_below", "signers", "signed", "unsafe_exclude"),
    }
)


def parse_ima_reference(data: bytes) -> IMAReferenceSet:
    """Parse a file of this form into an unverified set: who vouches for it is not in it.

    Raises:
        MalformedError: The bytes are not one.
    """
    if len(data) > MAX_IMA_FILE:
        raise MalformedError(f"an IMA reference file of more than {MAX_IMA_FILE} bytes")
    return ima_reference_of(strictjson.parse_object(data))


def ima_reference_of(file: dict[str, Any]) -> IMAReferenceSet:
    """Make a set of the members of such a file.

    Raises:
        MalformedError: They are not those of one.
    """
    if missing := sorted(_REQUIRED - file.keys()):
        raise MalformedError(f"IMA reference lacks {missing[0]!r}")
    if unknown := sorted(file.keys() - _REQUIRED - _OPTIONAL):
        raise MalformedError(f"IMA reference has the unknown member {unknown[0]!r:.80}")
    if type(file["schema"]) is not int or file["schema"] != 1 or file["kind"] != IMA_KIND:
        raise MalformedError('IMA reference: schema must be 1 and kind "ima"')
    try:
        return IMAReferenceSet(
            name=_text(file["name"], "name"),
            version=_text(file["version"], "version"),
            origin=Origin(_text(file["origin"], "origin")),
            files=_files(file),
            buffers=_listed(_given(file, "buffers", {}), "buffers"),
            content_below=tuple(
                _bytes(each, "content_below")
                for each in _array(_given(file, "content_below", []), "content_below", MAX_RULES)
            ),
            signers=_signers(_given(file, "signers", {})),
            signed=tuple(
                map(_signer_rule, _array(_given(file, "signed", []), "signed", MAX_RULES))
            ),
            unsafe_exclude=tuple(
                _scope(each, "unsafe_exclude", frozenset())
                for each in _array(_given(file, "unsafe_exclude", []), "unsafe_exclude", MAX_RULES)
            ),
            not_before=_time(file, "not_before"),
            not_after=_time(file, "not_after"),
        )
    except ValueError as exc:
        raise MalformedError(f"IMA reference: {exc}") from exc


def _given(file: dict[str, Any], name: str, default: object) -> Any:  # noqa: ANN401 - JSON is dynamic
    # One meaning, one form: what says nothing is left out.
    if name in file and not file[name]:
        raise MalformedError(f"IMA reference: {name} is empty; leave it out")
    return file.get(name, default)


def _text(value: object, what: str) -> str:
    if type(value) is not str:
        raise MalformedError(f"IMA reference: {what} must be text")
    return value


def _bytes(value: object, what: str) -> bytes:
    # A lone surrogate, which JSON can say, is a UnicodeEncodeError and so a ValueError.
    return _text(value, what).encode()


def _array(value: object, what: str, at_most: int) -> list[Any]:
    if type(value) is not list or len(value) > at_most:
        raise MalformedError(f"IMA reference: {what} must be an array of up to {at_most} items")
    return value


def _time(file: dict[str, Any], name: str) -> int | None:
    if name not in file:
        return None
    value = file[name]
    if type(value) is not int or not 0 <= value < _MAX_TIME:
        raise MalformedError(f"IMA reference: {name} must be seconds since the epoch")
    return value


def _files(file: dict[str, Any]) -> Listed:
    files = _listed(file["files"], "files")
    for digits, digests in _listed(_given(file, "hex_files", {}), "hex_files").items():
        if not _HEX.fullmatch(digits.decode()):
            raise MalformedError("IMA reference: a path in hex_files is not lower-case hex")
        path = bytes.fromhex(digits.decode())
        try:
            path.decode()
        except UnicodeDecodeError:
            files[path] = digests
        else:
            raise MalformedError("IMA reference: a path in hex_files is text; list it in files")
    return files


def _listed(value: object, what: str) -> dict[bytes, tuple[IMADigest, ...]]:
    if type(value) is not dict or len(value) > MAX_FILES:
        raise MalformedError(f"IMA reference: {what} must be an object of up to {MAX_FILES} paths")
    return {
        path.encode(): tuple(
            parse_file_digest(_text(digest, "a digest"))
            for digest in _array(digests, f"the digests of {path!r:.80}", MAX_DIGESTS)
        )
        for path, digests in value.items()
    }


def _signers(value: object) -> dict[str, bytes]:
    if type(value) is not dict or len(value) > MAX_SIGNERS:
        raise MalformedError(f"IMA reference: signers must be an object of up to {MAX_SIGNERS}")
    keys = {}
    for name, text in value.items():
        try:
            keys[name] = base64.b64decode(_text(text, "a signer's key"), validate=True)
        except binascii.Error as exc:
            raise MalformedError(f"IMA reference: the key of {name!r:.80} is no base64") from exc
        if base64.b64encode(keys[name]).decode() != text:
            raise MalformedError(f"IMA reference: the key of {name!r:.80} has bits left over")
    return keys


def _signer_rule(value: object) -> SignerRule:
    scope = _scope(value, "signed", frozenset({"by"}))
    names = _array(value["by"], "by", MAX_SIGNERS)  # type: ignore[index]  # _scope saw the member
    return SignerRule(scope, tuple(_text(name, "a signer's name") for name in names))


def _scope(value: object, what: str, beside: frozenset[str]) -> Scope:
    kinds = {kind.value for kind in ScopeKind}
    if type(value) is not dict or not beside <= value.keys() or len(value) != len(beside) + 1:
        raise MalformedError(f"IMA reference: {what} has an entry of another form")
    (kind,) = value.keys() - beside
    if kind not in kinds:
        raise MalformedError(f"IMA reference: {what} is by {', '.join(sorted(kinds))}")
    return Scope(ScopeKind(kind), _bytes(value[kind], what))


def serialise_ima_reference(reference: IMAReferenceSet) -> bytes:
    """Return the file form: JSON, one line for each path, ASCII, one line feed at the end.

    Raises:
        ValueError: The name of a buffer or the path of a rule is not UTF-8 and has no file form.
    """
    members: dict[str, Any] = {
        "schema": 1,
        "kind": IMA_KIND,
        "name": reference.name,
        "version": reference.version,
        "origin": reference.origin.value,
    }
    limits = {"not_before": reference.not_before, "not_after": reference.not_after}
    members |= {name: value for name, value in limits.items() if value is not None}
    members["files"], odd = {}, {}
    for path, digests in reference.files.items():
        texts = [str(digest) for digest in digests]
        try:
            members["files"][path.decode()] = texts
        except UnicodeDecodeError:
            odd[path.hex()] = texts
    optional = {
        "hex_files": odd,
        "buffers": _shown(reference.buffers),
        "content_below": [path.decode() for path in reference.content_below],
        "signers": {
            name: base64.b64encode(key).decode() for name, key in reference.signers.items()
        },
        "signed": [
            {rule.scope.kind.value: rule.scope.path.decode(), "by": list(rule.signers)}
            for rule in reference.signed
        ],
        "unsafe_exclude": [
            {scope.kind.value: scope.path.decode()} for scope in reference.unsafe_exclude
        ],
    }
    members |= {name: value for name, value in optional.items() if value}
    return (json.dumps(members, indent=1) + "\n").encode()


def _shown(listed: Listed) -> Mapping[str, list[str]]:
    return {name.decode(): [*map(str, digests)] for name, digests in listed.items()}
