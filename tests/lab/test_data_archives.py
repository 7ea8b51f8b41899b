"""CIFAR's archives: every form gives the same rows, and nothing unverified is ever unpickled."""

from __future__ import annotations

import pickle
import pickletools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.data import _cifar
from engine.lab.data.cifar10 import Cifar10
from engine.lab.data.cifar100 import Cifar100
from engine.spec.errors import BadInput
from tests.lab.publications import Publication, md5, python2_pickle, same, tar


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Publication:
    return Publication(Cifar10, monkeypatch)


@pytest.fixture
def small100(monkeypatch: pytest.MonkeyPatch) -> Publication:
    return Publication(Cifar100, monkeypatch)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
    ],
)
def test_cifar10_in_every_form(small: Publication, tmp_path: Path, kind: str, flat: bool) -> None:
    data = Cifar10(root=small.put(tmp_path / "mine", kind, flat=flat))
    info, arrays = data.inspect(), data.read()
    assert same(arrays, small.arrays)
    assert (info.train, info.test, info.shape) == (50, 10, (3, 32, 32))
    assert info.train_per_class == (5,) * 10
    assert arrays["train_y"].dtype == np.int64 and arrays["train_x"].flags.writeable


@pytest.mark.parametrize(
    "kind", ["cifar-100-binary.tar.gz", "cifar-100-python.tar.gz", "cifar-100-python"]
)
def test_cifar100_gives_fine_labels(small100: Publication, tmp_path: Path, kind: str) -> None:
    data = Cifar100(root=small100.put(tmp_path / "mine", kind))
    assert same(data.read(), small100.arrays)
    assert len(set(data.inspect().classes)) == 100


def test_the_binary_form_is_preferred(
    small: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small.put(tmp_path / "mine", *small.archives, "cifar-10-batches-py")
    monkeypatch.setattr(_cifar, "unpickle", None)
    assert same(Cifar10(root=root).read(), small.arrays)


# --- what must never be read ---------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_4", "test_batch"])
def test_a_malicious_pickle_with_a_wrong_checksum_is_never_loaded(
    small: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, archived: bool
) -> None:
    touched = tmp_path / "touched"
    member = f"cifar-10-batches-py/{name}"
    published = md5(small.members[member])
    small.members[member] = pickle.dumps(Bomb(touched))
    small.archives["cifar-10-python.tar.gz"] = tar(
        {m: small.members[m] for m in small.cls.forms["python"].members}
    )
    opened: list[str] = []
    unpickle = _cifar.unpickle

    def spied(place: str, content: bytes) -> Any:
        opened.append(place)
        return unpickle(place, content)

    monkeypatch.setattr(_cifar, "unpickle", spied)
    kind = "cifar-10-python.tar.gz" if archived else "cifar-10-batches-py"
    data = Cifar10(root=small.put(tmp_path / "mine", kind))
    with pytest.raises(BadInput) as caught:
        data.read()
    expected = Cifar10.published.md5[kind] if archived else published
    assert expected in str(caught.value) and (kind if archived else name) in str(caught.value)
    assert opened == [], "not even a good file beside it, before all are verified"
    assert not touched.exists()
    pickle.loads(small.members[member])
    assert touched.exists(), "the bomb would have worked"


def test_the_second_lock_holds_when_a_checksum_is_forged(
    small: Publication, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    small.members["cifar-10-batches-py/data_batch_1"] = pickle.dumps(Bomb(touched))
    small.use()
    data = Cifar10(root=small.put(tmp_path / "mine", "cifar-10-batches-py"))
    with pytest.raises(BadInput, match=r"data_batch_1: is not a pickle of plain arrays: it wants"):
        data.read()
    assert not touched.exists()


@pytest.mark.parametrize("what", [("os", "system"), ("numpy", "load"), ("builtins", "eval")])
def test_pickles_may_name_nothing_but_arrays(what: tuple[str, str]) -> None:
    module, name = what
    with pytest.raises(BadInput, match=f"it wants {module}.{name}"):
        _cifar.unpickle("file", f"c{module}\n{name}\n.".encode())


def test_the_small_pickles_are_like_the_published_ones(small: Publication) -> None:
    ops = list(pickletools.genops(small.members["cifar-10-batches-py/data_batch_1"]))
    assert {arg for op, arg, _ in ops if op.name == "GLOBAL"} == {
        "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"
    }  # fmt: skip
    assert {op.name for op, *_ in ops} >= {"BINSTRING", "BININT1"}


@pytest.mark.parametrize(
    "kind", ["cifar-10-binary.tar.gz", "cifar-10-batches-bin/data_batch_3.bin"]
)
def test_a_binary_file_with_a_wrong_checksum_is_refused(
    small: Publication, tmp_path: Path, kind: str
) -> None:
    data = Cifar10(root=small.put(tmp_path / "mine", kind.split("/", maxsplit=1)[0]))
    path = tmp_path / "mine" / kind
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        data.read()
    for told in (str(path), md5(bytes(content)), Cifar10.published.md5[kind]):
        assert told in str(caught.value)


def test_nothing_of_an_archive_is_written(small: Publication, tmp_path: Path) -> None:
    members = {m: small.members[m] for m in small.cls.forms["binary"].members}
    evil = {"../escaped": b"!", str(tmp_path / "absolute"): b"!"}
    small.archives["cifar-10-binary.tar.gz"] = tar(evil | members)
    small.use()
    data = Cifar10(root=small.put(tmp_path / "mine", "cifar-10-binary.tar.gz"))
    before = sorted(tmp_path.rglob("*"))
    assert same(data.read(), small.arrays)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive_is_no_member(small: Publication, tmp_path: Path) -> None:
    members = {m: small.members[m] for m in small.cls.forms["binary"].members}
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    del members[link.name]
    small.archives["cifar-10-binary.tar.gz"] = tar(members, link)
    small.use()
    data = Cifar10(root=small.put(tmp_path / "mine", "cifar-10-binary.tar.gz"))
    with pytest.raises(BadInput, match=r"has no cifar-10-batches-bin/test_batch\.bin"):
        data.read()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda content: content[:-1],
            r"data_batch_2\.bin: has 30729 bytes, expected 10 rows of 3073",
        ),
        (lambda content: content + content[:3073], "has 33803 bytes"),
        (lambda content: b"\x0a" + content[1:], r"data_batch_2\.bin: has labels outside 0 … 9"),
        (lambda content: bytes([(content[0] + 1) % 10]) + content[1:], "train has .* rows a class"),
        (lambda content: b"", "has 0 bytes"),
    ],
)
def test_verified_rows_are_checked_all_the_same(
    small: Publication, tmp_path: Path, change: Any, told: str
) -> None:
    member = "cifar-10-batches-bin/data_batch_2.bin"
    small.members[member] = change(small.members[member])
    small.use()
    with pytest.raises(BadInput, match=told):
        Cifar10(root=small.put(tmp_path / "mine", "cifar-10-batches-bin")).read()


@pytest.mark.parametrize(
    "value",
    [[], 3, {"labels": [0] * 10}, {"data": 7, "labels": [0] * 10}, {"data": None}],
)
def test_a_verified_pickle_of_something_else(
    small: Publication, tmp_path: Path, value: Any
) -> None:
    small.members["cifar-10-batches-py/test_batch"] = (
        python2_pickle(value) if isinstance(value, dict) else pickle.dumps(value, protocol=2)
    )
    small.use()
    with pytest.raises(BadInput, match="test_batch: "):
        Cifar10(root=small.put(tmp_path / "mine", "cifar-10-batches-py")).read()
