"""The one family of errors a user can meet. Every message says what was got, what was expected, and what to do."""

from __future__ import annotations


class AfsdError(Exception):
    """Base of every error this project raises on purpose; the command line prints it as one line and exits with 2."""


class InputError(AfsdError, ValueError):
    """An argument, array or option is not what the function takes (shape, dtype, range, NaN, empty)."""


class VideoError(AfsdError):
    """A video cannot be found, opened or decoded to its end."""


class SpecError(AfsdError):
    """A ModelSpec is missing, malformed, of a newer schema, or does not fit the artifact it came with."""


class EngineError(AfsdError):
    """An engine file cannot be loaded or run here."""


class MissingDependencyError(AfsdError, ImportError):
    """A library is not installed; the message names the extra that brings it (empty: the library by itself)."""

    def __init__(self, library: str, extra: str, purpose: str, instead_of: str = "") -> None:
        package = f"'afsd[{extra}]'" if extra else library
        install = f"pip install {package}"
        if instead_of:  # two packages of one module exclude each other
            install = f"pip uninstall {instead_of}, then {install}"
        super().__init__(f"{purpose} needs {library}, which is not installed: {install}")


class AnnotationError(AfsdError):
    """An annotation or detection file is malformed."""


class ConfigError(AfsdError):
    """A configuration holds an unknown key or a value of the wrong type or range."""


class CheckpointError(AfsdError):
    """A checkpoint cannot be read or does not fit the network."""


class ExportError(AfsdError):
    """An export failed or its numbers do not match PyTorch; nothing was written."""
