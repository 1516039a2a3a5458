"""Run a checkpoint compiled by PyTorch, the strongest PyTorch baseline beside eager: torch.compile, weights frozen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from runtime.common.text import one_line
from runtime.errors import EngineError

Forward = Callable[..., tuple[Tensor, ...]]
"""Function from a network's inputs to its raw outputs."""


class CompiledModule:
    """Calls a network that inductor compiles at its first call for each batch size, weights as constants.

    Freezing lets inductor fold batch norms into convolutions and lay weights out as the kernels want them. Compiling
    takes a minute or more, once per batch size and process.
    """

    def __init__(self, module: nn.Module, origin: str, device: str) -> None:
        """Wrap a network in eval mode.

        Args:
            module: the network.
            origin: names the checkpoint in errors.
            device: "cpu" or "cuda:INDEX".

        Raises:
            EngineError: there is no C++ compiler, which inductor needs on a CPU.
        """
        if device == "cpu":
            require_cpp_compiler(origin)
        self._origin = origin
        self._compiled: Forward = torch.compile(module, dynamic=False, options={"freezing": True})
        self._shapes: set[Any] = set()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the raw outputs (EngineError: the network cannot be compiled for inputs of these shapes)."""
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes in self._shapes:
            return self._compiled(*inputs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of inductor's own code, about itself
                output = self._compiled(*inputs)
        except Exception as error:  # of the compiler that inductor calls
            raise EngineError(
                f"{self._origin}: torch.compile failed ({type(error).__name__}: {one_line(error)[:200]}); "
                "run the checkpoint without @compiled"
            ) from error
        self._shapes.add(shapes)
        return output


def require_cpp_compiler(origin: str) -> None:
    """Raise unless inductor finds a C++ compiler (EngineError); `origin` names the checkpoint."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # RuntimeError and inductor's own
        raise EngineError(
            f"{origin}: torch.compile needs a C++ compiler, and none is found here ({one_line(error)[:120]}); install "
            "g++, or name another in CXX, or run the checkpoint without @compiled"
        ) from None
