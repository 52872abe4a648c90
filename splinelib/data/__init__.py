"""Data sets in memory, and batches from them."""

from splinelib.data.batching import batch_count as batch_count
from splinelib.data.batching import batches as batches
from splinelib.data.batching import evaluation_batches as evaluation_batches
from splinelib.data.dataset import Dataset as Dataset
from splinelib.data.dataset import Split as Split
from splinelib.data.dataset import normalize as normalize
from splinelib.data.dataset import subset as subset
from splinelib.data.load import DATASETS as DATASETS
from splinelib.data.load import load_dataset as load_dataset
