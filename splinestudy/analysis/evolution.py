"""How the partition of one slice changes while a network trains."""

from collections.abc import Sequence
from dataclasses import dataclass

from splinelib.partition.partition import Partition
from splinelib.partition.raster import raster_distance


@dataclass(frozen=True, eq=False)
class Evolution:
    """The partitions of one slice after some epochs (0: before training), and the code distances between neighbours.

    ``distances[i]`` is :func:`raster_distance` of ``partitions[i]`` and ``partitions[i + 1]``.
    """

    epochs: tuple[int, ...]
    partitions: tuple[Partition, ...]
    distances: tuple[float, ...]

    @property
    def regions(self) -> list[int]:
        """Number of regions at each epoch."""
        return [len(partition) for partition in self.partitions]


def evolution(epochs: Sequence[int], partitions: Sequence[Partition], side: int = 200) -> Evolution:
    """Put partitions (with codes) in a row; ``side`` as for :func:`raster_distance`."""
    pairs = zip(partitions, partitions[1:], strict=False)
    return Evolution(tuple(epochs), tuple(partitions), tuple(raster_distance(a, b, side) for a, b in pairs))
