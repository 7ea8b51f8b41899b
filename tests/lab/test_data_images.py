"""One image to pixels: what becomes of unusual files, and what is refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.lab.data._images import in_threads, pixels, upright_size
from engine.lab.data.image_folder import ImageFolder
from engine.spec.errors import BadInput


def read(path: Path, grey: bool = False, size: int | None = None) -> np.ndarray:
    return pixels(str(path), path.read_bytes(), grey, size)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def colours(height: int = 4, width: int = 6, seed: int = 0) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def chw(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "webp"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(colours()), **options)
    assert np.array_equal(read(path), colours().transpose(2, 0, 1))
    assert upright_size(str(path), path.read_bytes()) == (4, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(np.array([[0, 80, 160], [240, 200, 120]]), np.ones((8, 8))).astype(np.uint8)
    image = Image.fromarray(blocks)
    path = saved(tmp_path / f"a.{suffix}", image, exif=exif)
    turns = [
        None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
    ]  # fmt: skip
    turn = turns[orientation - 1]
    upright = image if turn is None else image.transpose(turn)
    found = read(path, grey=True)
    assert found.shape[1:] == (upright.height, upright.width)
    assert found.shape[1:] == upright_size(str(path), path.read_bytes())
    assert np.abs(found[0].astype(int) - np.asarray(upright)).max() < 12


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    hidden = np.zeros((2, 2, 4), dtype=np.uint8)
    hidden[0, 0] = (10, 20, 30, 255)
    hidden[1, 1] = (0, 0, 0, 128)
    found = read(saved(tmp_path / "a.png", Image.fromarray(hidden)))
    assert found[:, 0, 0].tolist() == [10, 20, 30]
    assert found[:, 0, 1].tolist() == [255, 255, 255]
    assert found[:, 1, 1].tolist() == [127, 127, 127]
    grey = Image.fromarray(hidden).convert("LA")
    assert read(saved(tmp_path / "b.png", grey), grey=True)[0, 0, 1] == 255
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([0, 0, 0, 9, 8, 7])
    found = read(saved(tmp_path / "c.png", palette, transparency=0))
    assert found[:, 0].T.tolist() == [[255, 255, 255], [9, 8, 7]]


def test_palettes_bits_and_cmyk(tmp_path: Path) -> None:
    image = Image.fromarray(colours())
    for number, mode in enumerate(("P", "1", "L", "CMYK")):
        suffix = "tiff" if mode == "CMYK" else "png"
        path = saved(tmp_path / f"{number}.{suffix}", image.convert(mode))
        assert np.array_equal(read(path), chw(image.convert(mode))), mode


def png16(values: np.ndarray) -> bytes:
    """A 16-bit grey PNG, without Pillow."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 256, 1000, 32768, 65535]])
    path = tmp_path / "a.png"
    path.write_bytes(png16(values))
    expected = np.round(values / 257).astype(np.uint8)
    assert np.array_equal(read(path, grey=True)[0], expected)
    assert np.array_equal(read(path), np.stack([expected] * 3))


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.ones((2, 2), dtype=np.float32)))
    with pytest.raises(BadInput, match=r"a\.tiff holds floating point"):
        read(path)


def test_resizing_is_exact(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(colours(20, 31)))
    expected = Image.fromarray(colours(20, 31)).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(read(path, size=8), chw(expected))


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tiff"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(colours(64, 64)))
    content = path.read_bytes()
    for length in (0, 5, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(BadInput, match=rf"a\.{suffix} (cannot be decoded|is not an image)"):
            read(path)


def test_postscript_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(BadInput, match=r"a\.jpg is not an image \(JPEG, PNG"):
        read(path)


def test_chunks_come_in_order_and_errors_in_their_turn() -> None:
    assert list(in_threads(lambda a, b: (a, b), 10, chunk=4)) == [(0, 4), (4, 8), (8, 10)]
    done = []

    def work(start: int, stop: int) -> int:
        done.append(start)
        if start >= 5:
            raise BadInput(f"row {start}")
        return start

    found = []
    with pytest.raises(BadInput, match=r"row 5$"):
        for value in in_threads(work, 2000, chunk=1):
            found.append(value)
    assert found == [0, 1, 2, 3, 4]


# --- what lies in a folder -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    memory = tmp_path / "memory"
    monkeypatch.setattr("engine.lab.data.image_folder._memory_folder", lambda: memory)
    root = tmp_path / "pictures"
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                image = Image.fromarray(colours(seed=10 * label + number))
                saved(root / part / name / f"{number}.png", image)
    return root


def test_litter_is_skipped_and_strays_are_not(folder: Path) -> None:
    data = ImageFolder(path=str(folder))
    before = data.inspect()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / "train" / "cat" / name).write_bytes(b"\0")
        (folder / "train" / name).write_bytes(b"\0")
    assert data.inspect() == before
    stray = saved(folder / "train" / "lost.png", Image.fromarray(colours()))
    with pytest.raises(BadInput, match=r"lost\.png lies in no class folder"):
        data.inspect()
    stray.rename(folder / "train" / "cat" / "found.png")
    assert data.inspect().train == before.train + 1


def test_links_are_followed_also_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    before = ImageFolder(path=str(folder)).inspect()
    (folder / "train" / "cat").rename(tmp_path / "cats")
    (folder / "train" / "cat").symlink_to(tmp_path / "cats")
    target = (tmp_path / "cats" / "1.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "cats" / "1.png").symlink_to(target)
    data = ImageFolder(path=str(folder))
    assert data.inspect() == before
    saved(target, Image.fromarray(colours(seed=99)))
    assert data.inspect().digest != before.digest, "a change behind a link is noticed"


def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    with pytest.raises(BadInput, match=r"pipe\.png is not a regular file"):
        ImageFolder(path=str(folder)).inspect()


def test_a_change_that_keeps_size_and_time_is_noticed(folder: Path) -> None:
    data = ImageFolder(path=str(folder))
    path = folder / "train" / "cat" / "0.png"
    before, digest = path.stat(), data.inspect().digest
    content = path.read_bytes()
    spoiled = Image.fromarray(colours(seed=0) ^ 1)
    saved(path, spoiled, compress_level=0)
    path.write_bytes(path.read_bytes()[: len(content)].ljust(len(content), b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert data.inspect().digest != digest


def test_different_sizes_are_found_by_the_first_look(folder: Path) -> None:
    saved(folder / "test" / "dog" / "1.png", Image.fromarray(colours(5, 6)))
    with pytest.raises(BadInput, match=r"1\.png is 6×5, the first image 6×4; set data\.size"):
        ImageFolder(path=str(folder)).inspect()
    assert ImageFolder(path=str(folder), size=8).inspect().shape == (3, 8, 8)
