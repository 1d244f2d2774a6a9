"""Hooks: one for every system that is talked to."""
