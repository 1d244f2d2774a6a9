"""What a request asks for: the bodies of both protocols, as clients really write them.

V1 takes what TensorFlow Serving takes, too: rows (``instances``) or columns (``inputs``), with or
without the name of the input. Whatever is wrong is the sender's fault, in one sentence.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.serving.json_body import V1, parse_json
from tasks.serving.limits import MAX_INSTANCES
from tasks.serving.values import (
    BadRequest,
    check_fits,
    check_shape,
    decoded,
    flat,
    numbers,
    shown,
)

IMAGES, TENSORS = "image_bytes", "images"
"""Names of the two signatures' inputs: encoded images, and pixels."""

_SIGNATURES = {"", "serving_default", "tensors"}
_NUMBERS = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, taken apart.

    Attributes
    ----------
    images : list of bytes
        Encoded images; empty when pixels were sent.
    pixels : ndarray or None
        Of the type that was sent: four bytes a number would be more than the body.
    columns : bool
        The sender of V1 wrote ``inputs`` and expects ``outputs``.
    number : str
        The sender's own name of a V2 request.
    """

    images: list[bytes]
    pixels: "np.ndarray[Any, Any] | None" = None
    columns: bool = False
    number: str = ""

    @property
    def count(self) -> int:
        """How many images were sent."""
        if self.pixels is None:
            return len(self.images)
        return len(self.pixels) if self.pixels.ndim == 4 else 1


def parse_v1(document: Any) -> Asked:
    """Take a V1 request apart.

    Parameters
    ----------
    document : Any
        What :func:`tasks.serving.json_body.parse_json` found in the body.

    Raises
    ------
    BadRequest
        It is wrong.
    """
    if not isinstance(document, dict):
        raise BadRequest(V1)
    signature = document.get("signature_name") or ""
    if not isinstance(signature, str) or signature not in _SIGNATURES:
        raise BadRequest(f"signature_name {shown(signature)} is not serving_default or tensors")
    if "inputs" in document and "instances" in document:
        raise BadRequest("body holds instances and inputs; send one of them")
    columns = "inputs" in document
    rows = document["inputs"] if columns else document.get("instances")
    if columns and isinstance(rows, dict) and not _is_b64(rows):
        rows = _of_names(rows, "inputs")
    if not isinstance(rows, list) or not rows:
        raise BadRequest(V1)
    if isinstance(rows[0], dict):
        _check_count(len(rows))
    if not columns:
        rows = [_named(row, number) for number, row in enumerate(rows)]
    return _rows(rows, columns=columns)


def parse_v2(body: bytes | bytearray, json_bytes: str | None) -> Asked:
    """Take a V2 request apart.

    Parameters
    ----------
    body : bytes
        JSON, with the binary data of tensors behind it.
    json_bytes : str or None
        Header ``Inference-Header-Content-Length``: bytes of the JSON; None: all.

    Raises
    ------
    BadRequest
        It is wrong.
    """
    length = len(body)
    if json_bytes is not None:
        digits = json_bytes.strip()
        length = int(digits) if digits.isdecimal() and len(digits) < 12 else -1
        if not 0 < length <= len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length {shown(json_bytes)} is not the number of bytes "
                f"of the JSON, at most {len(body)}"
            )
    binary = memoryview(body)[length:]
    document = parse_json(body[:length] if len(binary) else body)
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise BadRequest('body must be {"inputs": [{"name", "datatype", "shape", "data"}]}')
    if len(inputs) != 1:
        raise BadRequest(f"{len(inputs)} inputs, must be one: {IMAGES} or {TENSORS}")
    number = document.get("id") or ""
    if not isinstance(number, str) or len(number) > 200:
        raise BadRequest("id must be a text of at most 200 characters")
    asked = _tensor(inputs[0], binary)
    return Asked(images=asked.images, pixels=asked.pixels, number=number)


def _tensor(tensor: dict[str, Any], binary: memoryview) -> Asked:
    name, kind = tensor.get("name"), tensor.get("datatype")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise BadRequest("an input needs a name and a datatype, both texts")
    where = f"input {shown(name)}"
    shape = check_shape(tensor.get("shape"), where)
    if kind != "BYTES" and kind not in _NUMBERS:
        raise BadRequest(
            f"{where}: datatype {shown(kind)} is not BYTES (encoded images) or FP32 (pixels 0..255)"
        )
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    wanted = math.prod(shape)
    values: Any = tensor.get("data")
    if size is not None:
        if type(size) is not int or size != len(binary):
            raise BadRequest(f"{where}: binary data have {len(binary)} bytes, not {shown(size)}")
    elif len(binary):
        raise BadRequest(f"{where}: binary data come without parameters.binary_data_size")
    elif not isinstance(values, list):
        raise BadRequest(f"{where}: data must be a list")
    if kind == "BYTES":
        texts = flat(values, where) if size is None else _with_lengths(binary, where)
        check_fits(len(texts), wanted, shape=shape, unit="values", where=where)
        _check_count(len(texts))
        if size is None:
            texts = [decoded(each, f"instance {at}") for at, each in enumerate(texts)]
        return Asked(images=texts)
    if size is None:
        pixels = numbers(values, where)
        check_fits(pixels.size, wanted, shape=shape, unit="values", where=where)
    else:
        item = np.dtype(_NUMBERS[kind])
        bytes_wanted = wanted * item.itemsize
        check_fits(len(binary), bytes_wanted, shape=shape, unit="bytes", where=where)
        pixels = np.frombuffer(binary, item)
    if not wanted:
        raise BadRequest(f"{where}: shape {shape} holds no values")
    return Asked(images=[], pixels=pixels.reshape(shape))


def _with_lengths(binary: memoryview, where: str) -> list[bytes]:
    """Read texts of the binary data extension, each with its length before it."""
    texts: list[bytes] = []
    position = 0
    while position < len(binary) and len(texts) <= MAX_INSTANCES:
        if position + 4 > len(binary):
            raise BadRequest(f"{where}: binary data end within a length")
        (length,) = struct.unpack_from("<I", binary, position)
        position += 4 + length
        if position > len(binary):
            raise BadRequest(f"{where}: binary data end within image {len(texts)}")
        texts.append(bytes(binary[position - length : position]))
    return texts


def _rows(rows: list[Any], *, columns: bool) -> Asked:
    encoded = [isinstance(row, dict) for row in rows]
    if all(encoded):
        _check_count(len(rows))
        images = [_b64(row, f"instance {number}") for number, row in enumerate(rows)]
        return Asked(images=images, columns=columns)
    if any(encoded):
        raise BadRequest("instances mix base64 images and pixel lists: send one kind")
    if any(isinstance(row, str) for row in rows):
        raise BadRequest('instance is a bare text; send images as {"b64": "<base64>"}')
    return Asked(images=[], pixels=numbers(rows, "instances"), columns=columns)


def _named(row: Any, number: int) -> Any:
    """Take the name of the input off, as TensorFlow Serving writes a row with several inputs."""
    if not isinstance(row, dict) or _is_b64(row):
        return row
    return _of_names(row, f"instance {number}")


def _of_names(values: dict[str, Any], where: str) -> Any:
    known = [name for name in (IMAGES, TENSORS) if name in values]
    if len(known) != 1:
        raise BadRequest(f'{where}: must be {{"b64": "<base64 of an image>"}}, or hold {IMAGES}')
    found = values[known[0]]
    if where == "inputs" and not isinstance(found, list):
        raise BadRequest(f"inputs.{known[0]}: must be a list, one entry an image")
    if isinstance(found, str):
        raise BadRequest(f'{where}: {known[0]} must be {{"b64": "<base64 of an image>"}}')
    return found


def _is_b64(row: dict[str, Any]) -> bool:
    return "b64" in row


def _b64(row: dict[str, Any], where: str) -> bytes:
    text = row.get("b64")
    if not isinstance(text, str):
        raise BadRequest(f'{where}: must be {{"b64": "<base64 of an image>"}}')
    return decoded(text, where)


def _check_count(found: int) -> None:
    if not 0 < found <= MAX_INSTANCES:
        raise BadRequest(f"{found} instances, must be 1 .. {MAX_INSTANCES}")
