"""Reading a network through its splines (claims C3, C8): who touches the decision boundary, and what scores see."""

from splinelib.reading.activations import pre_activations as pre_activations
from splinelib.reading.activations import tap_of_layer as tap_of_layer
from splinelib.reading.boundary_distance import boundary_distance as boundary_distance
from splinelib.reading.boundary_share import BoundaryPoints as BoundaryPoints
from splinelib.reading.boundary_share import boundary_points as boundary_points
from splinelib.reading.boundary_share import few_hold as few_hold
from splinelib.reading.boundary_share import touch_rates as touch_rates
from splinelib.reading.boundary_share import touching_share as touching_share
from splinelib.reading.boundary_share import turning as turning
from splinelib.reading.boundary_share import unit_rates as unit_rates
from splinelib.reading.boundary_share import window_around as window_around
from splinelib.reading.class_separation import class_means as class_means
from splinelib.reading.class_separation import class_separation as class_separation
from splinelib.reading.class_separation import rank_correlation as rank_correlation
from splinelib.reading.class_separation import separation as separation
from splinelib.reading.local_complexity import crossing_units as crossing_units
from splinelib.reading.local_complexity import exact_local_complexity as exact_local_complexity
from splinelib.reading.local_complexity import local_complexity as local_complexity
from splinelib.reading.local_complexity import random_directions as random_directions
from splinelib.reading.overlap import jaccard as jaccard
from splinelib.reading.overlap import jaccard_matrix as jaccard_matrix
from splinelib.reading.overlap import nearest_boundary as nearest_boundary
from splinelib.reading.overlap import region_statistics as region_statistics
from splinelib.reading.overlap import slice_effect as slice_effect
from splinelib.reading.progress import ProgressWatch as ProgressWatch
from splinelib.reading.progress import probe_points as probe_points
