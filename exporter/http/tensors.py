"""Tensors of the Open Inference Protocol: as JSON, or in the binary extension that tritonclient speaks."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.errors import RequestError

MAX_DIGITS = 19  # int() itself refuses thousands of them


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    datatype: str  # BYTES or FP32
    shape: tuple[int, ...]
    flat: Sequence[Any]  # texts, or numbers

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def binary(self) -> bytes:
        """Little endian; each text after its length.

        >>> Tensor("t", "BYTES", (1,), ["ab"]).binary()
        b'\\x02\\x00\\x00\\x00ab'
        """
        if self.datatype == "BYTES":
            texts = [text.encode() for text in self.flat]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return np.asarray(self.flat, dtype="<f4").tobytes()


def split_body(body: bytes, header: bytes | None) -> tuple[bytes, bytes]:
    """(JSON, binary data) by the value of Inference-Header-Content-Length. Raises RequestError."""
    if header is None:
        return body, b""
    if not header.isdigit() or len(header) > MAX_DIGITS or (length := int(header)) > len(body):
        raise RequestError("Inference-Header-Content-Length does not fit the body.", None)
    return body[:length], body[length:]


def texts_of_tensor(given: Mapping[str, Any], binary: bytes, param: str) -> list[Any]:
    """What a tensor of datatype BYTES holds, from its own data or from `binary`. Raises RequestError."""
    if given.get("datatype") != "BYTES":
        raise RequestError(f"{param}.datatype must be BYTES: the models read text.", f"{param}.datatype")
    parameters = given.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if size != len(binary):
            raise RequestError(f"{param} has not the size that it says.", f"{param}.parameters")
        texts: list[Any] = _texts(binary, param)
    elif isinstance(given.get("data"), list):
        texts = _flat(given["data"])
    else:
        raise RequestError(f"{param}.data must be a list of texts.", f"{param}.data")
    if _count(given.get("shape")) != len(texts):
        raise RequestError(f"{param}.shape must be [{len(texts)}] or [{len(texts)}, 1].", f"{param}.shape")
    return texts


def _flat(values: list[Any]) -> list[Any]:
    """Of [n], or of [n, 1] as nested lists."""
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in values]


def _count(shape: Any) -> int | None:
    if not isinstance(shape, list) or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        return None
    return shape[0] if isinstance(shape[0], int) else None


def _texts(binary: bytes, param: str) -> list[str]:
    texts, at = [], 0
    try:
        while at < len(binary):
            (length,) = struct.unpack_from("<I", binary, at)
            at += 4
            if at + length > len(binary):
                raise RequestError(f"{param}: a text is longer than the tensor.", param)
            texts.append(binary[at : at + length].decode())
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise RequestError(f"{param} is not texts in UTF-8, each after its length.", param) from error
    return texts
