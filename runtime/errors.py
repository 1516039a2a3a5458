"""Define the errors of this project; every message says what was got, what was expected, and what to do."""

from __future__ import annotations

from runtime.common.text import without_secrets


class AfsdError(Exception):
    """Is the base of every error that this project raises; the command line prints one line and exits with 2.

    Passwords and queries of URLs in the message, such as those that a library repeats, are left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(without_secrets(str(message)))


class InputError(AfsdError, ValueError):
    """Reports an argument, array or option that the function does not take (shape, dtype, range, NaN, empty)."""


class VideoError(AfsdError):
    """Reports a video that cannot be found, opened or decoded to its end."""


class SourceLostError(VideoError):
    """Reports a stream that broke off or fell silent; what was read before is whole."""


class RequestCancelledError(AfsdError):
    """Reports that whoever asked for something waits for it no more."""


class VideoWarning(UserWarning):
    """Warns of a video that was read as far as possible, of a rate or rule that may be wrong, or of a short video."""


class SpecError(AfsdError):
    """Reports a ModelSpec that is missing, malformed, of a newer schema, or does not fit its artifact."""


class ArtifactWarning(UserWarning):
    """Warns of a model of an older release, which carries no digest, or of compiled models that cannot be kept."""


class EngineError(AfsdError):
    """Reports an engine file that cannot be loaded or run on this machine."""


class MissingDependencyError(AfsdError, ImportError):
    """Reports a library that is not installed, and how to install it (see `install_hint`)."""

    def __init__(self, library: str, extra: str, purpose: str, instead_of: str = "") -> None:
        hint = install_hint(library, extra, instead_of)
        super().__init__(f"{purpose} needs {library}, which is not installed: {hint}")


def import_failure(error: ImportError, library: str, extra: str, purpose: str, instead_of: str = "") -> AfsdError:
    """Return the error for an import that failed: "not installed" only if it is so, else what broke.

    Args:
        error: what the import raised.
        library: name of the package or module that was wanted; empty: that of the module that is missing.
        extra: extra of this project that installs the library, as for `MissingDependencyError`.
        purpose: what needs the library.
        instead_of: see `install_hint`.
    """
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    root = missing.partition(".")[0]
    if missing and f"{MODULES.get(library, library)}.".startswith(f"{missing}."):
        return MissingDependencyError(library, extra, purpose, instead_of)
    if missing and missing == root and root not in OWN:
        return MissingDependencyError(root, extra, purpose, instead_of)
    broken = library or root or error.name or "a library"
    return AfsdError(f"{purpose} needs {broken}, which is installed but does not load ({error}); install it again")


def install_hint(library: str, extra: str = "", instead_of: str = "") -> str:
    """Return the command that installs a library: from a clone of this project, which is in no package index, or alone.

    Args:
        library: name of the package or module.
        extra: extra of this project that installs the library with its companions; empty for none.
        instead_of: conflicting package of the same module, to be uninstalled first.
    """
    module = library.partition(".")[0]
    alone = f"pip install {PACKAGES.get(module, module)}"
    hint = f"pip install '.[{extra}]' in a clone of this project, or {alone}" if extra else alone
    return f"pip uninstall {instead_of}, then {hint}" if instead_of else hint


OWN = frozenset({"runtime", "training", "export", "calibration"})
"""Packages of this project."""
MODULES = {"cuda-bindings": "cuda.bindings.runtime"}
"""Module of each package that has another name than it."""
PACKAGES = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}
"""Package of each module whose package has another name."""


class AnnotationError(AfsdError):
    """Reports a malformed file of annotations or detections."""


class ConfigError(AfsdError):
    """Reports a configuration with an unknown key or a value of the wrong type or range."""


class CheckpointError(AfsdError):
    """Reports a checkpoint that cannot be read or does not fit the network."""


class ExportError(AfsdError):
    """Reports an export that failed or does not match PyTorch; nothing was written."""
