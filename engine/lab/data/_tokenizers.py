"""Where published tokenizers lie, and what planning must know of one, without any code of theirs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.spec.errors import BadInput, cut
from engine.spec.files import content_of
from engine.spec.places import expanded

# GPT-2's sizes share one tokenizer. Planning knows of it what is below, and needs no file.
_SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
GPT2 = frozenset(_SIZES) | {f"openai-community/{size}" for size in _SIZES}
GPT2_SIZE = 50257
GPT2_PROBE = ("Hello world", [15496, 995])
ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]")  # where no file names the end token
MOST_TOKENS = 1 << 26  # ids; no published tokenizer has a fiftieth
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Published:
    """`content` is tokenizer.json; `end` the token that ends a text."""

    content: str
    end: str
    gpt2: bool  # promised by its name on the hub


def facts(place: str) -> tuple[str, int]:
    """(digest, upper bound of token ids + 1) of a published tokenizer. Raises BadInput.

    Of GPT-2's name on the hub both are known; all others are looked at.
    """
    if _promised(place):
        return "gpt2", GPT2_SIZE
    found = published(place)
    told = hashlib.sha256(f"{found.end}\n{found.content}".encode()).hexdigest()
    return told, _size(found.content, f"data.tokenizer = {cut(repr(place))}")


def _size(content: str, where: str) -> int:
    """Read from the JSON itself, for planning must not need the library."""
    try:
        told = json.loads(content)
        vocab = told["model"]["vocab"]
        ids = [entry["id"] for entry in told.get("added_tokens", [])]
        ids += vocab.values() if isinstance(vocab, dict) else range(len(vocab))
        if not all(type(one) is int and 0 <= one <= MOST_TOKENS for one in ids):
            raise ValueError
        return int(max(ids)) + 1
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise BadInput(f"{where}: its tokenizer.json holds no vocabulary.") from None


def published(place: str) -> Published:
    """Raises BadInput, for the hub also without a network."""
    where = f"data.tokenizer = {cut(repr(place))}"
    folder = expanded(place, "data.tokenizer")
    try:
        if folder.is_dir():
            files = _in_folder(folder, where)
        elif HUB_NAME.fullmatch(place) is None or place.startswith("."):
            raise BadInput(
                f'{where}: no such folder; "bpe", a folder with tokenizer.json or a name on the '
                "hub is needed."
            )
        else:
            files = _of_hub(place, where)
        told = content_of(files["tokenizer.json"], f"{where}: tokenizer.json cannot be read")
        content = told.decode("utf-8")
    except OSError as error:
        raise BadInput(f"{where}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: tokenizer.json is not UTF-8 (byte {error.start}).") from None
    return Published(content, _end(content, files, where), _promised(place))


def _promised(place: str) -> bool:
    return place in GPT2 and not Path(place).is_dir()


NAMES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def _in_folder(folder: Path, where: str) -> dict[str, Path]:
    files = {name: folder / name for name in NAMES if (folder / name).is_file()}
    if "tokenizer.json" not in files:
        raise BadInput(f"{where}: holds no tokenizer.json; tokenizers of that form can be read.")
    return files


def _of_hub(place: str, where: str) -> dict[str, Path]:
    """What the local cache has of a name, and the network where it has nothing."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise BadInput(f"{where}: the package huggingface_hub is not installed.") from None
    name, _, revision = place.partition("@")
    files: dict[str, Path] = {}
    for file in NAMES[:2]:
        for local in (True, False):
            try:
                got = hf_hub_download(name, file, revision=revision or None, local_files_only=local)
            except (OSError, ValueError) as error:  # all of its errors are one or the other
                if file == NAMES[0] and not local:
                    told = " ".join(str(error).split())[:200]
                    raise BadInput(
                        f"{where}: its tokenizer.json is not here and cannot be downloaded "
                        f"({told}). Put it into a folder and name that instead."
                    ) from None
            else:
                files[file] = Path(got)
                break
    return files


def _end(content: str, files: dict[str, Path], where: str) -> str:
    """The token the publisher ends texts with."""
    for key in ("eos_token", "sep_token"):
        for name in NAMES[1:]:
            if name in files and (found := _named(files[name], key)):
                return found
    found = next((end for end in ENDS if json.dumps(end)[1:-1] in content), None)
    if found is None:
        raise BadInput(
            f"{where}: no tokenizer_config.json names its eos_token, and it has none of {ENDS}."
        )
    return found


def _named(path: Path, key: str) -> str | None:
    try:
        told: Any = json.loads(content_of(path, str(path)))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(told, dict):
        told = told.get("content")
    return told if isinstance(told, str) and told else None
