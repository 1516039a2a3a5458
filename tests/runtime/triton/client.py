"""A gRPC client of Triton in a process of its own, since its packages need older ones than the project has.

Reads jobs as JSON from standard input and writes their answers: python client.py ADDRESS. A job is a sequence:
{"id", "frames" (.npy), "chunk", "fps", "model", "end"}. Each runs on a stream and in a thread of its own.
"""

from __future__ import annotations

import json
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

WAIT_SECONDS = 60


def tensor(name: str, kind: str, array: np.ndarray) -> Any:
    import tritonclient.grpc as grpc

    given = grpc.InferInput(name, list(array.shape), kind)
    given.set_data_from_numpy(array)
    return given


def follow(address: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Send the chunks of a job, each when the one before is answered, and return the answers; an error ends it."""
    import tritonclient.grpc as grpc

    frames = np.load(job["frames"])
    starts = list(range(0, len(frames), job["chunk"])) or [0]
    answers: list[dict[str, Any]] = []
    waiting: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with grpc.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: waiting.put((result, error)))
        for start in starts:
            first, last = start == starts[0] and job.get("start", True), start == starts[-1] and job.get("end", True)
            inputs = [tensor("FRAMES", "UINT8", frames[start : start + job["chunk"]])]
            if first and job["fps"] is not None:
                inputs.append(tensor("FPS", "FP32", np.array([job["fps"]], np.float32)))
            client.async_stream_infer(
                job["model"], inputs, sequence_id=job["id"], sequence_start=first, sequence_end=last,
                enable_empty_final_response=True,
            )  # fmt: skip
            final = False
            while not final:
                result, error = waiting.get(timeout=WAIT_SECONDS)
                if error is not None:
                    return [*answers, {"start": start, "error": error.message()}]
                final = result.get_response().parameters["triton_final_response"].bool_param
                if result.as_numpy("JSON") is not None:
                    answers.append(
                        {
                            "start": start,
                            "json": json.loads(result.as_numpy("JSON")[0]),
                            "labels": [label.decode() for label in result.as_numpy("LABELS")],
                            "scores": result.as_numpy("SCORES").tolist(),
                            "segments": result.as_numpy("SEGMENTS").tolist(),
                        }
                    )
    return answers


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    with ThreadPoolExecutor(max(len(jobs), 1)) as pool:
        json.dump(list(pool.map(lambda job: follow(sys.argv[1], job), jobs)), sys.stdout)
