"""Who acts as an operator: credentials, roles, and the two-person rule (docs/operators.md)."""
