"""Serve streams of frames: a Python model of Triton that takes chunks by sequence and gives what becomes final."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.errors import InputError
from runtime.results.detections import Detections
from runtime.triton.sequences import Chunk, Sequences, as_frames
from runtime.triton.serving import Engines, Place, cancellation_of, error_response, input_of, number_of, outputs_of


class TritonPythonModel:
    """Detects actions in sequences of chunks; Triton makes one for each instance, and sends a sequence to one of them.

    The requests of a sequence come one after the other; those of several are looked at side by side.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the engines."""
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        self._place = Place.of(args)
        self._engines = Engines(self._place, pb_utils, shared=True)
        self._engines.detector(self._place)  # whatever does not fit fails here
        self._engines.warm_up(self._place.settings.detector)
        settings = self._place.settings
        self._sequences = Sequences(
            lambda: self._engines.detector(self._place),
            settings.max_sequences,
            settings.idle_s,
            settings.max_held_bytes,
        )

    def execute(self, requests: Sequence[Any]) -> None:
        """Hand each chunk to its sequence; responses follow when there are any."""
        for request in requests:
            answer = _Responses(request, self._pb)
            try:
                self._push(request, answer)
            except Exception as error:  # whatever it is, the server goes on
                answer.failed(error)

    def finalize(self) -> None:
        """End all sequences, and close the engines."""
        self._sequences.close()
        self._engines.close()

    def _push(self, request: Any, answer: _Responses) -> None:
        frames = input_of(request, "FRAMES", self._pb)
        if frames is None:
            raise InputError("FRAMES: missing, expected uint8 [T,H,W,3]")
        first, last = (bool(number_of(request, control, self._pb)) for control in ("START", "END"))
        # the control input CORRID holds numbers alone, an id may be a text
        self._sequences.push(
            request.correlation_id(),
            Chunk(as_frames(frames, self._place.settings.max_bytes), last, answer),
            first=first,
            fps=number_of(request, "FPS", self._pb),
        )


class _Responses:
    """Sends the responses of one request; nothing is sent after the last."""

    def __init__(self, request: Any, pb_utils: Any) -> None:
        self._sender, self._pb = request.get_response_sender(), pb_utils
        self._cancelled = cancellation_of(self._sender)

    @property
    def cancelled(self) -> bool:
        """See `Answer`."""
        return self._cancelled()

    def found(self, detections: Detections) -> None:
        """See `Answer`."""
        self._sender.send(self._pb.InferenceResponse(output_tensors=outputs_of(detections, self._pb)))

    def done(self) -> None:
        """See `Answer`."""
        self._sender.send(flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def failed(self, error: Exception) -> None:
        """See `Answer`."""
        self._sender.send(error_response(error, self._pb), flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
