"""torchvision's networks on ImageNet, or any folder of that layout: prune, compensate, fine-tune, measure.

From the command line, on one device or, by ``torchrun``, with one process for each GPU::

    python -m splinelib.imagenet --data /data/imagenet --arch resnet50 --weights IMAGENET1K_V1 --ratio 0.3
    torchrun --nproc-per-node=4 -m splinelib.imagenet --data /data/imagenet --arch resnet50 --weights IMAGENET1K_V1 \\
        --ratio 0.3 --scope global --compensate least_squares --epochs 5 --out record.json

Images are decoded as they are needed. A run that was killed goes on from its last checkpoint when it is started again.
"""

from splinelib.imagenet.chapter import accuracy_rows as accuracy_rows
from splinelib.imagenet.chapter import announced as announced
from splinelib.imagenet.chapter import needed as needed
from splinelib.imagenet.chapter import planned as planned
from splinelib.imagenet.chapter import run_all as run_all
from splinelib.imagenet.finetuning import evaluate as evaluate
from splinelib.imagenet.finetuning import finetune as finetune
from splinelib.imagenet.folders import Folder as Folder
from splinelib.imagenet.folders import calibration_batch as calibration_batch
from splinelib.imagenet.folders import evaluation_transform as evaluation_transform
from splinelib.imagenet.folders import open_folder as open_folder
from splinelib.imagenet.folders import training_transform as training_transform
from splinelib.imagenet.networks import build_network as build_network
from splinelib.imagenet.networks import check_weights as check_weights
from splinelib.imagenet.networks import forward_seconds as forward_seconds
from splinelib.imagenet.networks import price_pruning as price_pruning
from splinelib.imagenet.run import load_pruned as load_pruned
from splinelib.imagenet.run import run_imagenet as run_imagenet
from splinelib.imagenet.settings import FineTune as FineTune
from splinelib.imagenet.settings import ImageNetRun as ImageNetRun
from splinelib.imagenet.settings import architectures as architectures
