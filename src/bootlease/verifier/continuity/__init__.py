"""Which leases count, and how they end before their time.

``live`` knows every lease whose token may be accepted; ``revoking`` and ``ending`` end some, and
``statements`` signs what that comes to. docs/continuity.md says what relying parties are told.
"""
