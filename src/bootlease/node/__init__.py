"""The node: its TPM, its logs and its agent.

What one renewal goes through, in order:

- ``wish`` is a lease to keep, ``wishbook`` all that are wished for, ``schedule`` when to attest;
- ``agent`` makes the attempt: ``enrol`` where need be, ``attest`` (``logs``, ``ima``, ``keyring``),
  ``client`` to the verifier, ``answer`` and ``denials`` for what comes back;
- ``lease`` holds what was granted until its end, ``outputs`` and ``workloads`` hand it on.

Around it: ``run`` is an agent in two threads, ``service`` the daemon that ``config`` describes
(``keeping``, ``metrics``, ``notify``), ``state`` and ``memory`` what outlives it, ``logline`` and
``reporter`` what it says. ``tpm`` alone speaks to the TPM; nothing else needs its libraries.
"""
