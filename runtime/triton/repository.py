"""Write a model repository for Triton: the network, the model of whole videos, and the model of frame streams."""

from __future__ import annotations

from pathlib import Path

from runtime.common.files import is_folder, require_writable_folder, write_text
from runtime.common.locks import lock_folder
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.common.temporaries import scratch_folder
from runtime.triton.exchanging import ADVICE, put, put_back, require_own
from runtime.triton.planning import Repository, check_repository, plan_models, possible_names, read_engine
from runtime.triton.readme import README_MARK, describe_repository


def write_repository(repository: Repository, folder: Path) -> list[str]:
    """Write the models into a folder, each at once; other models that lie there stay.

    A process at a time writes; another waits. A kill at any moment leaves each model whole, the older or the new one
    (on systems that cannot exchange folders, after the next start).

    Returns:
        Lines that say what each model is and needs.

    Raises:
        InputError: options that exclude each other, a folder of a model's name that is not this project's, or another
            process that writes there for too long.
        EngineError, SpecError: an engine file that cannot be read, or is none that the server can run.
    """
    artifacts = {role: read_engine(path) for role, path in repository.engines.items()}
    check_repository(repository, artifacts)
    models = plan_models(repository, artifacts)
    told = [f"{model}: {make.purpose}" for model, make in models.items()]
    require_writable_folder(folder, ADVICE)
    with lock_folder(folder, "afsd triton"):
        for model in possible_names(repository.name):
            put_back(folder / model)
            require_own(folder / model)
        require_own_file(folder / "README.txt", text_that_begins(README_MARK), ADVICE)
        with scratch_folder(folder) as scratch:
            for number, make in enumerate(models.values()):
                make.write(scratch / str(number))
            for number, model in enumerate(models):
                put(scratch / str(number), folder / model)
            for model in possible_names(repository.name):
                if model not in models and is_folder(folder / model):
                    (folder / model).replace(scratch / f"gone-{model}")
        write_text(folder / "README.txt", describe_repository(repository, artifacts, told))
    return told
