"""What `dataset` can open: the table behind `blindspots list data`. No torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataInfo:
    """One row of the table: a name to pass to `dataset`, what it is, and what has to be there first."""

    name: str
    description: str
    needs: str


_TABLE = (
    DataInfo(
        "digits",
        "handwritten digits of scikit-learn (Alpaydin and Kaynak 1998): 10 classes, 1x8x8, 1297 train and 500 test",
        "nothing: comes with scikit-learn",
    ),
    DataInfo(
        "mnist",
        "handwritten digits (LeCun et al. 1998): 10 classes, 1x28x28, 60000 train and 10000 test",
        "MNIST/raw/*-ubyte or *-ubyte.gz in the data folder",
    ),
    DataInfo(
        "fashion-mnist",
        "articles of clothing (Xiao et al. 2017): 10 classes, 1x28x28, 60000 train and 10000 test",
        "FashionMNIST/raw/*-ubyte or *-ubyte.gz in the data folder",
    ),
    DataInfo(
        "cifar10",
        "small photographs (Krizhevsky 2009): 10 classes, 3x32x32, 50000 train and 10000 test",
        "cifar-10-batches-py/, or cifar10/train|test/CLASS/*, or cifar10-jpeg.zip in the data folder",
    ),
    DataInfo(
        "cifar100",
        "small photographs (Krizhevsky 2009): 100 classes, 3x32x32, 50000 train and 10000 test",
        "cifar-100-python/ in the data folder",
    ),
    DataInfo(
        "imagefolder:PATH",
        "a folder (or a .zip of one) with a subfolder for each class, optionally below a folder for each split",
        "image files; one size, or the option size",
    ),
    DataInfo(
        "PATH.npz",
        "a NumPy archive: images and labels under images/labels, x/y, arr_0/arr_1 or x_test/y_test",
        "uint8, or floating point in [0, 1]",
    ),
    DataInfo(
        "hf:NAME",
        "a dataset of the Hugging Face hub, or a local directory of one",
        "the extra hub: pip install 'blindspots[hub]'",
    ),
)

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")
SCHEMES = ("imagefolder:PATH", "PATH.npz", "hf:NAME")


def list_data() -> tuple[DataInfo, ...]:
    """Every source that `dataset` opens by a string, built-in names first.

    >>> list_data()[0].name
    'digits'
    """
    return _TABLE
