"""One opener for what a person names: plain files of a bounded size, and no waiting for ever."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from engine.spec import files
from engine.spec.bounds import FILE, WEIGHTS
from engine.spec.errors import BadInput
from engine.spec.presets import locate, preset_text
from engine.spec.weights import weights_digest


def refused(path: Path | str, told: str) -> None:
    for read in (
        lambda: files.content_of(Path(path), "data.path"),
        lambda: files.content_at_once(path, "data.path"),
        lambda: files.sha256_of(Path(path), "data.path", WEIGHTS),
        lambda: files.head_of(Path(path), "data.path", 8),
    ):
        with pytest.raises(BadInput) as caught:
            read()
        assert str(caught.value).startswith("data.path: ")
        assert told in str(caught.value)


def test_what_is_no_plain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("fifo")
    Path("link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        refused(tmp_path / "fifo", "is a FIFO; a plain file is needed")
        refused(tmp_path / "link", "is a FIFO")
        refused(tmp_path / "socket", "is a socket")
    refused(tmp_path, "is a folder")
    refused("/dev/zero", "is a device")
    refused(tmp_path / "none", "No such file")
    refused("a\0b", "null byte")


def test_what_became_a_fifo_after_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: real(plain, **more))
    with pytest.raises(BadInput, match="is a FIFO"):
        files.content_at_once(tmp_path / "fifo", "x")


def test_a_file_larger_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused(path, "1,099,511,627,776 bytes")
    monkeypatch.setenv("CHELATE_MAX_FILE_BYTES", "10")
    path.write_bytes(b"x" * 11)
    with pytest.raises(BadInput, match="has 11 bytes; the limit is 10 "):
        files.content_of(path, "x")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux only")
def test_what_tells_no_size_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("/proc/self/environ")
    assert path.stat().st_size == 0
    assert files.content_of(path, "x") == path.read_bytes()
    monkeypatch.setenv(FILE.variable, "10")
    with pytest.raises(BadInput, match="has at least"):
        files.content_of(path, "x")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, files.CHUNK - 1, files.CHUNK, files.CHUNK + 7])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * (size // 256) + b"z" * (size % 256))
    assert files.content_of(path, "x") == path.read_bytes() == files.content_at_once(path, "x")


def test_a_file_system_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setenv("CHELATE_FILE_SECONDS", "1")
    monkeypatch.setattr(files, "opened", lambda *_: answered.wait(60))
    with pytest.raises(BadInput, match="no answer from its file system for 1 seconds"):
        files.content_of(tmp_path, "x")
    answered.set()


def test_presets_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(BadInput, match="is no plain file"):
        locate(str(tmp_path / "fifo.toml"))
    with pytest.raises(BadInput, match="is a FIFO"):
        preset_text(tmp_path / "fifo.toml")
    for name in ("x" * 5000, "~nosuchuser/x.toml", "a/" * 4000, "a\0b.toml"):
        with pytest.raises(BadInput):
            locate(name)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1 << 21))
    with pytest.raises(BadInput, match="2,097,152 bytes; the limit is 1,048,576"):
        preset_text(large)


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"1234567", b"\xff" * 8, header(b"[" * 100_000), header(b'{"a":' * 5000), header(b"[]"),
        header(b'{"a":1}'), header(b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}'),
        header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
        header(b'{"a":{"shape":' + b"9" * 5000 + b"}}"), header(b"\xff\xfe{}"),
        (1 << 60).to_bytes(8, "little") + b"{}", header(b'{"__metadata__":{"a":{}}}'),
    ],
)  # fmt: skip
def test_weights_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is not a safetensors file"):
        weights_digest(str(path))


def test_weights_that_are_no_file() -> None:
    with pytest.raises(BadInput, match=r"train.from = '/dev/zero': is a device"):
        weights_digest("/dev/zero")
