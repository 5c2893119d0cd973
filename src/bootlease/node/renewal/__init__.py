"""One attempt to get or renew leases, from what is wished for to what is held.

In the order in which it happens; ``agent`` makes the attempt and leads through all of it:

- ``settings`` is what an agent is told, ``recall`` what it remembers from attempt to attempt and
  from run to run, ``pending`` evidence that is on its way;
- ``quoter`` makes evidence: ``keyring`` has the key of each lease, ``attest`` quote and logs;
- ``answer`` tells whether an answer grants what was asked, ``receipts`` whether the ledger holds
  it, ``trust`` by which keys, ``denials`` whether a refusal is of one lease or of the node;
- ``pace`` says when the next attempt is due.
"""
