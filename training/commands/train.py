"""Add `afsd train` and `afsd cross-validate`; torch is imported only when a verb runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.common.console import EXIT_ERROR
from runtime.errors import ConfigError, InputError, import_failure


def add_train(subparsers: Any) -> None:
    """Add `afsd train CONFIG`, which trains a network from a configuration."""
    parser = subparsers.add_parser(
        "train",
        epilog="examples:\n"
        "  afsd train mydata.yaml --check\n"
        "  afsd train mydata.yaml --out runs/mine\n"
        "  afsd train thumos14 --out runs/thumos14 --set optimiser.batch_size=2\n"
        "  afsd train thumos14 --out runs/thumos14 --resume runs/thumos14/last.ckpt\n"
        "  torchrun --nproc-per-node 4 -m training thumos14 --out runs/thumos14     # four GPUs, docs/training.md\n",
        help="train AFSD, A2Net or a two-stage detector from a configuration",
    )
    parser.add_argument("config", help="name (thumos14, synthetic, …) or path of a YAML configuration")
    parser.add_argument("--out", type=Path, help="folder for checkpoints and logs")
    parser.add_argument(
        "--check",
        action="store_true",
        help="only look: do actions fit the window, has every class examples, are all videos there, how much memory, "
        "disk and time does it take; the exit status is 2 if it will fail",
    )
    parser.add_argument("--resume", type=Path, help="last.ckpt of an interrupted run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; may be repeated"
    )
    parser.set_defaults(func=_train)


def _train(args: argparse.Namespace) -> int:
    if args.out is None and not args.check:
        raise InputError("afsd train: no folder for the run; give --out DIR, or --check to look at the data alone")
    try:
        from training.check.report import check_training
        from training.config.files import load_config
        from training.loop.processes import require_one_process, run_as_one, this_process
        from training.run import train
        from training.stores.mirror import mirror_data
    except ImportError as error:
        raise import_failure(error, "", "train", "training") from None

    def run() -> int:
        config = mirror_data(load_config(args.config, args.set))
        if args.check:
            require_one_process("afsd train --check")
            report = check_training(config, args.out, args.resume)
            print(report.text())
            return EXIT_ERROR if report.will_fail else 0
        last = train(config, args.out, args.resume)
        if this_process().is_first:
            print(last)
        return 0

    return run_as_one(run)


def add_cross_validate(subparsers: Any) -> None:
    """Add `afsd cross-validate CONFIG`, which trains and evaluates every fold of a feature set."""
    parser = subparsers.add_parser(
        "cross-validate",
        epilog="examples:\n  afsd cross-validate a2net_gtea --out runs/gtea --seeds 1 2 3\n",
        help="train on every fold of a feature set and print mean and spread",
        description="Train a network on features on every fold with every seed, find actions in the fold's test "
        "videos, and print mean average precision with its spread. An interrupted command continues.",
    )
    parser.add_argument("config", help="name (gtea, a2net_gtea, …) or path of a YAML configuration on features")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--tiou", metavar="LIST", default="0.1:0.1:0.7", help="thresholds (default: %(default)s)")
    parser.add_argument("--nms", choices=("local", "reference"), default="local", help="reference: as published")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; may be repeated"
    )
    parser.set_defaults(func=_cross_validate)


def _cross_validate(args: argparse.Namespace) -> int:
    from runtime.detector import DetectorOptions
    from runtime.evaluation.number_lists import parse_tious

    try:
        from training.config.files import load_config
        from training.cross_validation.from_config import cross_validate_config
        from training.loop.processes import require_one_process
        from training.stores.mirror import mirror_data
    except ImportError as error:
        raise import_failure(error, "", "train", "training") from None
    require_one_process("afsd cross-validate")
    config, options = mirror_data(load_config(args.config, args.set)), DetectorOptions(nms=args.nms)
    if config.data.fold != "" and not config.data.inner_group:
        raise ConfigError(
            f"data.fold is {config.data.fold!r}, but cross-validation runs every fold; leave it out, or use afsd train"
        )
    print(cross_validate_config(config, args.out, args.seeds, parse_tious(args.tiou), options=options).table())
    return 0
