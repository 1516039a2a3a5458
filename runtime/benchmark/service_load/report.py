"""Write what became of every request as text."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict

from runtime.benchmark.service_load.kinds import SHARES
from runtime.benchmark.service_load.outcome import Outcome
from runtime.common.tables import align

MIB = 1 << 20


def write_report(
    outcomes: list[Outcome],
    seconds: float,
    memory: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    metrics: dict[str, float],
    status: int,
    left: int,
) -> str:
    lost = [outcome for outcome in outcomes if outcome.end.startswith("lost")]
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    rows = [["kind", "requests", "what became of them", "s, quartiles", "429 first", "wrong"]]
    for kind in SHARES:
        those = by_kind[kind]
        ends = ", ".join(f"{count} × {end}" for end, count in Counter(o.end for o in those).most_common())
        times = _quartiles([o.seconds for o in those])
        refused, wrong = sum(o.refusals for o in those), sum(o.wrong for o in those)
        rows.append([kind, str(len(those)), ends, times, str(refused), str(wrong)])
    done = [o.seconds for o in outcomes if o.end == "202 done"]
    ran = {name: value for name, value in metrics.items() if name.startswith("afsd_service_job_seconds_")}
    mean = ran["afsd_service_job_seconds_sum"] / max(ran["afsd_service_job_seconds_count"], 1)
    shown = [" + ".join(f"{value / MIB:.0f}" for value in pair) for pair in memory]
    return "\n".join(
        [
            align(rows, "lrllrr"),
            "",
            f"{len(outcomes)} requests in {seconds:.1f} s: {len(outcomes) - len(lost)} answered, {len(lost)} lost, "
            f"{sum(o.wrong for o in outcomes)} wrong",
            f"jobs that are done: {len(done)}, seconds from request to result (quartiles) {_quartiles(done)}; on the "
            f"worker {mean:.2f} s on average; {metrics['afsd_service_video_seconds_total']:.0f} s of video",
            f"memory in MiB, service + workers: {shown[0]} before, {shown[1]} at most, {shown[2]} after",
            f"workers replaced: {metrics['afsd_service_workers_replaced_total']:.0f}; "
            f"exit status {status}; temporary files left: {left}",
        ]
    )  # fmt: skip


def _quartiles(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return " / ".join(f"{value:.2f}" for value in seconds)
    return " / ".join(f"{value:.2f}" for value in statistics.quantiles(seconds, n=4, method="inclusive"))
