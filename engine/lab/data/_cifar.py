"""CIFAR's archives: rows of label bytes and 3,072 pixel bytes, or the same in Python pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engine.lab.data._published import Found, PublishedData, verified
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class Form:
    """One archive of the publisher, and its folder when unpacked."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(f"{self.folder}/{name}" for name in self.train + self.test)


class Cifar(PublishedData):
    """`published.md5` is keyed by archive name and by member name, such as `folder/file`.

    An unpacked folder is looked for when all its members have a checksum there.
    """

    forms: ClassVar[Mapping[str, Form]]  # "binary" and "python", in the order of preference
    label_bytes: ClassVar[int]  # at the start of a binary row; the last one is the label
    label_key: ClassVar[bytes]  # in the pickles
    default_form: ClassVar = "binary"

    def _found_in(self, folder: Path) -> Found | None:
        for name, form in self.forms.items():
            choices: list[tuple[Path, ...]] = [(folder / form.archive,)]
            if self._unpacked(form):
                choices.append(tuple(folder / member for member in form.members))
                choices.append(tuple(folder / Path(member).name for member in form.members))
            for files in choices:
                if all(file.is_file() for file in files):
                    return Found(name, files)
        return None

    def _unpacked(self, form: Form) -> bool:
        return all(member in self.published.md5 for member in form.members)

    def _wanted(self) -> str:
        told = []
        for form in self.forms.values():
            told.append(form.archive)
            if self._unpacked(form):
                names = ", ".join(form.train + form.test)
                told.append(f"{form.folder}/ with {names}")
        return " or ".join(told)

    def _decode(self, found: Found) -> dict[str, np.ndarray]:
        import numpy as np

        form = self.forms[found.form]
        arrays = {}
        contents = self._contents(found, form)
        for part, names, counts in (
            ("train", form.train, self.published.train_per_class),
            ("test", form.test, self.published.test_per_class),
        ):
            rows = sum(counts) // len(names)
            decoded = []
            for name in names:
                place, content = contents.pop(name)
                parse = self._binary if found.form == "binary" else self._pickled
                decoded.append(parse(place, content, rows))
            arrays[f"{part}_x"] = np.concatenate([pixels for pixels, _ in decoded])
            arrays[f"{part}_y"] = np.concatenate([labels for _, labels in decoded])
        return arrays

    def _contents(self, found: Found, form: Form) -> dict[str, tuple[str, bytes]]:
        """File name → (where it is, for people; its bytes, verified)."""
        md5 = self.published.md5
        if found.files[0].name != form.archive:
            return {
                Path(member).name: (str(file), verified(file, md5[member]))
                for member, file in zip(form.members, found.files, strict=True)
            }
        [archive] = found.files
        contents = members_of(archive, verified(archive, md5[form.archive]), form.members)
        return {Path(m).name: (f"{archive}: {m}", content) for m, content in contents.items()}

    def _binary(self, place: str, content: bytes, rows: int) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        width = self.label_bytes + PIXELS
        if len(content) != rows * width:
            raise BadInput(f"{place}: has {len(content)} bytes, expected {rows} rows of {width}.")
        table = np.frombuffer(content, dtype=np.uint8).reshape(rows, width)
        labels = self._checked(place, table[:, self.label_bytes - 1])
        return table[:, self.label_bytes :].reshape(rows, 3, 32, 32), labels

    def _pickled(self, place: str, content: bytes, rows: int) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        told = unpickle(place, content)
        try:
            pixels, labels = told[b"data"], np.asarray(told[self.label_key])
        except (TypeError, KeyError):
            raise BadInput(f"{place}: has no {self.label_key.decode()!r} and 'data'.") from None
        if (
            not isinstance(pixels, np.ndarray)
            or (pixels.shape, pixels.dtype) != ((rows, PIXELS), np.uint8)
            or (labels.shape, labels.dtype.kind) != ((rows,), "i")
        ):
            raise BadInput(f"{place}: does not hold {rows} rows of {PIXELS} bytes and a label.")
        return pixels.reshape(rows, 3, 32, 32), self._checked(place, labels)

    def _checked(self, place: str, labels: np.ndarray) -> np.ndarray:
        """int64 labels that name a class."""
        import numpy as np

        classes = len(self.published.classes)
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(f"{place}: has labels outside 0 … {classes - 1}.")
        return labels.astype(np.int64)


def members_of(archive: Path, content: bytes, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Regular files of a .tar.gz in memory, by exact name; nothing is written to disk."""
    import tarfile

    found = {}
    try:
        with tarfile.open(fileobj=BytesIO(content), mode="r|gz") as tar:
            for member in tar:
                if member.name in wanted and member.isreg():
                    file = tar.extractfile(member)
                    assert file is not None
                    found[member.name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadInput(f"{archive}: is no readable .tar.gz: {error}.") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BadInput(f"{archive}: has no {', '.join(missing)}.")
    return found


def unpickle(place: str, content: bytes) -> Any:
    """Arrays, lists, numbers and strings. Call it with verified bytes only.

    The checksum is what makes a pickle safe; that this reader builds nothing but numpy arrays is
    the second lock, for md5 is an old one.
    """
    import pickle

    class Arrays(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            import numpy as np

            if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
                return getattr(np, name)
            if name == "_reconstruct" and module.startswith("numpy.") and "multiarray" in module:
                return np.zeros(1).__reduce__()[0]  # type: ignore[index]
            raise pickle.UnpicklingError(f"it wants {module}.{name}")

    try:
        return Arrays(BytesIO(content), encoding="bytes").load()
    except Exception as error:
        raise BadInput(f"{place}: is not a pickle of plain arrays: {error}.") from None
