"""Ask a model of Triton for a video by its address, cancel that at a line of standard input, and print the error.

python canceller.py ADDRESS MODEL URL, in a process of its own, as client.py.
"""

from __future__ import annotations

import queue
import sys
from typing import Any

import numpy as np

WAIT_SECONDS = 60


def main(address: str, model: str, url: str) -> None:
    import tritonclient.grpc as grpc

    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(address) as client:
        given = grpc.InferInput("URL", [1], "BYTES")
        given.set_data_from_numpy(np.array([url.encode()], np.object_))
        call = client.async_infer(model, [given], lambda result, error: answers.put(error))
        print("sent", flush=True)
        sys.stdin.readline()
        call.cancel()
        print(answers.get(timeout=WAIT_SECONDS))


if __name__ == "__main__":
    main(*sys.argv[1:])
