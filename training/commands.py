"""`afsd train` and `afsd make-synthetic`; torch is imported only when a verb runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.errors import MissingDependencyError


def add_train(subparsers: Any) -> None:
    """`afsd train CONFIG`: train a network from a configuration."""
    parser = subparsers.add_parser("train", help="train AFSD from a configuration")
    parser.add_argument("config", help="name (thumos14, synthetic, …) or path of a YAML configuration")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--resume", type=Path, help="last.ckpt of an interrupted run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; may be repeated"
    )
    parser.set_defaults(func=_train)


def _train(args: argparse.Namespace) -> int:
    try:
        from training.config import load_config
        from training.run import train
    except ImportError as error:
        raise MissingDependencyError(str(error.name), "train", "training") from None
    print(train(load_config(args.config, args.set), args.out, args.resume))
    return 0
