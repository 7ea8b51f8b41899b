"""MNIST: 70,000 handwritten digits."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.data._idx import DOWNLOADS, Idx
from engine.lab.data._published import Published
from engine.spec.component import Card


class Mnist(Idx):
    """60,000 training and 10,000 test digits, 28×28, grey."""

    name: Literal["mnist"] = "mnist"

    torchvision: ClassVar = "MNIST"
    published: ClassVar = Published(
        shape=(1, 28, 28),
        classes=tuple("0123456789"),
        train_per_class=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        test_per_class=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        # Of the .gz files: torchvision's. Of their content: what many independent loaders record.
        md5={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        downloads=DOWNLOADS,
    )
    card: ClassVar = Card(
        title="MNIST",
        summary="60,000/10,000 handwritten digits, 28×28, grey, ten classes.",
        reference="LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to documents",
        needs="11 MB from the network once, or your own idx files (data.root)",
    )
