"""Reading a network through its splines (claims C3, C8): who touches the decision boundary, and what scores see."""

from splinestudy.analysis.boundary_distance import boundary_distance as boundary_distance
from splinestudy.analysis.boundary_share import BoundaryPoints as BoundaryPoints
from splinestudy.analysis.boundary_share import boundary_points as boundary_points
from splinestudy.analysis.boundary_share import few_hold as few_hold
from splinestudy.analysis.boundary_share import touch_rates as touch_rates
from splinestudy.analysis.boundary_share import touching_share as touching_share
from splinestudy.analysis.boundary_share import turning as turning
from splinestudy.analysis.boundary_share import unit_rates as unit_rates
from splinestudy.analysis.boundary_share import window_around as window_around
from splinestudy.analysis.class_separation import class_means as class_means
from splinestudy.analysis.class_separation import class_separation as class_separation
from splinestudy.analysis.class_separation import rank_correlation as rank_correlation
from splinestudy.analysis.class_separation import separation as separation
from splinestudy.analysis.complexity_watch import ProgressWatch as ProgressWatch
from splinestudy.analysis.complexity_watch import probe_points as probe_points
from splinestudy.analysis.local_complexity import crossing_units as crossing_units
from splinestudy.analysis.local_complexity import exact_local_complexity as exact_local_complexity
from splinestudy.analysis.local_complexity import local_complexity as local_complexity
from splinestudy.analysis.local_complexity import random_directions as random_directions
from splinestudy.analysis.overlap import jaccard as jaccard
from splinestudy.analysis.overlap import jaccard_matrix as jaccard_matrix
from splinestudy.analysis.overlap import nearest_boundary as nearest_boundary
from splinestudy.analysis.overlap import region_statistics as region_statistics
from splinestudy.analysis.overlap import slice_effect as slice_effect
from splinestudy.analysis.pre_activations import pre_activations as pre_activations
from splinestudy.analysis.pre_activations import tap_of_layer as tap_of_layer
