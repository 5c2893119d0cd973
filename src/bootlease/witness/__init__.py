"""A small witness: it cosigns trees that only grow (C2SP tlog-witness)."""

from bootlease.witness.cosigning import Answer, Witness
from bootlease.witness.datadir import make_witness, open_witness

__all__ = ["Answer", "Witness", "make_witness", "open_witness"]
