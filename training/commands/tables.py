"""Add `afsd paper-tables`; torch is imported only when the command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.commands.flags.checks import refuse_flags
from runtime.commands.flags.writing import add_overwrite_flag
from runtime.common.files import require_writable_folder
from runtime.errors import InputError, import_failure

NAMES = (
    "durations", "modules", "balance", "levels", "streams", "proposals", "two-stage", "afsd", "methods", "speed",
    "rows",
)  # fmt: skip
"""Names of the tables; "rows" is made of the rows of --row."""


OF_TABLES = {
    "--row": ("rows", "speed"),
    "--engines": ("speed",),
    "--runs": ("speed",),
    "--stream-weights": ("streams",),
    "--proposals": ("proposals", "two-stage"),
}
"""Flags that are of some tables alone."""


def add_paper_tables(subparsers: Any) -> None:
    """Add `afsd paper-tables TABLE…`, which makes A2Net's tables, with AFSD, on a feature set."""
    parser = subparsers.add_parser(
        "paper-tables",
        epilog="examples:\n  afsd paper-tables durations modules --out runs/tables\n",
        help="make A2Net's tables on your feature set",
        description="Train the networks of a table on every fold with every seed, and write the table as Markdown, CSV "
        "and JSON. All tables share their runs; an interrupted command continues.",
    )
    parser.add_argument("tables", metavar="TABLE", nargs="+", choices=NAMES, help=", ".join(NAMES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the tables")
    parser.add_argument("--a2net", metavar="CONFIG", default="a2net_gtea", help="default: %(default)s")
    parser.add_argument("--afsd", metavar="CONFIG", default="gtea", help="AFSD on features (default: %(default)s)")
    parser.add_argument(
        "--two-stage", metavar="CONFIG", default="two_stage_gtea", help="two-stage detector (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a setting of every network",
    )
    parser.add_argument("--set-a2net", action="append", default=[], metavar="KEY=VALUE", help="setting of A2Net alone")
    parser.add_argument("--set-afsd", action="append", default=[], metavar="KEY=VALUE", help="setting of AFSD alone")
    parser.add_argument("--set-two-stage", action="append", default=[], metavar="KEY=VALUE", help="of two stages alone")
    parser.add_argument(
        "--row", action="append", nargs="+", default=[], metavar=("LABEL CONFIG", "KEY=VALUE"),
        help="add a row to the table `rows`: label, configuration, and changed settings",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--tiou", metavar="LIST", default="0.1:0.1:0.7", help="thresholds (default: %(default)s)")
    parser.add_argument("--nms", choices=("local", "reference"), default="local", help="reference: as published")
    parser.add_argument(
        "--duration-edges", metavar="SECONDS", default="1.5,2.5,4.2,6.9",
        help="edges of the duration bins, or `quintiles` of the data (default: %(default)s, A2Net's)",
    )  # fmt: skip
    parser.add_argument(
        "--proposals", type=float, default=100.0, help="largest AN of the recall (%(default)g; two stages: 200)"
    )
    parser.add_argument(
        "--stream-weights", metavar="W", type=float, nargs="+", default=[],
        help="factors on the streams' scores in late fusion, as in 1 2 (default: all 1)",
    )  # fmt: skip
    parser.add_argument(
        "--engines", metavar="FILE", type=Path, nargs="+", default=[],
        help="exported engines in the table `speed`; evaluated on the test videos of data.fold",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=50, help="timed passes of each network (default: %(default)s)")
    add_overwrite_flag(parser)
    parser.set_defaults(func=_paper_tables)


def _paper_tables(args: argparse.Namespace) -> int:
    for flag, tables in OF_TABLES.items():
        if not set(tables) & set(args.tables):
            refuse_flags(args, (flag,), f"it is of the table {' or '.join(tables)}")
    try:
        from training.paper_tables.rows import compare_single_networks
        from training.paper_tables.speed import make_speed_table
        from training.paper_tables.summary import require_own_table
        from training.paper_tables.tables import TABLES, make_rows_table, make_table
    except ImportError as error:
        raise import_failure(error, "", "train", "training") from None
    options = _options(args)
    require_writable_folder(args.out, "choose another --out")
    if not args.overwrite:  # before hours of training
        for name in args.tables:
            require_own_table(args.out / name)
    for name in args.tables:
        if name == "rows":
            table = make_rows_table("", _rows(args), "mean_ap", args.out, options)
        elif name == "speed":
            rows = _rows(args) if args.row else compare_single_networks(_configs(args))
            table = make_speed_table(rows, args.engines, args.out, options, runs=args.runs)
        else:
            table = make_table(TABLES[name], _configs(args), args.out, options)
        table.write(args.out / name)
        print(table.markdown(), end="\n\n", flush=True)
    return 0


def _options(args: argparse.Namespace) -> Any:
    from runtime.detector import DetectorOptions
    from runtime.evaluation.number_lists import parse_tious
    from training.paper_tables.tables import TableOptions

    return TableOptions(
        tuple(args.seeds),
        parse_tious(args.tiou),
        _edges(args.duration_edges),
        args.proposals,
        DetectorOptions(nms=args.nms),
    )


def _edges(text: str) -> tuple[float, ...]:
    """Parse increasing seconds; `quintiles` gives none."""
    if text == "quintiles":
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--duration-edges: got {text!r}, expected seconds such as 1.5,2.5 or quintiles") from None


def _configs(args: argparse.Namespace) -> Any:
    from runtime.features.description import read_description
    from training.config.files import load_config
    from training.paper_tables.rows import Configs

    a2net = load_config(args.a2net, [*args.set, *args.set_a2net])
    afsd = load_config(args.afsd, [*args.set, *args.set_afsd])
    two_stage = load_config(args.two_stage, [*args.set, *args.set_two_stage])
    if (a2net.family, afsd.family, two_stage.family) != ("a2net", "afsd", "two_stage"):
        raise InputError(
            f"--a2net {args.a2net}, --afsd {args.afsd}, --two-stage {args.two_stage}: expected a configuration of "
            "each of these networks"
        )
    streams = read_description(a2net.data.features_path).streams
    return Configs(a2net, afsd, two_stage, tuple(args.stream_weights), len(streams))


def _rows(args: argparse.Namespace) -> Any:
    from training.config.files import load_config
    from training.paper_tables.rows import make_row

    if not args.row or min(map(len, args.row)) < 2:
        raise InputError("table rows: expected --row LABEL CONFIG [KEY=VALUE …] at least once")
    rows = tuple(make_row(label, load_config(config, [*args.set, *settings])) for label, config, *settings in args.row)
    if len({row.networks[0].key for row in rows}) < len(rows):
        raise InputError("table rows: two rows have the same label; expected different ones")
    return rows
