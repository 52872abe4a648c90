"""Criteria: scores that say which units are redundant."""

from splinelib.criteria.activations import CodeDistance as CodeDistance
from splinelib.criteria.activations import OutputAngle as OutputAngle
from splinelib.criteria.gradients import SNIP as SNIP
from splinelib.criteria.gradients import GraSP as GraSP
from splinelib.criteria.gradients import SynFlow as SynFlow
from splinelib.criteria.gradients import Taylor as Taylor
from splinelib.criteria.gradients import TorchPruningScore as TorchPruningScore
from splinelib.criteria.grouping import SplineGroups as SplineGroups
from splinelib.criteria.reconstruction_error import ReconstructionCost as ReconstructionCost
from splinelib.criteria.reconstruction_error import ThiNet as ThiNet
from splinelib.criteria.spline import Criterion as Criterion
from splinelib.criteria.spline import Ranking as Ranking
from splinelib.criteria.spline import Spline as Spline
from splinelib.criteria.spline import rank_units as rank_units
from splinelib.criteria.spline import spline_distance as spline_distance
from splinelib.criteria.weights import FPGM as FPGM
from splinelib.criteria.weights import BatchNormScale as BatchNormScale
from splinelib.criteria.weights import FilterNorm as FilterNorm
from splinelib.criteria.weights import Random as Random
