"""Your own images: train/<class>/… and test/<class>/…, decoded once."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Data, DataInfo
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

PARTS = ("train", "test")


class ImageFolder(Data):
    """A folder with `train` and `test`, each holding one folder of images a class."""

    name: Literal["image-folder"] = "image-folder"
    path: str = Field(description="The folder that holds train/ and test/; ~ is understood.")
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")
    limit_test: int | None = Field(default=None, ge=2)
    size: int | None = Field(
        default=None, ge=4, le=1024, description="Resize to size×size; default: all must agree."
    )
    grey: bool = Field(default=False, description="One channel instead of three.")

    packages: ClassVar = ("pillow",)
    card: ClassVar = Card(
        title="Image folder",
        summary="Any images in train/<class>/ and test/<class>/, read once into a cache.",
        reference="the layout of torchvision's ImageFolder",
        needs="the folder",
    )

    def inspect(self) -> DataInfo:
        root = self._root()
        classes = self._classes(root)
        chosen = self._chosen(root, classes)
        digest, size = _look_at(root, [path for part in PARTS for path, _ in chosen[part]])
        height, width = (self.size, self.size) if self.size else size
        counts = [0] * len(classes)
        for _, label in chosen["train"]:
            counts[label] += 1
        return DataInfo(
            digest=digest,
            train=len(chosen["train"]),
            test=len(chosen["test"]),
            shape=(1 if self.grey else 3, height, width),
            classes=tuple(classes),
            train_per_class=tuple(counts),
        )

    def read(self) -> dict[str, np.ndarray]:
        import numpy as np
        from PIL import Image

        root = self._root()
        classes = self._classes(root)
        arrays = {}
        for part, files in self._chosen(root, classes).items():
            pixels = []
            for path, _ in files:
                try:
                    with Image.open(path) as file:
                        image = file.convert("L" if self.grey else "RGB")
                    if self.size and image.size != (self.size, self.size):
                        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
                    pixels.append(np.asarray(image))
                except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                    raise BadInput(
                        f"data image-folder: {path} cannot be decoded: {error}."
                    ) from None
                if pixels[-1].shape != pixels[0].shape:
                    raise BadInput(_odd_size(path, pixels[-1].shape[1::-1], pixels[0].shape[1::-1]))
            stacked = np.stack(pixels)
            stacked = stacked[:, None] if self.grey else stacked.transpose(0, 3, 1, 2)
            arrays[f"{part}_x"] = np.ascontiguousarray(stacked)
            arrays[f"{part}_y"] = np.array([label for _, label in files], dtype=np.int64)
        return arrays

    def _root(self) -> Path:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise BadInput(f"data.path = {self.path!r}: no such folder.")
        for part in PARTS:
            if not (root / part).is_dir():
                raise BadInput(
                    f"data.path = {self.path!r}: it has no folder {part!r}; expected "
                    "train/<class>/… and test/<class>/…"
                )
        return root.resolve()

    def _classes(self, root: Path) -> list[str]:
        found = {
            part: sorted(entry.name for entry in (root / part).iterdir() if entry.is_dir())
            for part in PARTS
        }
        classes = found["train"]
        if len(classes) < 2:
            told = f"only {classes[0]!r}" if classes else "none"
            raise BadInput(
                f"data.path: {root / 'train'} must hold at least two classes; found {told}."
            )
        strange = sorted(set(found["test"]) - set(classes))
        if strange:
            raise BadInput(f"data.path: {root / 'test'} has classes train has not: {strange[:5]}.")
        return classes

    def _chosen(self, root: Path, classes: list[str]) -> dict[str, list[tuple[Path, int]]]:
        """(file, label) of the rows in use, for each part, in a fixed order."""
        import numpy as np

        from engine.lab.selection import stratified

        chosen = {}
        for part, limit in zip(PARTS, (self.limit_train, self.limit_test), strict=True):
            files = []
            for label, name in enumerate(classes):
                folder = root / part / name
                members = sorted(folder.iterdir()) if folder.is_dir() else []
                files += [(f, label) for f in members if not f.name.startswith(".")]
                if part == "train" and not members:
                    raise BadInput(f"data.path: {folder} is empty; every class needs images.")
            if not files:
                raise BadInput(f"data.path: {root / part} holds no images.")
            labels = np.array([label for _, label in files])
            chosen[part] = [files[row] for row in stratified(labels, limit)]
        return chosen


def _odd_size(path: Path, found: tuple[int, ...], first: tuple[int, ...]) -> str:
    return (
        f"data image-folder: {path} is {found[0]}×{found[1]}, the first image {first[0]}×{first[1]}; "
        "set data.size to resize them all."
    )


def _look_at(root: Path, files: list[Path]) -> tuple[str, tuple[int, int]]:
    """Content digest of `files` and the first one's (height, width). Raises BadInput for non-images.

    Reading tens of thousands of files takes seconds, so the digest is remembered under the
    signature of the folder: names, sizes and modification times.
    """
    stats = [(str(f.relative_to(root)), f.stat()) for f in files]
    signature = hashlib.sha256(
        json.dumps([str(root), [(n, s.st_size, s.st_mtime_ns) for n, s in stats]]).encode()
    ).hexdigest()
    memory = _memory_folder() / f"{signature}.json"
    try:
        told = json.loads(memory.read_text())
        return str(told["digest"]), (int(told["height"]), int(told["width"]))
    except (OSError, ValueError, KeyError):
        pass
    from PIL import Image, UnidentifiedImageError

    digest = hashlib.sha256()
    size: tuple[int, int] | None = None
    for path, (name, _) in zip(files, stats, strict=True):
        content = path.read_bytes()
        try:
            with Image.open(BytesIO(content)) as image:
                size = size or (image.height, image.width)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
            raise BadInput(f"data image-folder: {path} is not an image that can be read.") from None
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    assert size is not None
    told = {"digest": digest.hexdigest(), "height": size[0], "width": size[1]}
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(told))
    except OSError:
        pass  # only a memory: without it the next start reads the files again
    return digest.hexdigest(), size


def _memory_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("chelate") / "image-folders"
