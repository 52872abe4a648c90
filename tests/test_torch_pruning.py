import pytest
import torch
import torch_pruning
import torchvision
from tiny_nets import tiny_cnn
from torch import nn

from splinelib import Spline, read_layers
from splinelib.criteria.interop import SplineImportance
from splinelib.layers import folded
from splinelib.pruning import cost


def vgg11_bn():
    """torchvision's, with a short classifier: its own holds a hundred million weights."""
    with torch.device("meta"):
        model = torchvision.models.vgg11_bn()
        model.classifier = nn.Linear(512 * 7 * 7, 10)
    for module in model.to_empty(device="cpu").modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def resnet18():
    return torchvision.models.resnet18(num_classes=10)


@pytest.mark.parametrize(
    ("build", "last", "everywhere"),
    [(resnet18, "fc", False), (resnet18, "fc", True), (vgg11_bn, "classifier", True)],
)
def test_torch_pruning_takes_the_spline_criterion(build, last, everywhere, generator):
    model, example = build().eval(), torch.randn(1, 3, 32, 32, generator=generator)
    before = cost(model, example)
    pruner = torch_pruning.pruner.BasePruner(
        model, example, importance=SplineImportance(), pruning_ratio=0.5, global_pruning=everywhere
    )
    pruner.step()
    after = cost(model, example)
    assert after.parameters < 0.8 * before.parameters
    assert after.flops < before.flops
    assert model.get_submodule(last).out_features == 10
    assert model(example).shape == (1, 10)


def test_importance_is_the_normalised_score(generator):
    model, example = tiny_cnn(generator), torch.zeros(1, 2, 6, 6)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example)
    importance = SplineImportance(Spline(offset="geometric"))
    scores = {layer.name: folded(model, layer) for layer in read_layers(model, example)}
    for group in graph.get_all_groups():
        name = graph._module2name[group[0].dep.target.module]
        if name == "9":
            assert importance(group) is None  # the network's outputs stay
        else:
            wanted = Spline(offset="geometric").layer_score(*scores[name])
            torch.testing.assert_close(importance(group), wanted / wanted.mean())
