"""Describe a repository in a README: its models, what they need, how a server loads them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from runtime import __version__
from runtime.engines.artifact import Artifact
from runtime.triton.configs import instance_group
from runtime.triton.planning import Repository
from runtime.triton.serving import Role

README_MARK = "Models for the Triton Inference Server, written by afsd triton"
PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino", ".engine": "tensorrt and cuda-bindings"}
"""Packages that run an engine file in a Python model, by suffix."""


def describe_repository(repository: Repository, artifacts: Mapping[Role, Artifact], told: list[str]) -> str:
    """Return the text of the README; `told` has a line for each model."""
    suffixes = {path.suffix.lower().replace(".plan", ".engine") for path in repository.engines.values()}
    packages = sorted(PACKAGES[suffix] for suffix in suffixes)
    models = "\n".join(f"    {line}" for line in told)
    on_gpu = instance_group(repository.placement, artifacts["engine"].path.suffix.lower())[0]["kind"] == "KIND_GPU"
    load = " ".join(shlex.quote(f"--load-model={line.partition(':')[0]}") for line in told)
    python = f"afsd {__version__}, numpy, opencv-python-headless, av, {', '.join(packages)}"
    return f"""{README_MARK} {__version__}.

{models}

The Python models need in the Python of the server (3.11 or newer):

    {python}

Install them there, or put their folder into PYTHONPATH, which model.py reads. Older servers (24.10, which is in
nvidia-pytriton 0.7, is one) answer with empty outputs under numpy 2: give them numpy below 2.
{"The instances run on GPUs." if on_gpu else "The instances run on the CPU; more of them share its cores (threads)."}

    tritonserver --model-repository=REPOSITORY
    tritonserver --model-repository=REPOSITORY --model-control-mode=explicit {load}

The second form loads the named models alone: leave out what the server has no backend for. What may be changed is in
the parameters of each config.pbtxt. How to ask the models: docs/triton.md of the project.
"""
