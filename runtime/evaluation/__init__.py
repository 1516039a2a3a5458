"""Evaluate detections: mean average precision by two rules, recall of proposals, durations, kinds of errors.

`matching` holds the rules, `mean_ap` the mAP; `proposals`, `durations`, `error_kinds` and
`thresholds` analyse further.
"""

from __future__ import annotations

from runtime.evaluation.durations import A2NET_EDGES, DurationResult, evaluate_durations
from runtime.evaluation.error_kinds import FalsePositiveResult, analyse_false_positives
from runtime.evaluation.matching import (
    Rule,
    TieOrder,
    interpolated_average_precision,
    match_by_score,
    match_by_truth,
    plain_average_precision,
)
from runtime.evaluation.mean_ap import THUMOS_TIOUS, EvaluationResult, evaluate, format_table
from runtime.evaluation.proposals import (
    ACTIVITYNET_TIOUS,
    THUMOS_RECALL_TIOUS,
    ProposalResult,
    evaluate_proposals,
)
from runtime.evaluation.thresholds import ThresholdResult, evaluate_thresholds

__all__ = [
    "A2NET_EDGES",
    "ACTIVITYNET_TIOUS",
    "THUMOS_RECALL_TIOUS",
    "THUMOS_TIOUS",
    "DurationResult",
    "EvaluationResult",
    "FalsePositiveResult",
    "ProposalResult",
    "Rule",
    "ThresholdResult",
    "TieOrder",
    "analyse_false_positives",
    "evaluate",
    "evaluate_durations",
    "evaluate_proposals",
    "evaluate_thresholds",
    "format_table",
    "interpolated_average_precision",
    "match_by_score",
    "match_by_truth",
    "plain_average_precision",
]
