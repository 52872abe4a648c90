"""The paper's claims in a sentence each, the chapters that judge them, and how a mark is found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim in one sentence, the chapter that judges it, and the rule of its marks."""

    text: str
    chapter: str
    rule: str


_AGAINST_ALL = (
    "Contradicted where spline is worse than at least one method of the paper's time (the whole 95 % "
    "interval of the difference beyond the margin), supported where it is better than or on par with every "
    "one. In the protocol the intervals hold for all methods together."
)

CLAIMS = {
    "C1": Claim(
        "Pruning a large network and cleverly starting a small one are two sides of one coin",
        "02_initialisation",
        "Pruning a large model and a clever start each win if their gain over a random start lies above the "
        "margin at more than half of the sizes. Supported where both win, in part where one does and the "
        "other loses.",
    ),
    "C2": Claim(
        "What pruning does can be pinpointed on the partition, and explains why pruned networks keep their accuracy",
        "01_partition",
        "Supported where, by intervals over runs, removing nodes takes more boundaries away than zeroing "
        "weights does, and zeroing weights turns more of their length parallel to an axis (in the toy, where "
        "theory lets one expect it). That it explains why pruned networks keep their accuracy: "
        "supported where, on trained networks, the whole interval of the rank correlation of what a choice takes "
        "from the partition with the accuracy that is left lies below 0, contradicted where it lies above.",
    ),
    "C3": Claim(
        "A tiny fraction of the units makes the decision boundary (the 2022 submission's abstract)",
        "06_reading",
        "Supported where at most a tenth of the units touch the decision boundary on average.",
    ),
    "C4": Claim(
        "The partition converges early in training, so tickets can be drawn early",
        "03_early_bird",
        "Supported where every run draws in the first half of its schedule, and the partition is then nearer "
        "to the final one than the rule's threshold; in part where one of the two is so. At a constant rate: "
        "as in the chapter. Tickets: in the protocol, the one that the detector draws is on par with or better "
        "than that of the end; elsewhere at least one of the first half is on par with or better than the last, "
        "and none is worse.",
    ),
    "C5": Claim(
        "Spline pruning is on par with or better than the state of the art, layer by layer",
        "04_layerwise_pruning",
        _AGAINST_ALL,
    ),
    "C6": Claim(
        "Spline pruning is on par with or better than the state of the art, globally",
        "05_global_pruning",
        _AGAINST_ALL,
    ),
    "C7": Claim(
        "Early detection with spline pruning cuts training FLOPs by up to 3.5 × at similar or better accuracy than "
        "state-of-the-art methods",
        "09_savings",
        "The spline early bird against every way of the paper's time to a pruned network at that ratio, as "
        "under C5. In the protocol its training must be cheaper than each of theirs, too; elsewhere cost "
        "stands beside it.",
    ),
    "C8": Claim(
        "The spline view explains other criteria, such as the batch-norm scale",
        "06_reading",
        "Supported where the whole interval of the rank correlation lies above the bound in every network, "
        "contradicted where it lies below in every one.",
    ),
}
