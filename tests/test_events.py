"""Events: strict lines out, tolerant eyes in."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.jobs import events as module
from engine.jobs.events import KINDS, EventTail, EventWriter, strip_control

STAGE = "ab" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"not strict JSON: {constant}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def event(number: int = 0, **changes: Any) -> dict[str, Any]:
    envelope = {"v": 1, "seq": number, "t": 1.5, "stage": STAGE, "attempt": 1}
    return envelope | {"kind": "phase", "data": {"i": number}} | changes


def encoded(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


# --- writer -----------------------------------------------------------------------------------


def test_every_kind_round_trips(path: Path) -> None:
    with EventWriter(path, STAGE, 3) as writer:
        for kind in sorted(KINDS):
            writer.emit(kind, name=kind, kind="data may have a kind too")
    found = EventTail(path).read()
    assert found == lines(path)
    assert {each["kind"] for each in found} == KINDS
    assert [each["seq"] for each in found] == list(range(len(KINDS)))
    assert all((each["v"], each["stage"], each["attempt"]) == (1, STAGE, 3) for each in found)
    assert path.stat().st_mode & 0o777 == 0o600


def test_unknown_kind_is_a_mistake_of_the_caller(path: Path) -> None:
    with pytest.raises(ValueError, match="unknown kind of event 'ende'"):
        EventWriter(path, STAGE, 1).emit("ende")


def test_whatever_the_data_the_line_is_strict_json(path: Path) -> None:
    with EventWriter(path, STAGE, 1) as writer:
        writer.emit(
            "phase",
            numbers=[float("nan"), float("inf"), -float("inf"), np.float32("nan"), 1e308],
            array=np.array([[1.0, np.nan]]),
            nested={"a": (np.int64(3), True, None, np.bool_(False))},
            odd=Path("x\ny"),
            half="\ud800",
        )
    (found,) = lines(path)
    assert found["data"] == {
        "numbers": [None, None, None, None, 1e308],
        "array": [[1.0, None]],
        "nested": {"a": [3, True, None, False]},
        "odd": "x\ny",
        "half": "\ud800",
    }


def test_throttle_keeps_the_rate_and_the_last_value(path: Path) -> None:
    clock = Clock()
    writer = EventWriter(path, STAGE, 1, rate=20, clock=clock)
    times: list[float] = []
    for step in range(5000):  # 5 s, two series, 1000 steps a second
        clock.now += 0.001
        before = path.stat().st_size
        writer.emit("metric", name="loss", value=step)
        writer.emit("metric", name="accuracy", value=-step)
        if path.stat().st_size > before:
            times += [clock.now] * (len(lines(path)) - len(times))
    assert 80 <= len(times) <= 100
    for start in times:
        assert sum(start <= t < start + 0.999 for t in times) <= 20
    writer.emit("end")
    found = lines(path)
    assert found[-1]["kind"] == "end"
    last = {each["data"]["name"]: each["data"]["value"] for each in found[:-1]}
    assert last == {"loss": 4999, "accuracy": -4999}
    counts = [sum(each["data"].get("name") == name for each in found) for name in last]
    assert min(counts) > 30, "one series starved the other"


@pytest.mark.parametrize("how", ["end", "stopped", "error", "flush", "close", "heartbeat later"])
def test_what_was_held_back_comes_out(path: Path, how: str) -> None:
    clock = Clock()
    writer = EventWriter(path, STAGE, 1, rate=1, clock=clock)
    for value in range(10):
        writer.emit("progress", done=value)
    writer.emit("heartbeat")
    assert [each["data"] for each in lines(path)] == [{"done": 0}, {}]
    if how in KINDS:
        writer.emit(how)
    elif how == "heartbeat later":
        clock.now += 1
        writer.emit("heartbeat")
    else:
        getattr(writer, how)()
    found = lines(path)
    assert found[2]["data"] == {"done": 9}
    assert [each["seq"] for each in found] == list(range(len(found)))


def test_threads_do_not_mix_lines(path: Path) -> None:
    writer = EventWriter(path, STAGE, 1)

    def work() -> None:
        for number in range(200):
            writer.emit("phase", text="x" * number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["seq"] for each in lines(path)] == list(range(800))


def test_full_disk_costs_lines_never_the_stage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, space = os.write, 10**9

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal space
        if space == 0:
            raise OSError(28, "No space left on device")
        written = real(descriptor, data[:space])
        space -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    writer = EventWriter(path, STAGE, 1)
    writer.emit("phase", i=0)
    space = 30
    for number in (1, 2, 3):  # torn, refused, refused
        writer.emit("phase", i=number)
    assert writer.dropped == 3
    space = 10**9
    writer.emit("phase", i=4)
    writer.emit("end")
    tail = EventTail(path)
    assert [each["seq"] for each in tail.read()] == [0, 4, 5]
    assert tail.skipped == 1


def test_real_short_write(path: Path) -> None:
    """With the kernel's own file size limit instead of a patched write."""
    child = os.fork()
    if child == 0:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        writer = EventWriter(path, STAGE, 1)
        for number in range(20):
            writer.emit("phase", i=number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        writer.emit("end", dropped=writer.dropped)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    tail = EventTail(path)
    *whole, end = tail.read()
    assert [each["data"]["i"] for each in whole] == list(range(len(whole)))
    assert end["data"]["dropped"] == 20 - len(whole) > 0
    assert tail.skipped == 1


def test_second_writer_starts_on_a_fresh_line(path: Path) -> None:
    path.write_bytes(encoded(event(0)) + b'{"v":1,"se')
    EventWriter(path, STAGE, 1).emit("start")
    tail = EventTail(path)
    assert [each["kind"] for each in tail.read()] == ["phase", "start"]
    assert tail.skipped == 1


def test_closed_or_oversized_is_dropped_quietly(path: Path) -> None:
    writer = EventWriter(path, STAGE, 1)
    writer.emit("phase", text="x" * module.MAX_LINE)
    writer.close()
    writer.close()
    writer.emit("heartbeat")
    assert writer.dropped == 2
    assert path.read_bytes() == b""


def test_reader_keeps_up_with_a_writer_that_is_killed(path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            writer = EventWriter(path, STAGE, 1)
            for _ in range(20_000):
                writer.emit("phase", text="x" * random.randrange(3000))
        finally:
            os._exit(1)
    tail = EventTail(path)
    found: list[dict[str, Any]] = []
    try:
        while len(found) < 2000:
            found += tail.read()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found += tail.read()
    assert tail.skipped == 0
    assert [each["seq"] for each in found] == list(range(len(found)))


# --- tail -------------------------------------------------------------------------------------


def test_absent_then_growing_byte_by_byte(path: Path) -> None:
    tail = EventTail(path)
    assert tail.read() == []
    expected = [event(number) for number in range(3)]
    found = []
    with path.open("ab", buffering=0) as file:
        for byte in encoded(*expected):
            file.write(bytes([byte]))
            found += tail.read()
    assert found == expected
    assert tail.read() == []
    assert tail.skipped == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"{",
        b"\xff\xfe\x00",
        b"\0" * 4096,
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"v":1,"kind":"end"}',
        b"x" * (3 << 20),
        *(encoded(event(1, **{name: None})).strip() for name in event()),
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_garbage_costs_one_line(path: Path, garbage: bytes) -> None:
    path.write_bytes(encoded(event(0)) + garbage + b"\n\n" + encoded(event(2)))
    tail = EventTail(path)
    assert tail.read() == [event(0), event(2)]
    assert tail.skipped == 1


def test_faster_writer_does_not_trap_the_reader(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(encoded(event(0)))
    real = os.pread

    def grow_meanwhile(*arguments: int) -> bytes:
        with path.open("ab") as file:
            file.write(encoded(event(1)))
        assert path.stat().st_size < 10_000, "still reading"
        return real(*arguments)

    tail = EventTail(path)
    monkeypatch.setattr(os, "pread", grow_meanwhile)
    assert tail.read() == [event(0)]
    monkeypatch.setattr(os, "pread", real)
    assert set(map(repr, tail.read())) == {repr(event(1))}


def test_long_line_that_grows_is_not_kept_in_memory(path: Path) -> None:
    tail = EventTail(path)
    with path.open("ab", buffering=0) as file:
        for _ in range(8):
            file.write(b"x" * (1 << 19))
            assert tail.read() == []
            assert len(tail._partial) <= module.MAX_LINE
        file.write(b"\n" + encoded(event(5)))
    assert tail.read() == [event(5)]
    assert tail.skipped == 1


def test_the_future_passes_through(path: Path) -> None:
    future = [event(0, v=7, kind="telepathy", new=[1]), event(1, kind="aura")]
    path.write_bytes(encoded(*future))
    assert EventTail(path).read() == future


def test_replaced_and_truncated_files_are_read_anew(path: Path) -> None:
    tail = EventTail(path)
    path.write_bytes(encoded(event(0), event(1)) + b'{"torn')
    assert len(tail.read()) == 2
    path.write_bytes(encoded(event(3)))  # shorter
    assert tail.read() == [event(3)]
    path.unlink()
    assert tail.read() == []
    path.write_bytes(encoded(*(event(number) for number in range(4, 9))))  # longer, new
    assert [each["seq"] for each in tail.read()] == [4, 5, 6, 7, 8]


# --- text of strangers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, ünïcode 漢字 👩‍🔬\tand\nlines", "plain, ünïcode 漢字 👩‍🔬\tand\nlines"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y", "xy"),
        ("\x1bP+q\x1b\\x\x1bcreset\x1b(B", "xreset"),
        ("\x1b]52;c;never ended", "52;c;never ended"),
        ("a\rb\x08c\x00d\x7fe\x85f", "a�b�c�d�e�f"),
        ("\u202egnp.exe\u2066", "�gnp.exe�"),
        ("\ud800", "�"),
        ("\x1b", "�"),
    ],
)
def test_control_is_stripped(text: str, safe: str) -> None:
    assert strip_control(text) == safe


def test_stripped_text_holds_no_control_whatever_came_in() -> None:
    chance = random.Random(3)
    alphabet = "\x1b\x9b\x9d\x90\x07\x9c[]\\P^_;:0123mJ \n\tabc\r\x00\x7f"
    for _ in range(2000):
        text = "".join(chance.choices(alphabet, k=chance.randrange(40)))
        safe = strip_control(text)
        assert all(char in "\n\t" or char.isprintable() for char in safe), (text, safe)
    for hostile in ("\x1b]" * 100_000, "\x9d" * 100_000, "\x1b[" + "0" * 100_000):
        strip_control(hostile)  # in linear time
