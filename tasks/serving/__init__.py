"""The model server, its client, and the way a model is put before it."""
