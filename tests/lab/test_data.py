"""Data sets: the counts they promise, the same bytes everywhere, and plain words for bad folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.lab.data.image_folder import ImageFolder
from engine.lab.data.mnist5k import Mnist5k
from engine.spec.errors import BadInput

# --- mnist5k -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    return Mnist5k().read()


def test_mnist5k_is_what_it_says(digits: dict[str, np.ndarray]) -> None:
    info = Mnist5k().inspect()
    for part, count in (("train", 4000), ("test", 1000)):
        assert digits[f"{part}_x"].shape == (count, 1, 28, 28)
        assert digits[f"{part}_x"].dtype == np.uint8
        assert digits[f"{part}_y"].dtype == np.int64
        assert np.bincount(digits[f"{part}_y"]).tolist() == [count // 10] * 10
        assert getattr(info, part) == count
    assert info.shape == (1, 28, 28) and len(info.classes) == 10
    assert digits["train_x"].max() > 200 and digits["train_x"].min() == 0


@pytest.mark.parametrize("size", [10, 32])
def test_digits_of_another_size_are_the_same_digits(
    digits: dict[str, np.ndarray], size: int
) -> None:
    data = Mnist5k(size=size, limit_train=50, limit_test=20)
    small, whole = data.read(), Mnist5k(limit_train=50, limit_test=20).read()
    assert small["train_x"].shape == (50, *data.inspect().shape) == (50, 1, size, size)
    assert np.array_equal(small["train_y"], whole["train_y"])
    ink = [rows["train_x"].astype(float).mean((1, 2, 3)) for rows in (small, whole)]
    assert np.corrcoef(ink)[0, 1] > 0.99
    assert "size" not in Mnist5k().identity() and Mnist5k(size=size).identity()["size"] == size


def test_no_test_digit_is_a_training_digit(digits: dict[str, np.ndarray]) -> None:
    train = {row.tobytes() for row in digits["train_x"]}
    assert not any(row.tobytes() in train for row in digits["test_x"])


@pytest.mark.parametrize(("train", "test"), [(10, 10), (203, 17), (3999, 1000)])
def test_a_limited_set_is_balanced_and_part_of_the_whole(
    digits: dict[str, np.ndarray], train: int, test: int
) -> None:
    limited = Mnist5k(limit_train=train, limit_test=test)
    arrays, info = limited.read(), limited.inspect()
    assert (
        (len(arrays["train_y"]), len(arrays["test_y"])) == (info.train, info.test) == (train, test)
    )
    assert np.bincount(arrays["train_y"], minlength=10).tolist() == list(info.train_per_class)
    whole = {row.tobytes() for row in digits["train_x"]}
    assert all(row.tobytes() in whole for row in arrays["train_x"])
    assert info.digest == Mnist5k().inspect().digest, "the limit is in the key, the content here"


# --- image folders -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The digest cache, in a folder of the test's own."""
    folder = tmp_path / "memory"
    monkeypatch.setattr("engine.lab.data.image_folder._memory_folder", lambda: folder)
    return folder


