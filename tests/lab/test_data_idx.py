"""MNIST's idx files: packed, plain, repacked; parsed strictly."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.data.fashion_mnist import FashionMnist
from engine.lab.data.mnist import Mnist
from engine.spec.errors import BadInput
from tests.lab.publications import Digits, md5, same


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Digits:
    return Digits(monkeypatch)


def test_idx_files_packed_plain_repacked_or_renamed(digits: Digits, tmp_path: Path) -> None:
    repacked = {f"{name}.gz": gzip.compress(c, 1) for name, c in digits.plain.items()}
    renamed = {name.replace("-idx", ".idx"): content for name, content in digits.plain.items()}
    assert not set(map(md5, repacked.values())) & set(Mnist.published.md5.values())
    for number, files in enumerate((digits.packed, digits.plain, repacked, renamed)):
        data = digits.put(tmp_path / str(number), files)
        assert same(data.read(), digits.arrays)
        assert data.inspect() == Mnist().inspect()
        assert data.read()["train_x"].flags.writeable


def test_torchvisions_layout(digits: Digits, tmp_path: Path) -> None:
    digits.put(tmp_path / "MNIST" / "raw", digits.packed | digits.plain)
    assert same(Mnist(root=str(tmp_path)).read(), digits.arrays)


LABELS = "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize("packed", [False, True])
def test_changed_idx_content_is_refused(digits: Digits, tmp_path: Path, packed: bool) -> None:
    content = digits.plain[LABELS][:-1] + b"\x00"
    assert content != digits.plain[LABELS]
    name = LABELS + ".gz" if packed else LABELS
    files = digits.packed if packed else digits.plain
    data = digits.put(
        tmp_path / "mine", files | {name: gzip.compress(content) if packed else content}
    )
    with pytest.raises(BadInput) as caught:
        data.read()
    for told in (name, md5(content), md5(digits.plain[LABELS])):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c[:2] + b"\x09" + c[3:], "starts with 00000901, expected 00000801"),
        (lambda c: c[:3] + b"\x02" + c[4:], "expected 00000801"),
        (lambda c: c[:6], "ends within its header"),
        (lambda c: c[:7] + b"\x0b" + c[8:], r"says it holds \(11,\), expected \(10,\)"),
        (lambda c: c[:-1], "has 17 bytes, expected 18"),
        (lambda c: c + b"\0", "has 19 bytes, expected 18"),
        (lambda c: c[:-1] + b"\x0a", "labels outside 0 … 9"),
        (lambda c: b"", "starts with"),
    ],
)
def test_idx_is_parsed_strictly(digits: Digits, tmp_path: Path, change: Any, told: str) -> None:
    digits.plain[LABELS] = change(digits.plain[LABELS])
    digits.use()
    with pytest.raises(BadInput, match=f"{LABELS}: .*{told}"):
        digits.put(tmp_path / "mine", digits.plain).read()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda packed: packed[:-3], "unpacks to"),
        (lambda packed: b"no gzip", "is damaged"),
        (lambda packed: b"", "unpacks to"),
        (lambda packed: gzip.compress(bytes(1 << 20)), "unpacks to more, expected 18 bytes"),
        (lambda packed: packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:], "is damaged"),
    ],
)
def test_a_damaged_gz(digits: Digits, tmp_path: Path, change: Any, told: str) -> None:
    name = f"{LABELS}.gz"
    files = digits.packed | {name: change(digits.packed[name])}
    with pytest.raises(BadInput, match=rf"{LABELS}\.gz: .*{told}"):
        digits.put(tmp_path / "mine", files).read()


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_debians_fashion_mnist() -> None:
    data = FashionMnist(root=str(DEBIAN), limit_train=200, limit_test=100)
    arrays = data.read()
    assert arrays["train_x"].shape == (200, 1, 28, 28)
    assert np.bincount(arrays["test_y"]).tolist() == [10] * 10
    assert data.inspect() == FashionMnist(limit_train=200, limit_test=100).inspect()
