"""Operators: the mixin that knows the stage, a thin class per runtime, gate and outcome."""
