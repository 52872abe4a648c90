"""The network as nodes of lanes: what the reader builds and the compiled program is made from.

A *lane* holds one affine function ``a s + b t + c`` of the slice's coordinates. Lanes with the same inputs
form a *cell* (a convolution's channels at one position, a whole dense layer, a max pool's window), cells form a
*node*. Every node sums contributions of earlier lanes; what it then does is its kind.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from splinelib.errors import SettingError

LINEAR, PIECE, MAX = 0, 1, 2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def aligned_zeros(size: int) -> Floats:
    """Zeros from a multiple of 64 bytes on: vectors of 512 bits that lie across two such lines load half as fast."""
    memory = np.zeros(size + 7)
    skip = -memory.ctypes.data % 64 // 8
    return memory[skip : skip + size]


@dataclass(frozen=True)
class Link:
    """Contributions ``source lane -> (cell, lane in the cell)`` of one node.

    ``table`` is None: entry m adds ``weight[m] *`` source to the single lane ``row[m]`` of the cell.
    Otherwise it adds ``table[row[m]] *`` source to all the lanes of the cell; ``group[row]`` is the group of
    channels the row belongs to.
    """

    source: Ints
    cell: Ints
    row: Ints
    weight: Floats | None = None
    table: Floats | None = None
    group: Ints | None = None


@dataclass(eq=False)
class Node:
    """One step of the network; ``lanes`` gives its lane numbers in the tensor's logical shape.

    LINEAR passes its sums on. PIECE passes the sum where it is positive and ``slope`` times it elsewhere. MAX
    passes, for each cell, the largest of its first ``used`` lanes. ``const_size`` is given where constants were summed
    from larger terms.
    """

    kind: int
    first: int
    cells: int
    width: int
    lanes: Ints
    name: str = ""
    groups: int = 1
    const: Floats = field(default_factory=lambda: np.zeros(0))
    const_size: Floats = field(default_factory=lambda: np.zeros(0))
    slope: Floats = field(default_factory=lambda: np.zeros(0))
    used: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    links: list[Link] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not len(self.const):
            self.const = np.zeros(self.size)

    @property
    def size(self) -> int:
        """Number of lanes."""
        return self.cells * self.width

    def local(self, lanes: Ints) -> Ints:
        """Lane numbers within the node."""
        return lanes - self.first

    def const_sizes(self) -> Floats:
        """Size of what each lane's constant was summed from: at least its own."""
        own = np.abs(self.const)
        return np.maximum(own, self.const_size) if len(self.const_size) else own

    def weight_sums(self, power: int = 1) -> Floats:
        """Sum of the absolute weights into each lane, or of a power of them: what errors are multiplied by."""
        sums = np.zeros((self.cells, self.width))
        for link in self.links:
            if link.table is None:
                assert link.weight is not None
                np.add.at(sums, (link.cell, link.row), np.abs(link.weight) ** power)
            else:
                assert link.group is not None
                by_group = np.zeros((self.groups, self.width))
                np.add.at(by_group, link.group, np.abs(link.table) ** power)
                sums += np.tile(by_group, (self.cells // self.groups, 1))
        return sums.reshape(-1)

    def rescale(self, scale: Floats, shift: Floats) -> bool:
        """Replace every lane by ``scale * lane + shift``, in the links; False if the weights cannot hold it."""
        per_cell = scale.reshape(-1, self.groups, self.width)
        if any(link.table is not None for link in self.links) and np.any(per_cell != per_cell[:1]):
            return False
        grid = scale.reshape(self.cells, self.width)
        scaled = []
        for link in self.links:
            if link.table is None:
                assert link.weight is not None
                weight = link.weight * grid[link.cell, link.row]
                scaled.append(Link(link.source, link.cell, link.row, weight))
            else:
                assert link.group is not None
                table = link.table * per_cell[0][link.group]
                scaled.append(Link(link.source, link.cell, link.row, None, table, link.group))
        self.links = scaled
        self.const_size = self.const_sizes() * np.abs(scale) + np.abs(shift)
        self.const = self.const * scale + shift
        return True


@dataclass(frozen=True)
class Value:
    """A tensor of the network: ``scale * lane + shift`` elementwise, in the logical shape (no batch dimension).

    ``whole`` is the linear node that this tensor is the only reader of, if so: it may then be changed in place.
    """

    lanes: Ints
    scale: Floats
    shift: Floats
    whole: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape without the batch dimension."""
        return self.lanes.shape


@dataclass(eq=False)
class Layout:
    """All nodes in order of execution; the first one is the input."""

    nodes: list[Node] = field(default_factory=list)
    size: int = 0

    def add(self, kind: int, cells: int, width: int, lanes: Ints, name: str, groups: int = 1) -> Node:
        """Append a node; ``lanes`` are local numbers in the logical shape."""
        if not lanes.size:
            raise SettingError(
                f"the step '{name}' returns a tensor without elements, shape {lanes.shape}; give every layer at least "
                "one unit"
            )
        node = Node(kind, self.size, cells, width, lanes + self.size, name, groups)
        self.size += node.size
        self.nodes.append(node)
        return node

    def elementwise(self, kind: int, shape: tuple[int, ...], name: str) -> Node:
        """A node with one lane for each element: positions are cells, or one cell for a vector."""
        if len(shape) < 2:
            size = int(np.prod(shape))
            return self.add(kind, 1, size, np.arange(size).reshape(shape), name)
        channels, positions = shape[0], int(np.prod(shape[1:]))
        lanes = np.arange(channels * positions).reshape(*shape[1:], channels)
        return self.add(kind, positions, channels, np.moveaxis(lanes, -1, 0), name)


def value_of(node: Node) -> Value:
    """The tensor a node computes."""
    ones = np.ones(node.lanes.shape)
    return Value(node.lanes, ones, np.zeros_like(ones), node if node.kind == LINEAR else None)


def lane_link(node: Node, value: Value) -> None:
    """Let every element of ``value`` flow into the same element of ``node``."""
    local = node.local(node.lanes).reshape(-1)
    node.const[local] += value.shift.reshape(-1)
    kept = np.flatnonzero(value.scale)  # constants come without a lane
    local = local[kept]
    link = (
        value.lanes.reshape(-1)[kept],
        local // node.width,
        local % node.width,
        value.scale.reshape(-1)[kept],
    )
    node.links.append(Link(*link))


def needed_nodes(layout: Layout, output: Value | None) -> list[Node]:
    """Nodes that some unit, or the output, depends on."""
    owner = np.full(layout.size, -1, dtype=np.int64)
    for i, node in enumerate(layout.nodes):
        owner[node.first : node.first + node.size] = i
    wanted = {i for i, n in enumerate(layout.nodes) if n.kind in (PIECE, MAX) or i == 0}
    if output is not None:
        wanted |= set(owner[output.lanes.reshape(-1)].tolist())
    stack = list(wanted)
    while stack:
        for link in layout.nodes[stack.pop()].links:
            new = set(np.unique(owner[link.source]).tolist()) - wanted
            wanted |= new
            stack += new
    return [n for i, n in enumerate(layout.nodes) if i in wanted]
