"""Data sets in memory, and batches from them."""

from splinestudy.data.batching import batch_count as batch_count
from splinestudy.data.batching import batches as batches
from splinestudy.data.batching import evaluation_batches as evaluation_batches
from splinestudy.data.dataset import Dataset as Dataset
from splinestudy.data.dataset import Split as Split
from splinestudy.data.dataset import normalize as normalize
from splinestudy.data.dataset import subset as subset
from splinestudy.data.load import DATASETS as DATASETS
from splinestudy.data.load import load_dataset as load_dataset
from splinestudy.data.samples import CALIBRATION as CALIBRATION
from splinestudy.data.samples import Calibration as Calibration
from splinestudy.data.samples import calibration as calibration
from splinestudy.data.samples import canvas_pair as canvas_pair
from splinestudy.data.samples import example_inputs as example_inputs
