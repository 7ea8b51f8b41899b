"""CIFAR-100 with its 100 fine labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.data._cifar import Cifar, Form
from engine.lab.data._published import Published
from engine.spec.component import Card

FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


class Cifar100(Cifar):
    """50,000 training and 10,000 test images, 32×32, colour, 500 and 100 a class."""

    name: Literal["cifar100"] = "cifar100"

    label_bytes: ClassVar = 2  # coarse, fine
    label_key: ClassVar = b"fine_labels"
    forms: ClassVar = {
        # The unpacked .bin files have no published checksum, so only their archive is read.
        "binary": Form(
            "cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), ("test.bin",)
        ),
        "python": Form("cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",)),
    }
    published: ClassVar = Published(
        shape=(3, 32, 32),
        classes=tuple(FINE.split()),
        train_per_class=(500,) * 100,
        test_per_class=(100,) * 100,
        md5={
            "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
            "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
        url="https://www.cs.toronto.edu/~kriz/",
        downloads=("cifar-100-binary.tar.gz",),
    )
    card: ClassVar = Card(
        title="CIFAR-100",
        summary="50,000/10,000 colour images, 32×32, a hundred (fine) classes.",
        reference="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        needs="161 MB from the network once, or your own copy (data.root)",
    )
