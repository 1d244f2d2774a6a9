"""Putting a published model into service on a cluster."""
