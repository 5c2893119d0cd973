"""Labels: what an operator says of a node that its TPM cannot say, such as ``role=build``.

A label is 1 to 64 of ``a-z 0-9 . _ = -``; a node has up to 32, each once, in order: the labels of
an enrolment record are under its digest, so one set of them has one form. Policy reads them as
facts. A node cannot choose or change its own: an operator gives them, with a join token or later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from bootlease.errors import MalformedError

MAX_LABELS: Final = 32
MAX_LABEL: Final = 64

_LABEL: Final = re.compile(r"[a-z0-9._=-]{1,64}", re.ASCII)


def parse_labels(values: Iterable[object]) -> tuple[str, ...]:
    """Parse labels that are in their one order.

    Raises:
        MalformedError: One of them is no label, or is out of order or there twice, or they are
            too many.
    """
    labels = _each(values)
    if any(first >= second for first, second in pairwise(labels)):
        raise MalformedError("labels are sorted, and each is there once")
    return labels


def sorted_labels(values: Iterable[object]) -> tuple[str, ...]:
    """Return labels as a person gave them in their one order.

    Raises:
        MalformedError: One of them is no label, or they are too many.
    """
    return tuple(sorted(set(_each(values))))


def _each(values: Iterable[object]) -> tuple[str, ...]:
    labels: list[str] = []
    for value in values:
        if type(value) is not str or _LABEL.fullmatch(value) is None:
            raise MalformedError(
                f"{value!r:.80} is no label: 1 to {MAX_LABEL} of a-z, 0-9 and . _ = -"
            )
        labels.append(value)
        if len(labels) > MAX_LABELS:
            raise MalformedError(f"there are more than {MAX_LABELS} labels")
    return tuple(labels)
