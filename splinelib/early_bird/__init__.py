"""Early birds: sign codes on a canvas, and the epoch at which they have settled."""

from splinelib.early_bird.canvas import noise_canvas as noise_canvas
from splinelib.early_bird.canvas import two_image_canvas as two_image_canvas
from splinelib.early_bird.codes import sign_codes as sign_codes
from splinelib.early_bird.detectors import MaskEarlyBird as MaskEarlyBird
from splinelib.early_bird.detectors import SplineEarlyBird as SplineEarlyBird
from splinelib.early_bird.distances import PackedCode as PackedCode
from splinelib.early_bird.distances import code_distance as code_distance
