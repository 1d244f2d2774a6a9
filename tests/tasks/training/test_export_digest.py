"""What an export holds is a function of the model."""

from pathlib import Path

import keras
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

from tasks.training.export import export_model


def test_an_export_keeps_the_hashes_of_the_model_and_no_random_id(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    export_model(model, tmp_path, name="films", classes=["a", "b"], positive=None)
    fingerprint = FingerprintDef.FromString((tmp_path / "fingerprint.pb").read_bytes())
    assert fingerprint.checkpoint_hash and fingerprint.graph_def_program_hash
    assert not fingerprint.uuid
