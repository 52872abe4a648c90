"""Exact partitions of slices of a network's input space, for any piecewise affine network torch.fx can read."""

from splinelib.partition.affine import region_map as region_map
from splinelib.partition.decision import DecisionBoundary as DecisionBoundary
from splinelib.partition.decision import Polyline as Polyline
from splinelib.partition.export import load_partition as load_partition
from splinelib.partition.export import save_partition as save_partition
from splinelib.partition.export import write_geojson as write_geojson
from splinelib.partition.handlers import supported_modules as supported_modules
from splinelib.partition.measures import Change as Change
from splinelib.partition.measures import axis_parallel_share as axis_parallel_share
from splinelib.partition.measures import bordering_regions as bordering_regions
from splinelib.partition.measures import boundary_length as boundary_length
from splinelib.partition.measures import compare as compare
from splinelib.partition.measures import separated_pairs as separated_pairs
from splinelib.partition.measures import share_of_units_touching as share_of_units_touching
from splinelib.partition.partition import Partition as Partition
from splinelib.partition.partition import compute_partition as compute_partition
from splinelib.partition.partition import count_regions as count_regions
from splinelib.partition.program import UnitLayer as UnitLayer
from splinelib.partition.raster import raster as raster
from splinelib.partition.segment import SegmentPartition as SegmentPartition
from splinelib.partition.segment import compute_segment as compute_segment
from splinelib.partition.slices import Segment as Segment
from splinelib.partition.slices import Slice2D as Slice2D
from splinelib.partition.topology import Topology as Topology
from splinelib.partition.topology import topology as topology
from splinelib.partition.warm import warm_up as warm_up
