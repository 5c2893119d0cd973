"""What is in force, as numbers: what every decision is compared with before it is stored."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select

from bootlease.ports import InForce
from bootlease.store.connection import Connection
from bootlease.store.tables import policies, reference_sets, revocations, roots

_NUMBERS: Final = select(
    select(func.coalesce(func.max(policies.c.epoch), 0)).scalar_subquery(),
    select(func.coalesce(func.max(reference_sets.c.number), 0)).scalar_subquery(),
    select(func.coalesce(func.max(roots.c.number), 0)).scalar_subquery(),
    select(func.coalesce(func.max(revocations.c.number), 0)).scalar_subquery(),
)


def numbers_in_force(db: Connection) -> InForce:
    """Return the numbers of what the operator has decided."""
    row = db.one(_NUMBERS)
    return InForce(0, 0, 0) if row is None else InForce(*row)
