"""Schema migrations, applied by ``Database.migrate``; a released one is never edited."""
