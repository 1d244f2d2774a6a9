"""Models and how they are fitted, exported, applied and measured.

Import the modules themselves (``tasks.training.prediction`` ...): most of them import TensorFlow,
and a stage pays only for what it uses.
"""
