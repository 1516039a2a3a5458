"""Turn the flags of `afsd detect` into the settings of a job."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runtime.commands.detection.output import chosen_formats, chosen_tables
from runtime.commands.flags.engine import BACKBONE_FLAGS, path_of_flag
from runtime.commands.flags.reading import reading_options
from runtime.commands.flags.shown import selection_options, selects
from runtime.detector import DetectorOptions
from runtime.engines.openvino.cache import default_folder
from runtime.engines.options import EngineOptions
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import RecordFolder
from runtime.jobs.settings import FileOptions, JobSettings, choose_lowest
from runtime.two_streams import name_pair


def make_settings(
    arguments: argparse.Namespace, jobs: Sequence[VideoJob], records: RecordFolder | None = None
) -> JobSettings:
    """Return the settings that the flags stand for; `records` are those of the folder of the results."""
    formats = tuple(chosen_formats(arguments))
    lowest = choose_lowest(arguments.score, formats, selects(arguments))
    shared = len(jobs) > 1 if records is None else records.is_shared(jobs)
    options = DetectorOptions(
        batch_size=arguments.batch,
        min_score=lowest,
        **selection_options(arguments),
        nms=arguments.nms,
        settle_seconds=arguments.settle,
        stride=arguments.stride,
        max_latency=arguments.max_latency,
        **reading_options(arguments),
        flow_method=arguments.flow_method,
    )
    files = FileOptions(
        formats,
        arguments.score,
        lowest,
        name_pair(str(arguments.engine), str(arguments.flow_engine or "")),
        arguments.bom,
        arguments.embed,
        indexed="html" in formats and shared,
        tables=tuple(chosen_tables(arguments)),
    )
    engine_options = EngineOptions(
        device=arguments.device.partition(",")[0],
        threads=arguments.threads,
        precision=arguments.precision,
        provider=arguments.provider,
        cuda_graph=arguments.cuda_graph,
        mode=arguments.mode,
        cache=None if arguments.no_cache else arguments.cache or default_folder(),
        verify=not arguments.no_verify,
    )
    return JobSettings(
        str(arguments.engine),
        arguments.flow_engine,
        tuple(path for option, _ in BACKBONE_FLAGS if (path := path_of_flag(arguments, option))),
        options,
        arguments.fps,
        None if arguments.video_scores is None else str(arguments.video_scores),
        arguments.labels_per_video,
        files,
        engine_options,
    )
