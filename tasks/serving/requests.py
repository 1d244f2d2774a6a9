"""What a request asks for: the bodies of both protocols, as clients really write them.

V1 takes what TensorFlow Serving takes, too: rows (``instances``) or columns (``inputs``), with or
without the name of the input. Whatever is wrong is the sender's fault, in one sentence.
"""

import base64
import binascii
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson  # type: ignore[import-not-found]

from tasks.serving.limits import MAX_INSTANCES, MAX_VALUES

IMAGES, TENSORS = "image_bytes", "images"
"""Names of the two signatures' inputs: encoded images, and pixels."""

_SIGNATURES = {"", "serving_default", "tensors"}
_NUMBERS = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_V1 = 'body must be {"instances": [{"b64": "<base64 of an image>"}, ...]}'
_URI = re.compile(r"data:[\w.+-]*/?[\w.+;=-]*?;base64,")


class BadRequest(ValueError):
    """A request is wrong; the text is one sentence for its sender."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, taken apart.

    Attributes
    ----------
    images : list of bytes
        Encoded images; empty when pixels were sent.
    pixels : ndarray or None
        float32, as sent.
    columns : bool
        The sender of V1 wrote ``inputs`` and expects ``outputs``.
    number : str
        The sender's own name of a V2 request.
    """

    images: list[bytes]
    pixels: "np.ndarray[Any, Any] | None" = None
    columns: bool = False
    number: str = ""


def parse_json(body: bytes | bytearray) -> Any:
    """Return the document of a body.

    Raises
    ------
    BadRequest
        It is no JSON, or holds more values than a request may.
    """
    # counted before it is parsed: three bytes of text can become seventy in memory
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise BadRequest(f"body holds more than {MAX_VALUES} values; send files, or fewer images")
    if not body:
        raise BadRequest(f"body is empty; {_V1}")
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise BadRequest(f"body is not JSON: {str(error)[:120]}") from error


def parse_v1(document: Any) -> Asked:
    """Take a V1 request apart.

    Raises
    ------
    BadRequest
        It is wrong.
    """
    if not isinstance(document, dict):
        raise BadRequest(_V1)
    signature = document.get("signature_name") or ""
    if not isinstance(signature, str) or signature not in _SIGNATURES:
        raise BadRequest(f"signature_name {_shown(signature)} is not serving_default or tensors")
    if "inputs" in document and "instances" in document:
        raise BadRequest("body holds instances and inputs; send one of them")
    columns = "inputs" in document
    rows = document["inputs"] if columns else document.get("instances")
    if columns and isinstance(rows, dict) and not _is_b64(rows):
        rows = _of_names(rows, "inputs")
    if not isinstance(rows, list) or not rows:
        raise BadRequest(_V1)
    if isinstance(rows[0], dict):
        _check_count(len(rows))
    if not columns:
        rows = [_named(row, f"instance {number}") for number, row in enumerate(rows)]
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
                f"Inference-Header-Content-Length {_shown(json_bytes)} is not the number of bytes "
                f"of the JSON, at most {len(body)}"
            )
    document, binary = parse_json(body[:length]), memoryview(body)[length:]
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
    where = f"input {_shown(name)}"
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(each) is int and 0 <= each < 1 << 31 for each in shape
    ):
        raise BadRequest(f"{where}: shape must be a list of whole numbers")
    if kind != "BYTES" and kind not in _NUMBERS:
        raise BadRequest(
            f"{where}: datatype {_shown(kind)} is not BYTES (encoded images) or FP32 (pixels "
            "0..255)"
        )
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    wanted = math.prod(shape)
    if size is not None:
        if type(size) is not int or size != len(binary):
            raise BadRequest(f"{where}: binary data have {len(binary)} bytes, not {_shown(size)}")
        values: Any = _raw(binary, kind, where, wanted)
    elif len(binary):
        raise BadRequest(f"{where}: binary data come without parameters.binary_data_size")
    else:
        values = tensor.get("data")
        if not isinstance(values, list):
            raise BadRequest(f"{where}: data must be a list")
    if kind == "BYTES":
        texts = values if size is not None else _flat(values, where)
        _check_fits(len(texts), wanted, shape, where)
        _check_count(len(texts))
        if size is None:
            texts = [_decoded(each, f"instance {at}") for at, each in enumerate(texts)]
        return Asked(images=texts)
    pixels = _numbers(values, where) if size is None else values
    _check_fits(pixels.size, wanted, shape, where)
    return Asked(images=[], pixels=pixels.reshape(shape).astype(np.float32))


def _raw(binary: memoryview, kind: str, where: str, wanted: int) -> Any:
    """Read the binary data extension: numbers as they are, BYTES with their lengths before them."""
    if kind != "BYTES":
        item = np.dtype(_NUMBERS[kind])
        _check_fits(len(binary), wanted * item.itemsize, "its shape, in bytes,", where)
        return np.frombuffer(binary, item)
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
    return Asked(images=[], pixels=_numbers(rows, "instances"), columns=columns)


def _named(row: Any, where: str) -> Any:
    """Take the name of the input off, as TensorFlow Serving writes a row with several inputs."""
    return _of_names(row, where) if isinstance(row, dict) and not _is_b64(row) else row


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
    return _decoded(text, where)


def _decoded(text: Any, where: str) -> bytes:
    """Decode base64: with line breaks, without padding, of both alphabets, as a data URI."""
    if not isinstance(text, str):
        raise BadRequest(f"{where}: must be a text, the base64 of an image")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    uri = _URI.match(text[:200])
    if text[:5] == "data:" and uri is None:
        raise BadRequest(f"{where}: a data URI must say ;base64, before the data")
    plain = "".join(text[uri.end() if uri else 0 :].split()).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{where}: is not base64: {str(error)[:100]}") from error


_URL_SAFE = str.maketrans("-_", "+/")


def _numbers(values: list[Any], where: str) -> "np.ndarray[Any, Any]":
    try:
        found = np.asarray(values)
    except (ValueError, TypeError, OverflowError, RecursionError):
        found = np.empty(0, object)
    # texts become texts, and lists of unequal length, nesting without end, or null objects
    if found.dtype.kind not in "iufb":
        raise BadRequest(f"{where} are not equal lists of numbers")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _flat(values: list[Any], where: str) -> list[Any]:
    """Flatten the data of a tensor, which may be nested as its shape is."""
    for _ in range(8):
        if not any(isinstance(each, list) for each in values):
            return values
        if not all(isinstance(each, list) for each in values):
            break
        values = [inner for each in values for inner in each]
    raise BadRequest(f"{where}: data must be a flat list of base64 texts")


def _check_count(found: int) -> None:
    if not 0 < found <= MAX_INSTANCES:
        raise BadRequest(f"{found} instances, must be 1 .. {MAX_INSTANCES}")


def _check_fits(found: int, wanted: int, shape: object, where: str) -> None:
    if found != wanted:
        raise BadRequest(f"{where}: data do not fit shape {_shown(shape)}: {found}, not {wanted}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else str(value)[:60]
    return ascii(text[:60]) if isinstance(value, str) else text