def pixels(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(path: Path, seed: int, **size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, **size)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cat, dog, eel: 4 training and 2 test images each, 6 high and 8 wide."""
    root = tmp_path / "pictures"
    for label, name in enumerate(("cat", "dog", "eel")):
        for part, count in (("train", 4), ("test", 2)):
            for number in range(count):
                seed = 100 * label + 10 * (part == "test") + number
                image(root / part / name / f"{number}.png", seed)
    return root


def test_images_come_out_as_they_were_written(folder: Path) -> None:
    data = ImageFolder(path=str(folder))
    info, arrays = data.inspect(), data.read()
    assert info.classes == ("cat", "dog", "eel")
    assert (info.train, info.test, info.shape) == (12, 6, (3, 6, 8))
    assert info.train_per_class == (4, 4, 4)
    assert arrays["train_x"].shape == (12, 3, 6, 8) and arrays["train_x"].dtype == np.uint8
    assert arrays["train_y"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert arrays["train_y"].dtype == np.int64
    for row, seed in enumerate([0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203]):
        assert np.array_equal(arrays["train_x"][row], pixels(seed).transpose(2, 0, 1))
    assert np.array_equal(arrays["test_x"][5], pixels(211).transpose(2, 0, 1))
    assert arrays["train_x"].flags.c_contiguous


def test_grey_and_resized(folder: Path) -> None:
    image(folder / "train" / "cat" / "4.png", 7, height=20, width=5)
    data = ImageFolder(path=str(folder), grey=True, size=12)
    assert data.inspect().shape == (1, 12, 12)
    arrays = data.read()
    assert arrays["train_x"].shape == (13, 1, 12, 12)
    expected = Image.fromarray(pixels(0)).convert("L").resize((12, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(arrays["train_x"][0, 0], np.asarray(expected))


def test_other_modes_are_converted(folder: Path) -> None:
    grey = Image.fromarray(pixels(1)).convert("L")
    grey.save(folder / "train" / "cat" / "0.png")
    Image.fromarray(pixels(2)).convert("P").save(folder / "train" / "cat" / "1.png")
    Image.fromarray(pixels(3)).convert("RGBA").save(folder / "train" / "cat" / "2.png")
    arrays = ImageFolder(path=str(folder)).read()
    assert np.array_equal(arrays["train_x"][0], np.stack([np.asarray(grey)] * 3))
    assert np.array_equal(arrays["train_x"][2], pixels(3).transpose(2, 0, 1))


def test_a_limit_keeps_classes_balanced(folder: Path) -> None:
    data = ImageFolder(path=str(folder), limit_train=7, limit_test=3)
    info, arrays = data.inspect(), data.read()
    assert (info.train, info.test) == (len(arrays["train_y"]), len(arrays["test_y"])) == (7, 3)
    assert np.bincount(arrays["train_y"]).tolist() == list(info.train_per_class)
    assert max(info.train_per_class) - min(info.train_per_class) <= 1
    assert info.digest != ImageFolder(path=str(folder)).inspect().digest


def test_the_digest_is_the_contents_and_not_the_places(folder: Path, tmp_path: Path) -> None:
    original = ImageFolder(path=str(folder)).inspect()
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy", copy_function=shutil.copyfile)
    assert ImageFolder(path=str(copy)).inspect() == original
    assert ImageFolder(path=str(copy)).identity() == ImageFolder(path=str(folder)).identity()

    changed = pixels(102)
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(copy / "train" / "dog" / "2.png")
    assert ImageFolder(path=str(copy)).inspect().digest != original.digest


def test_a_moved_image_changes_the_digest(folder: Path) -> None:
    before = ImageFolder(path=str(folder)).inspect().digest
    (folder / "train" / "cat" / "3.png").rename(folder / "train" / "dog" / "9.png")
    assert ImageFolder(path=str(folder)).inspect().digest != before


def test_the_digest_is_remembered_and_forgotten(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.lab.data import image_folder

    data = ImageFolder(path=str(folder))
    first = data.inspect()
    (remembered,) = memory.iterdir()
    plain, reads = image_folder.read_file, []

    def spied(path: str) -> bytes:
        reads.append(path)
        return plain(path)

    monkeypatch.setattr(image_folder, "read_file", spied)
    assert data.inspect() == first
    assert reads == [], "an unchanged folder is not read again"
    image(folder / "train" / "cat" / "0.png", 77)
    assert data.inspect().digest != first.digest
    assert len(reads) == 18

    image(folder / "train" / "cat" / "0.png", 0)
    for path in memory.iterdir():
        path.write_text('{"digest": "ab')  # torn by a crash
    assert data.inspect().digest == first.digest
    assert remembered.is_file()


def test_a_memory_that_cannot_be_written_is_no_error(folder: Path, memory: Path) -> None:
    memory.write_text("a file where the folder should be")
    assert ImageFolder(path=str(folder)).inspect().train == 12


def test_hidden_things_are_not_data(folder: Path) -> None:
    before = ImageFolder(path=str(folder)).inspect()
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"\0\1")
    (folder / ".git").mkdir()
    assert ImageFolder(path=str(folder)).inspect() == before
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "test" / ".ipynb_checkpoints").mkdir()
    assert ImageFolder(path=str(folder)).inspect() == before


def refused(root: Path, match: str, **keys: object) -> None:
    """Both the look and the reading are refused, by a message that names the place."""
    data = ImageFolder.model_validate({"path": str(root)} | keys)
    with pytest.raises(BadInput, match=match):
        data.inspect()
    with pytest.raises(BadInput):
        data.read()


def test_a_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    refused(folder, f"no folder '{part}'")


def test_one_class_and_none(folder: Path) -> None:
    shutil.rmtree(folder / "train" / "dog")
    shutil.rmtree(folder / "train" / "eel")
    refused(folder, "at least two classes; found only 'cat'")
    shutil.rmtree(folder / "train" / "cat")
    refused(folder, "at least two classes; found none")


def test_a_test_class_that_training_lacks(folder: Path) -> None:
    image(folder / "test" / "yak" / "0.png", 5)
    refused(folder, "yak")


def test_an_empty_class(folder: Path) -> None:
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()
    refused(folder, "dog is empty")


def test_a_class_of_hidden_files_is_empty_too(folder: Path) -> None:
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()
    (folder / "train" / "dog" / ".DS_Store").write_bytes(b"\0")
    refused(folder, "dog is empty")


def test_no_test_images(folder: Path) -> None:
    for path in (folder / "test").glob("*/*"):
        path.unlink()
    refused(folder, "holds no images")


def test_a_file_that_is_no_image(folder: Path) -> None:
    (folder / "train" / "dog" / "notes.txt").write_text("buy milk")
    refused(folder, r"notes\.txt is not an image")


def test_a_folder_among_the_images(folder: Path) -> None:
    image(folder / "train" / "dog" / "more" / "0.png", 5)
    refused(folder, "more")


def test_a_link_to_nowhere(folder: Path) -> None:
    (folder / "train" / "dog" / "gone.png").symlink_to(folder / "gone.png")
    refused(folder, r"gone\.png")


def test_images_of_different_sizes_ask_for_a_size(folder: Path) -> None:
    image(folder / "train" / "dog" / "2.png", 1, height=9, width=5)
    with pytest.raises(BadInput, match=r"2\.png is 5×9, the first image 8×6; set data\.size"):
        ImageFolder(path=str(folder)).read()
    assert ImageFolder(path=str(folder), size=6).read()["train_x"].shape == (12, 3, 6, 6)


def test_training_and_test_images_of_different_sizes_ask_for_a_size(folder: Path) -> None:
    for number, path in enumerate(sorted((folder / "test").glob("*/*.png"))):
        image(path, number, height=9, width=5)
    with pytest.raises(BadInput, match=r"set data\.size"):
        ImageFolder(path=str(folder)).read()


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "train" / "eel" / "1.png"
    image(path, 1, height=64, width=64)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"1\.png cannot be decoded"):
        ImageFolder(path=str(folder), size=8).read()
