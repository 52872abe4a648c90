"""What methods are called in the book."""

GLOBAL = " (global)"
"""Behind the name of a method that prunes globally, where others do not."""

AFTER = " at epoch "
"""Before the number of dense epochs, in the name of a method whose tickets are drawn at a fixed moment."""

_LABELS = {
    "spline": "spline",
    "spline_geometric": "spline, geometric offset",
    "spline same_side": "spline, pairs that face one way",
    "l1": "filter L1 norm",
    "l2": "filter L2 norm",
    "bn_scale": "batch-norm scale",
    "slimming": "network slimming",
    "fpgm": "geometric median (FPGM)",
    "random": "random",
    "taylor": "Taylor",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "code_distance": "code distance on data",
    "output_angle": "output angle on data",
    "thinet": "ThiNet",
    "reconstruction": "greedy reconstruction",
    "folding": "Model Folding",
    "sfp": "soft filter pruning",
    "ticket initial": "lottery ticket, initial weights",
    "ticket early": "lottery ticket, early weights",
    "spline retrained": "spline, retrained at full rate",
    "l1 retrained": "filter L1, retrained at full rate",
    "narrow": "narrow network from scratch",
    "narrow lsuv": "narrow, LSUV",
    "narrow through_data": "narrow, boundaries through data",
    "narrow layerwise": "narrow, pretrained layerwise",
    "narrow early": "narrow, as long as an early ticket costs",
    "narrow long": "narrow, as long as a lottery ticket costs",
    "spline early bird": "spline early bird",
    "spline early bird anew": "spline early bird, new weights",
    "EB Train": "EB Train",
    "snip at start": "SNIP at initialisation",
    "grasp at start": "GraSP at initialisation",
    "synflow at start": "SynFlow at initialisation",
}
_COMPENSATIONS = {"least_squares": "least squares", "merge": "merging"}


def label_of(method: str) -> str:
    """How a method of :func:`splinestudy.results.method_name` is called in the book."""
    base, _, how = method.removesuffix(GLOBAL).partition(" + ")
    base, ticket, epochs = base.partition(AFTER)
    scope = ", global" if method.endswith(GLOBAL) else ""
    if ticket:
        return f"{_LABELS.get(base, base)} ticket of epoch {epochs or '(number)'}, schedule anew{scope}"
    return f"{_LABELS.get(base, base)}{', ' + _COMPENSATIONS[how] if how else ''}{scope}"
