"""Keeps the start-up chatter of TensorFlow's native code out of the stage's log lines."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("tasks")

_CHATTER = re.compile(
    r"absl::InitializeLog|oneDNN custom operations|Could not find cuda drivers|cuInit"
    r"|cpu_feature_guard|To enable the following instructions|computation_placer|cuda_executor"
)
_STDERR = 2


def import_tensorflow() -> None:
    """Import TensorFlow and look for devices, without the lines that tell a person nothing.

    Native code writes to the file descriptor, before any logging can be configured. Lines that are
    not known chatter are logged after all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Keras imports Matplotlib, which announces that it lists the fonts of a new machine
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with _stderr_of_native_code() as lines:
        import tensorflow as tf

        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        logging.getLogger("absl").setLevel(logging.ERROR)
        gpus = tf.config.list_physical_devices("GPU")
    for line in lines:
        if not _CHATTER.search(line):
            log.info("%s", line)
    log.info("device: %s", ", ".join(gpu.name for gpu in gpus) or "CPU")


@contextmanager
def _stderr_of_native_code() -> Iterator[list[str]]:
    lines: list[str] = []
    original = os.dup(_STDERR)
    with tempfile.NamedTemporaryFile(prefix="native-log-") as captured:
        os.dup2(captured.fileno(), _STDERR)
        try:
            yield lines
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            lines += Path(captured.name).read_text(errors="replace").splitlines()
