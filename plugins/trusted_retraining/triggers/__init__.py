"""Triggers: what the triggerer waits for, so that no worker slot is held."""
