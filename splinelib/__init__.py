"""Max-affine spline partitions, codes, pruning and early-bird detection for deep networks."""

from splinelib.criteria.spline import Spline as Spline
from splinelib.early_bird.codes import sign_codes as sign_codes
from splinelib.early_bird.detectors import MaskEarlyBird as MaskEarlyBird
from splinelib.early_bird.detectors import SplineEarlyBird as SplineEarlyBird
from splinelib.errors import SplineError as SplineError
from splinelib.layers.network import read_layers as read_layers
from splinelib.pruning.pipeline import prune as prune
from splinelib.pruning.saving import load as load
from splinelib.pruning.saving import save as save
from splinelib.pruning.surgery import remove_units as remove_units
