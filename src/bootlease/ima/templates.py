"""Template descriptors: which fields an entry's data holds, by the entry's template name.

Specification: Linux ``security/integrity/ima/ima_template.c`` (``builtin_templates``,
``supported_fields``, ``template_desc_init_fields``). A list names a built-in template by its name
and a custom one (``ima_template_fmt=``) by its format, fields joined by ``|``.

The template's name is under no digest: only the data is extended into the PCR. What a name makes
of data must therefore hold by itself, see :mod:`bootlease.ima.entry`.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final

from bootlease.errors import MalformedError

IMA_TEMPLATE: Final = b"ima"
"""The first template: no length before its data, and padded names under its digest."""

MAX_FIELDS: Final = 16
"""IMA_TEMPLATE_NUM_FIELDS_MAX."""

MAX_TEMPLATE_NAME: Final = 256
"""Longer than MAX_FIELDS of the longest field names that a format may join in practice."""


class UnknownTemplateError(MalformedError):
    """A template that no Linux kernel defines, so that its data cannot be read.

    Attributes:
        template: The name as the list has it.
    """

    def __init__(self, template: bytes, *, offset: int | None = None) -> None:
        shown = template[:40].decode("ascii", "backslashreplace")
        super().__init__(f"an entry with the unknown template {shown!r}", offset=offset)
        self.template = template


class Field(enum.Enum):
    """A field of template data by the kernel's id."""

    DIGEST = "d"
    NAME = "n"
    DIGEST_NG = "d-ng"
    DIGEST_NGV2 = "d-ngv2"
    NAME_NG = "n-ng"
    SIGNATURE = "sig"
    BUFFER = "buf"
    MODSIG_DIGEST = "d-modsig"
    MODSIG = "modsig"
    EVM_SIGNATURE = "evmsig"
    UID = "iuid"
    GID = "igid"
    MODE = "imode"
    XATTR_NAMES = "xattrnames"
    XATTR_LENGTHS = "xattrlengths"
    XATTR_VALUES = "xattrvalues"


_BUILTIN: Final = {
    IMA_TEMPLATE: "d|n",
    b"ima-ng": "d-ng|n-ng",
    b"ima-sig": "d-ng|n-ng|sig",
    b"ima-ngv2": "d-ngv2|n-ng",
    b"ima-sigv2": "d-ngv2|n-ng|sig",
    b"ima-buf": "d-ng|n-ng|buf",
    b"ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
    b"evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
}
_FIELDS: Final = {field.value: field for field in Field}


@lru_cache(maxsize=64)
def template_fields(template: bytes) -> tuple[Field, ...]:
    """Return the fields of a template, in the order of its data.

    Args:
        template: A built-in template's name, or a custom one's format.

    Raises:
        UnknownTemplateError: Neither of the two.
    """
    form = _BUILTIN.get(template) or template.decode("ascii", "replace")
    names = form.split("|")
    fields = tuple(_FIELDS[name] for name in names if name in _FIELDS)
    if len(fields) != len(names) or len(fields) > MAX_FIELDS or len(set(fields)) != len(fields):
        raise UnknownTemplateError(template)
    return fields
