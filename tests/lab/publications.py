"""Small CIFARs and MNISTs, made here in every form their publishers use, with their checksums."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from engine.lab.data.cifar10 import Cifar10
from engine.lab.data.cifar100 import Cifar100
from engine.lab.data.mnist import Mnist

Arrays = dict[str, np.ndarray]


def serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> list[str]:
    """A network that has `files` (by URL); returns the list of what is asked for."""
    asked = []

    def answer(url: str, **_: Any) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(files[url])

    monkeypatch.setattr("urllib.request.urlopen", answer)
    return asked


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def images(classes: int, a_class: int, shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    generator = np.random.Generator(np.random.Philox(seed))
    labels = generator.permutation(np.repeat(np.arange(classes), a_class))
    return generator.integers(0, 256, (len(labels), *shape), dtype=np.uint8), labels


def same(found: Arrays, expected: Arrays) -> bool:
    return all(
        found[key].dtype == expected[key].dtype and np.array_equal(found[key], expected[key])
        for key in expected
    )


def python2_pickle(value: dict[str, Any]) -> bytes:
    """As the publisher's Python 2 wrote it: byte strings, and numpy under its old name."""

    class Writer(pickle._Pickler):  # type: ignore[name-defined, misc]
        dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

        def save_bytes(self, content: bytes) -> None:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
            self.memoize(content)

        dispatch[bytes] = save_bytes

    buffer = io.BytesIO()
    Writer(buffer, 2).dump({key.encode(): item for key, item in value.items()})
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def tar(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        if extra is not None:
            archive.addfile(extra)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Publication:
    """A small CIFAR-10 or -100 in all its forms; `use` makes the data set believe in it."""

    def __init__(self, cls: type[Cifar10 | Cifar100], monkeypatch: pytest.MonkeyPatch) -> None:
        self.cls, self.monkeypatch = cls, monkeypatch
        classes = len(cls.published.classes)
        self.arrays: Arrays = {}
        self.arrays["train_x"], self.arrays["train_y"] = images(classes, 5, (3, 32, 32), 1)
        self.arrays["test_x"], self.arrays["test_y"] = images(classes, 1, (3, 32, 32), 2)
        self.members: dict[str, bytes] = {}
        self.archives: dict[str, bytes] = {}
        for kind, form in cls.forms.items():
            files = {}
            for part, names in (("train", form.train), ("test", form.test)):
                x = np.split(self.arrays[f"{part}_x"].reshape(-1, 3072), len(names))
                y = np.split(self.arrays[f"{part}_y"], len(names))
                for name, pixels, labels in zip(names, x, y, strict=True):
                    made = self.binary if kind == "binary" else self.python
                    files[f"{form.folder}/{name}"] = made(pixels, labels)
            self.members |= files
            self.archives[form.archive] = tar(files)
        self.use()

    def binary(self, pixels: np.ndarray, labels: np.ndarray) -> bytes:
        columns = [labels[:, None]]
        if self.cls is Cifar100:
            columns.insert(0, labels[:, None] // 5)  # coarse
        return np.concatenate([*columns, pixels], axis=1).astype(np.uint8).tobytes()

    def python(self, pixels: np.ndarray, labels: np.ndarray) -> bytes:
        key = self.cls.label_key.decode()
        return python2_pickle({"batch_label": b"small", "data": pixels, key: labels.tolist()})

    def use(self) -> None:
        files = self.members | self.archives
        known = self.cls.published.md5
        small = {name: md5(content) for name, content in files.items() if name in known}
        classes = len(self.cls.published.classes)
        self.monkeypatch.setattr(
            self.cls,
            "published",
            replace(
                self.cls.published,
                train_per_class=(5,) * classes,
                test_per_class=(1,) * classes,
                md5=small,
            ),
        )

    def put(self, root: Path, *kinds: str, flat: bool = False) -> str:
        """Lay down the files whose name or folder is in `kinds`; `flat` leaves the folder out."""
        for name, content in (self.members | self.archives).items():
            if name.split("/", maxsplit=1)[0] in kinds:
                path = root / (Path(name).name if flat else name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return str(root)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()
    )


class Digits:
    """A small MNIST: `plain` is idx content by the published name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.arrays: Arrays = {}
        self.plain: dict[str, bytes] = {}
        for part, name, a_class in (("train", "train", 3), ("test", "t10k", 1)):
            x, y = images(10, a_class, (1, 28, 28), a_class)
            self.arrays |= {f"{part}_x": x, f"{part}_y": y}
            self.plain[f"{name}-images-idx3-ubyte"] = idx(x[:, 0])
            self.plain[f"{name}-labels-idx1-ubyte"] = idx(y.astype(np.uint8))
        self.use()

    def use(self) -> None:
        self.packed = {f"{name}.gz": gzip.compress(c, mtime=0) for name, c in self.plain.items()}
        known = {name: md5(content) for name, content in (self.plain | self.packed).items()}
        published = replace(
            Mnist.published, train_per_class=(3,) * 10, test_per_class=(1,) * 10, md5=known
        )
        self.monkeypatch.setattr(Mnist, "published", published)

    def put(self, root: Path, files: dict[str, bytes]) -> Mnist:
        root.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / name).write_bytes(content)
        return Mnist(root=str(root))
