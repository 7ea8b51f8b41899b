"""Fashion-MNIST: 70,000 pictures of clothes in MNIST's form."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.data._idx import DOWNLOADS, Idx
from engine.lab.data._published import Published
from engine.spec.component import Card


class FashionMnist(Idx):
    """60,000 training and 10,000 test pictures, 28×28, grey."""

    name: Literal["fashion-mnist"] = "fashion-mnist"

    torchvision: ClassVar = "FashionMNIST"
    published: ClassVar = Published(
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        train_per_class=(6000,) * 10,
        test_per_class=(1000,) * 10,
        # Of the .gz files: the publisher's. Of their content: of Debian's package, which repacks.
        md5={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        url="https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        downloads=DOWNLOADS,
        system=("/usr/share/datasets/fashion-mnist",),  # Debian's dataset-fashion-mnist
    )  # fmt: skip
    card: ClassVar = Card(
        title="Fashion-MNIST",
        summary="60,000/10,000 pictures of clothes, 28×28, grey, ten classes.",
        reference="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
        needs="30 MB from the network once, Debian's package dataset-fashion-mnist, or your own idx "
        "files (data.root)",
    )
