"""What published data sets share: plans without files, downloads, roots, limits, keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lab.context import Failed
from engine.lab.data._published import PublishedData, kept_per_class
from engine.lab.data.cifar10 import Cifar10
from engine.lab.data.cifar100 import Cifar100
from engine.lab.data.fashion_mnist import FashionMnist
from engine.lab.data.mnist import Mnist
from engine.lab.selection import stratified
from engine.spec.errors import BadInput
from engine.spec.presets import validate
from engine.spec.registry import registered
from tests.lab.publications import Digits, Publication, md5, same, serve

ALL = (Cifar10, Cifar100, Mnist, FashionMnist)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty and the test's own; and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: folder)

    def unreachable(url: str, **_: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(FashionMnist, "published", replace(FashionMnist.published, system=()))
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Publication:
    return Publication(Cifar10, monkeypatch)


def test_limits_are_balanced_and_in_the_key(small: Publication, tmp_path: Path) -> None:
    root = small.put(tmp_path / "mine", "cifar-10-binary.tar.gz")
    data = Cifar10(root=root, limit_train=23, limit_test=10)
    info, arrays = data.inspect(), data.read()
    counts = np.bincount(arrays["train_y"], minlength=10).tolist()
    assert counts == list(info.train_per_class) and sum(counts) == info.train == 23
    assert max(counts) - min(counts) == 1
    assert info.digest != Cifar10(root=root).inspect().digest
    assert data.identity() != Cifar10(root=root).identity()


def test_the_place_of_a_copy_is_not_in_the_key(small: Publication, tmp_path: Path) -> None:
    here = Cifar10(root=small.put(tmp_path / "here", "cifar-10-binary.tar.gz"))
    there = Cifar10(root=small.put(tmp_path / "there", "cifar-10-batches-bin"))
    assert here.identity() == there.identity() == Cifar10().identity()
    assert here.inspect() == there.inspect() == Cifar10().inspect()
    pickled = Cifar10(root=small.put(tmp_path / "third", "cifar-10-batches-py"))
    assert pickled.inspect().digest != here.inspect().digest, "its rows may be in another order"


@pytest.mark.parametrize("cls", ALL)
def test_planning_needs_no_files(cls: type[PublishedData]) -> None:
    info = cls().inspect()
    full = {Cifar10: 50000, Cifar100: 50000, Mnist: 60000, FashionMnist: 60000}
    assert (info.train, info.test) == (full[cls], 10000)
    assert sum(info.train_per_class) == info.train
    assert len(set(info.classes)) == len(info.classes) == len(info.train_per_class)
    assert set(cls.published.downloads) <= set(cls.published.md5)
    assert all(len(told) == 32 for told in cls.published.md5.values())
    assert cls.published.url.startswith("https://")
    limited = cls(limit_train=1000, limit_test=150).inspect()
    assert (limited.train, limited.test) == (1000, 150)


def test_digests_differ_between_data_sets() -> None:
    assert len({cls().inspect().digest for cls in ALL}) == len(ALL)


@pytest.mark.parametrize("cls", ALL)
def test_without_a_network_one_error_says_what_to_do(cls: type[PublishedData], cache: Path) -> None:
    with pytest.raises(Failed) as caught:
        cls().read()
    told = str(caught.value)
    assert "no route to host" in told and "data.root" in told and str(cache) in told
    assert all(cls.published.url + name in told for name in cls.published.downloads)
    assert not list(cache.rglob("*.part"))


def test_a_download_is_kept(
    small: Publication, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cifar-10-binary.tar.gz"
    asked = serve(monkeypatch, {Cifar10.published.url + name: small.archives[name]})
    before = Cifar10().inspect()
    for _ in range(2):
        assert same(Cifar10().read(), small.arrays)
    assert asked == [Cifar10.published.url + name]
    assert [path.name for path in (cache / "datasets" / "cifar10").iterdir()] == [name]
    assert Cifar10().inspect() == before, "a plan made before the download stays right"


def test_idx_files_are_downloaded_one_by_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = Digits(monkeypatch)
    files = {Mnist.published.url + name: content for name, content in digits.packed.items()}
    digits.put(cache / "datasets" / "mnist", dict(list(digits.packed.items())[:1]))
    asked = serve(monkeypatch, files)
    assert same(Mnist().read(), digits.arrays)
    assert asked == list(files)[1:]


def test_a_download_with_a_wrong_checksum_is_thrown_away(
    small: Publication, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = b"<html>please log in to the hotel's network</html>"
    serve(monkeypatch, {Cifar10.published.url + "cifar-10-binary.tar.gz": page})
    with pytest.raises(Failed, match=f"gave a file with md5 {md5(page)}, expected"):
        Cifar10().read()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_root_is_never_filled_from_the_network(
    small: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, {})
    (tmp_path / "empty").mkdir()
    for call in (Cifar10.inspect, Cifar10.read):
        with pytest.raises(
            BadInput, match=r"data\.root = .*looked for cifar-10-binary\.tar\.gz or"
        ):
            call(Cifar10(root=str(tmp_path / "empty")))
    assert asked == []


@pytest.mark.parametrize("cls", ALL)
def test_a_root_that_does_not_exist(cls: type[PublishedData]) -> None:
    with pytest.raises(BadInput, match=r"data\.root = '/no/such': no such folder"):
        cls(root="/no/such").inspect()


def test_an_incomplete_folder_is_not_taken(small: Publication, tmp_path: Path) -> None:
    root = Path(small.put(tmp_path / "mine", "cifar-10-batches-bin"))
    (root / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(BadInput, match=r"data_batch_3\.bin"):
        Cifar10(root=str(root)).inspect()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("limit_train", 9, "from 10 .* to 50000"),
        ("limit_test", 10001, "from 10 .* to 10000"),
        ("limit_train", "5", "limit_train"),
        ("root", "", "root"),
        ("rot", "/data", "root"),
    ],
)
def test_wrong_keys_are_named(key: str, value: Any, told: str) -> None:
    raw = {
        "data": {"name": "cifar10", key: value},
        "model": {"name": "linear"},
        "train": {"epochs": 1, "batch_size": 10, "lr": 0.1},
        "attacks": [{"name": "gaussian", "share": 0.1, "noise_std": 0.1}],
        "methods": [{"name": "none"}, {"name": "retrain"}],
        "audits": [{"name": "accuracy"}],
    }
    with pytest.raises(BadInput, match=told) as caught:
        validate(raw, "my.toml")
    assert "my.toml" in str(caught.value) and f"data.{key}" in str(caught.value)


def test_all_are_registered() -> None:
    assert {"cifar10", "cifar100", "mnist", "fashion-mnist", "image-folder"} <= set(
        registered("data")
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 60))
def test_counts_after_a_limit_are_those_of_the_selection(counts: list[int], limit: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    kept = np.bincount(labels[stratified(labels, limit)], minlength=len(counts))
    assert kept.tolist() == list(kept_per_class(counts, limit))
