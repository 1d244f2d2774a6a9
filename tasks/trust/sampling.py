"""Which test images a costly check looks at, and their pixels as the model sees them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def stratified(
    rows: "pd.DataFrame", *, by: Sequence[str], count: int, seed: int, first: str | None = None
) -> "pd.DataFrame":
    """Choose rows in turn from every stratum, so that rare ones are seen too.

    Parameters
    ----------
    rows : (rows, columns) DataFrame
        To choose from.
    by : sequence of str
        Columns whose values make a stratum.
    count : int
        Rows wanted; all of them when there are not more.
    seed : int
        Same seed, same choice, whatever the order of the rows.
    first : str, optional
        Bool column; in each stratum the rows where it holds are taken first.

    Returns
    -------
    (min(count, rows), columns) DataFrame
        The first of every stratum, then the second of every stratum, and so on.
    """
    import numpy as np

    if rows.empty:
        return rows
    ordered = rows.sort_values("image_id", kind="stable")
    order = np.random.default_rng(seed).permutation(len(ordered))
    shuffled = ordered.iloc[order]
    if first is not None:
        shuffled = shuffled.sort_values(first, ascending=False, kind="stable")
    turn = shuffled.groupby(list(by), sort=True).cumcount()
    keys = [shuffled[name] for name in reversed(by)]
    positions = np.lexsort([*keys, turn])
    return shuffled.iloc[positions[:count]].reset_index(drop=True)


def decode_images(
    files: "Iterable[bytes]",
    *,
    image_size: tuple[int, int],
    channels: int,
    upright: bool = True,
) -> "NDArray[np.float32]":
    """Decode and resize encoded images as the served model does.

    Parameters
    ----------
    files : iterable of bytes
        Encoded images.
    image_size : tuple of int
        Height and width, in pixels.
    channels : {1, 3}
        Grey or RGB.
    upright : bool
        Turn images as their EXIF orientation says.

    Returns
    -------
    (n, *image_size, channels) float32 array
        Pixels 0..255.
    """
    import tensorflow as tf

    from tasks.training.images import decode_batch

    # a graph decodes in parallel, operations one by one do not
    decode = tf.function(
        lambda encoded: tf.cast(
            decode_batch(encoded, image_size=image_size, channels=channels, upright=upright),
            tf.float32,
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    images: NDArray[np.float32] = decode(tf.constant(list(files), tf.string)).numpy()
    return images
