"""The one place where splinelib looks inside a running model: a tap at every non-linearity, hooks on named modules."""

from splinelib.hooks.running import Inputs as Inputs
from splinelib.hooks.running import Observer as Observer
from splinelib.hooks.running import as_written as as_written
from splinelib.hooks.running import duplicate as duplicate
from splinelib.hooks.running import evaluating as evaluating
from splinelib.hooks.running import in_call_order as in_call_order
from splinelib.hooks.running import leaves_in as leaves_in
from splinelib.hooks.running import run as run
from splinelib.hooks.running import tensors_in as tensors_in
from splinelib.hooks.running import watched as watched
from splinelib.hooks.running import with_tensors as with_tensors
from splinelib.hooks.state import own_randomness as own_randomness
from splinelib.hooks.state import own_state as own_state
from splinelib.hooks.taps import tapped as tapped
