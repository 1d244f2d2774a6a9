"""Parses ``tf.train.Example`` without TensorFlow, by its protocol buffer (core/example/*.proto)."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from tasks.data.functions import number_text

Values = Sequence[bytes] | Sequence[float] | Sequence[int]
"""What a feature holds."""


def parse_example(record: bytes) -> dict[str, Values]:
    """Return the features of an example by name.

    Parameters
    ----------
    record : bytes
        A serialized ``tf.train.Example``.

    Raises
    ------
    ValueError
        It is none.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    example = _example()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"is no tf.train.Example: {error}") from None
    found: dict[str, Values] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


def value_text(value: bytes | float | int) -> str:
    """Return a value of a feature as text; empty for a float that is no number.

    Raises
    ------
    ValueError
        It is neither a number nor UTF-8 text.
    """
    if isinstance(value, bytes):
        return value.decode()
    return number_text(shortest(value)) if value == value else ""


def shortest(value: float) -> float:
    """Return the number that a float of 32 bits was written as: 0.1, not 0.10000000149011612."""
    import numpy as np

    return float(str(np.float32(value))) if isinstance(value, float) else value


_DESCRIPTION = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL oneof_index: 0
          type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL oneof_index: 0
          type: TYPE_MESSAGE type_name: ".tensorflow.FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL oneof_index: 0
          type: TYPE_MESSAGE type_name: ".tensorflow.Int64List" } }
message_type { name: "Features"
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL
            type: TYPE_MESSAGE type_name: ".tensorflow.Feature" } }
  field { name: "feature" number: 1 label: LABEL_REPEATED
          type: TYPE_MESSAGE type_name: ".tensorflow.Features.FeatureEntry" } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL
          type: TYPE_MESSAGE type_name: ".tensorflow.Features" } }
"""


@cache
def _example() -> Any:
    """Return the message class, in a pool of its own: TensorFlow may be imported beside it."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        text_format,
    )

    file = text_format.Parse(_DESCRIPTION, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
