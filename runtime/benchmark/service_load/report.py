"""Write what became of every request as text."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict

from runtime.benchmark.service_load.judging import MIB, RequestRecord, Study
from runtime.benchmark.service_load.kinds import DONE, KINDS
from runtime.common.tables import align


def format_study(study: Study) -> str:
    """Return a study as text: a table of the kinds of requests, and lines of the whole."""
    records, metrics = study.records, study.metrics
    by_kind: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in records:
        by_kind[record.kind].append(record)
    rows = [["kind", "requests", "what became of them", "s, quartiles", "429 first", "wrong"]]
    for kind in KINDS:
        those = by_kind[kind]
        ends = ", ".join(f"{count} × {end}" for end, count in Counter(r.end for r in those).most_common())
        refused, wrong = sum(r.refusals for r in those), sum(r.wrong for r in those)
        rows.append([kind, str(len(those)), ends, _quartiles([r.seconds for r in those]), str(refused), str(wrong)])
    lost = sum(record.lost for record in records)
    done = [record.seconds for record in records if record.end == DONE]
    mean = metrics["afsd_service_job_seconds_sum"] / max(metrics["afsd_service_job_seconds_count"], 1)
    before, peak, after = (
        f"{usage.service / MIB:.0f} + {usage.workers / MIB:.0f}" for usage in (study.before, study.peak, study.after)
    )
    return "\n".join(
        [
            align(rows, "lrllrr"),
            "",
            f"{len(records)} requests in {study.seconds:.1f} s: {len(records) - lost} answered, {lost} lost, "
            f"{sum(record.wrong for record in records)} wrong",
            f"jobs that are done: {len(done)}, seconds from request to result (quartiles) {_quartiles(done)}; on the "
            f"worker {mean:.2f} s on average; {metrics['afsd_service_video_seconds_total']:.0f} s of video",
            f"memory in MiB, service + workers: {before} before, {peak} at most, {after} after",
            f"workers replaced: {metrics['afsd_service_workers_replaced_total']:.0f}; "
            f"exit status {study.status}; temporary files left: {study.left}",
        ]
    )


def _quartiles(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return " / ".join(f"{value:.2f}" for value in seconds)
    return " / ".join(f"{value:.2f}" for value in statistics.quantiles(seconds, n=4, method="inclusive"))
