"""CIFAR-10: the vision half of the field's experiments."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.data._cifar import Cifar, Form
from engine.lab.data._published import Published
from engine.spec.component import Card

BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


class Cifar10(Cifar):
    """50,000 training and 10,000 test images, 32×32, colour."""

    name: Literal["cifar10"] = "cifar10"

    label_bytes: ClassVar = 1
    label_key: ClassVar = b"labels"
    forms: ClassVar = {
        "binary": Form(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            tuple(f"{batch}.bin" for batch in BATCHES),
            ("test_batch.bin",),
        ),
        "python": Form(
            "cifar-10-python.tar.gz", "cifar-10-batches-py", BATCHES, ("test_batch",)
        ),
    }  # fmt: skip
    published: ClassVar = Published(
        shape=(3, 32, 32),
        classes=(
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
        ),
        train_per_class=(5000,) * 10,
        test_per_class=(1000,) * 10,
        # The archives' md5s are the publisher's, those of the pickles torchvision's, those of the
        # unpacked .bin files what independent projects record (CMake and Go loaders agree).
        md5={
            "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin/data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "cifar-10-batches-bin/data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "cifar-10-batches-bin/data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "cifar-10-batches-bin/data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "cifar-10-batches-bin/data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "cifar-10-batches-bin/test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
            "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
            "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
            "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        },
        url="https://www.cs.toronto.edu/~kriz/",
        downloads=("cifar-10-binary.tar.gz",),
    )  # fmt: skip
    card: ClassVar = Card(
        title="CIFAR-10",
        summary="50,000/10,000 colour images, 32×32, ten classes.",
        reference="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        needs="162 MB from the network once, or your own copy (data.root), archived or unpacked",
    )
