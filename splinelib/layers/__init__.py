"""A model read as layers of units that can be pruned."""

from splinelib.layers.channel_selection import ChannelSelection as ChannelSelection
from splinelib.layers.hyperplanes import folded as folded
from splinelib.layers.images import first_images as first_images
from splinelib.layers.layer import Layer as Layer
from splinelib.layers.layer import Writer as Writer
from splinelib.layers.network import read_layers as read_layers
