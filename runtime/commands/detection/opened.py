"""Open the engines that the flags of `afsd detect` name, and read their specs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.commands.flags.engine import BACKBONE_FLAGS, path_of_flag, require_stream
from runtime.common.files import is_file

if TYPE_CHECKING:
    from runtime.engines import Engine
    from runtime.engines.options import EngineOptions
    from runtime.jobs.running import WorkerPlan
    from runtime.jobs.work import VideoWorker
    from runtime.spec.model import ModelSpec


class OpenedOnce:
    """Opens the engines that the flags name: for their specs where files do not say, and for the work in this process.

    An engine that had to be opened for its spec is used again.
    """

    def __init__(
        self, arguments: argparse.Namespace, stack: ExitStack, open_with: Callable[[str, argparse.Namespace], Engine]
    ) -> None:
        """Take the flags; the stack closes the engines, which `open_with` opens."""
        self._arguments, self._stack, self._open_with = arguments, stack, open_with
        self._open: dict[str, Engine] = {}

    def spec(self) -> ModelSpec:
        """Return the spec of the model, of two streams the fused one.

        Raises:
            InputError: the models do not fit together, or a backbone is on another stream than its flag says.
            EngineError, SpecError, MissingDependencyError: see `open_engine`.
        """
        from runtime.spec.model import fuse_specs

        spec = self._spec_of(self._arguments.engine)
        for option, stream in BACKBONE_FLAGS:
            if path := path_of_flag(self._arguments, option):
                require_stream(option, path, self._spec_of(path), stream)
        flow = self._arguments.flow_engine
        return fuse_specs(spec, self._spec_of(flow)) if flow else spec

    def open(self, path: str, options: EngineOptions) -> Engine:
        """Open an engine as the flags say, in a mode of its own."""
        if path in self._open:
            return self._open.pop(path)
        return self._open_with(path, argparse.Namespace(**{**vars(self._arguments), "mode": options.mode}))

    def open_worker(self, plan: WorkerPlan) -> AbstractContextManager[VideoWorker]:
        """Open what does the videos in this process."""
        return plan.open(self.open)

    def _spec_of(self, path: str) -> ModelSpec:
        """Return the spec of a model's file; it is opened where no other way is known."""
        from runtime.engines.artifact import READERS, read_artifact

        file = Path(path)
        if file.suffix.lower() in READERS and is_file(file):
            return read_artifact(file, verify=False).spec
        if path not in self._open:
            self._open[path] = self._stack.enter_context(closing(self._open_with(path, self._arguments)))
        return self._open[path].spec
