"""Signed hints to relying parties: from what was recorded to who is told (docs/events.md)."""
