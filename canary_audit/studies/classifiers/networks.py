"""Architectures: stages one after another, whose outputs are the layers that studies look at."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class Classifier(nn.Module):
    """Stages by name, in order; the last gives logits."""

    def __init__(self, stages: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (n_rows, n_features) -> (n_rows, n_classes)."""
        for stage in self.stages.values():
            x = stage(x)
        return x

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs of all stages but the last, each flattened to (n_rows, width)."""
        found = {}
        for name, stage in list(self.stages.items())[:-1]:
            x = stage(x)
            found[name] = x.flatten(1)
        return found


def mlp(
    n_features: int, n_classes: int, hidden: Sequence[int], *, dropout: float = 0.0, input_dropout: float = 0.0
) -> Classifier:
    """Fully connected ReLU network with layers `hidden1`, `hidden2`, ...; without any it is linear.

    Args:
        hidden: width of each hidden layer.
        dropout: share of hidden outputs left out in training.
        input_dropout: share of inputs left out in training.
    """
    stages: dict[str, nn.Module] = {}
    before = n_features
    for place, width in enumerate(hidden, start=1):
        ahead = [nn.Dropout(input_dropout)] if place == 1 and input_dropout else []
        behind = [nn.Dropout(dropout)] if dropout else []
        stages[f"hidden{place}"] = nn.Sequential(*ahead, nn.Linear(before, width), nn.ReLU(), *behind)
        before = width
    stages["logits"] = nn.Linear(before, n_classes)
    return Classifier(stages)


def conv_net(image_shape: tuple[int, int], n_classes: int, *, channels: int = 16, width: int = 64) -> Classifier:
    """Two convolutions of 3 x 3 with pooling, and one hidden layer, after LeNet; images are at least 4 x 4."""
    height, breadth = image_shape
    pooled = (height // 4) * (breadth // 4)
    return Classifier(
        {
            "conv1": nn.Sequential(nn.Unflatten(1, (1, *image_shape)), nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU()),
            "pool2": nn.MaxPool2d(2),
            "embedding": nn.Sequential(nn.Flatten(), nn.Linear(2 * channels * pooled, width), nn.ReLU()),
            "logits": nn.Linear(width, n_classes),
        }
    )
