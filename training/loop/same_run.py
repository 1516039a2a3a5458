"""Tell whether a checkpoint may be resumed with a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.errors import ConfigError
from runtime.spec.model_card import ModelCard
from training.config.files import config_to_mapping
from training.config.settings import Config


def require_same_run(old: Config, new: Config, origin: str, old_processes: int, new_processes: int) -> None:
    """Raise a ConfigError unless every setting that shapes the losses is unchanged.

    Paths of the data, log intervals, limits, validation and the card may change, with a constant schedule the number of
    epochs, and the number of processes if the batch of all of them has as many clips as before.
    """
    before, now = old.optimiser.batch_size * old_processes, new.optimiser.batch_size * new_processes
    if before != now:
        raise ConfigError(
            f"{origin}: made with batches of {before} clips ({old.optimiser.batch_size} on each of {old_processes} "
            f"processes), got {now} ({new.optimiser.batch_size} on each of {new_processes}); "
            f"set optimiser.batch_size so that they are {before}"
        )

    def essence(config: Config) -> dict[str, Any]:
        data = replace(config.data, root="", annotations="", frames="", features="", val_subset="", workers=0)
        run, optimiser = config.run, replace(config.optimiser, batch_size=1)  # compared above
        run = replace(
            run,
            max_minutes=0.0,
            save_minutes=0.0,
            log_every=1,
            devices=1,
            accelerator="auto",
            init="",
            keep_epochs=True,
            epoch_format="ckpt",
            validate_every=1,
            val_tiou="",
            early_stopping=0,
            logger=(),
        )
        if optimiser.schedule == "constant":
            run, optimiser = replace(run, max_steps=0), replace(optimiser, epochs=1)
        return dict(config_to_mapping(replace(config, data=data, run=run, optimiser=optimiser, card=ModelCard())))

    were, are = essence(old), essence(new)
    changed = [section for section in are if were[section] != are[section]]
    if changed:
        raise ConfigError(
            f"{origin}: made with other settings in {', '.join(changed)}; resume with the configuration and the --set "
            "options it was made with"
        )
