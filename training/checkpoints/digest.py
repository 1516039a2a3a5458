"""Compute the digest that a checkpoint carries: a SHA-256 over all its tensors and plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from runtime.common.text import one_line
from runtime.errors import CheckpointError


def compute_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 over nested dictionaries, lists, tensors and plain values.

    Every value is hashed with its type and length; a tensor by type, shape and bytes; the keys of a dictionary in
    sorted order, so that the order in a file does not count, nor whether a sequence is a list or a tuple.

    Raises:
        CheckpointError: a value is of another type, or nested too deep.
    """
    digest = hashlib.sha256()
    try:
        _feed(digest, content)
    except RecursionError:
        raise CheckpointError("checkpoint: nested too deep; expected tensors and plain data") from None
    except (RuntimeError, NotImplementedError) as error:  # a tensor that damage made sparse, or larger than its storage
        raise CheckpointError(f"checkpoint: a tensor cannot be read ({one_line(error)[:120]})") from None
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, value: Any) -> None:
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().as_strided((value.numel(),), (1,))  # whatever an axis of 1 says
        _put(digest, f"tensor {value.dtype} {list(value.shape)}")
        if plain.numel():
            digest.update(plain.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        _put(digest, f"mapping {len(value)}")
        for key in sorted(value, key=lambda key: (type(key).__name__, repr(key))):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        _put(digest, f"list {len(value)}")
        for item in value:
            _feed(digest, item)
    elif value is None or isinstance(value, (bool, int, float, str)):
        _put(digest, f"{type(value).__name__} {value!r}")
    else:
        raise CheckpointError(f"checkpoint: got a {type(value).__name__}, expected tensors and plain data")


def _put(digest: hashlib._Hash, text: str) -> None:
    data = text.encode(errors="surrogatepass")
    digest.update(len(data).to_bytes(8, "little") + data)
