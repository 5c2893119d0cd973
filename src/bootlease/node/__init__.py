"""The node: its TPM, its logs and its agent.

What one renewal goes through, in order:

- ``wish`` is a lease to keep, ``wishbook`` all that are wished for (``room``: how long they may be,
  ``confirm``: their keys), ``schedule`` when to attest;
- ``renewal`` makes the attempt: ``enrol`` where need be, then evidence from ``logs`` and ``ima``,
  ``client`` to the verifier (``bundle``, ``calls``, ``problem``), and what comes back;
- ``lease`` holds what was granted until its end, ``outputs`` and ``workloads`` hand it on.

Around it: ``run`` is an agent in two threads, ``service`` the daemon, ``state`` and ``memory`` what
outlives it, ``status``, ``logline`` and ``reporter`` what it says, ``observing`` who is told.
``tables`` reads configuration, ``collect`` evidence for people. ``tpm`` alone speaks to the TPM;
nothing else needs its libraries.
"""
