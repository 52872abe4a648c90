"""Pruning: from scores to a smaller network that keeps its function."""

from splinelib.pruning.attention import split_attention as split_attention
from splinelib.pruning.cut import Cut as Cut
from splinelib.pruning.cut import cut_of as cut_of
from splinelib.pruning.flops import Cost as Cost
from splinelib.pruning.flops import cost as cost
from splinelib.pruning.folding import fold_units as fold_units
from splinelib.pruning.inference import fuse_norms as fuse_norms
from splinelib.pruning.latency import measure_latency as measure_latency
from splinelib.pruning.least_squares import reconstruct as reconstruct
from splinelib.pruning.least_squares import reestimate_norms as reestimate_norms
from splinelib.pruning.merging import merge_units as merge_units
from splinelib.pruning.optimizer import carry_optimizer as carry_optimizer
from splinelib.pruning.optimizer import carry_schedule as carry_schedule
from splinelib.pruning.pipeline import prune as prune
from splinelib.pruning.report import Report as Report
from splinelib.pruning.report import report as report
from splinelib.pruning.report import report_of as report_of
from splinelib.pruning.saving import load as load
from splinelib.pruning.saving import save as save
from splinelib.pruning.selection import select_budget as select_budget
from splinelib.pruning.selection import select_units as select_units
from splinelib.pruning.streams import compact_streams as compact_streams
from splinelib.pruning.surgery import Selection as Selection
from splinelib.pruning.surgery import mask_units as mask_units
from splinelib.pruning.surgery import remove_units as remove_units
