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
    """A library is not installed; the message says how to install it (see `install_hint`)."""

    def __init__(self, library: str, extra: str, purpose: str, instead_of: str = "") -> None:
        hint = install_hint(library, extra, instead_of)
        super().__init__(f"{purpose} needs {library}, which is not installed: {hint}")


def install_hint(library: str, extra: str = "", instead_of: str = "") -> str:
    """Return the command that installs a library: from a clone of this project, which is in no package index, or alone.

    Args:
        library: its package or module.
        extra: extra of this project that brings the library and what it is used with; empty: none does.
        instead_of: package of the same module, which excludes it.
    """
    module = library.partition(".")[0]
    alone = f"pip install {PACKAGES.get(module, module)}"
    hint = f"pip install '.[{extra}]' in a clone of this project, or {alone}" if extra else alone
    return f"pip uninstall {instead_of}, then {hint}" if instead_of else hint


PACKAGES = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}
"""Modules whose package has another name → the package."""


class AnnotationError(AfsdError):
    """An annotation or detection file is malformed."""


class ConfigError(AfsdError):
    """A configuration holds an unknown key or a value of the wrong type or range."""


class CheckpointError(AfsdError):
    """A checkpoint cannot be read or does not fit the network."""


class ExportError(AfsdError):
    """An export failed or its numbers do not match PyTorch; nothing was written."""
