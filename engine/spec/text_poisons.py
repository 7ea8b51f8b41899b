"""What a poison of texts holds in its folder (see `poisons`), looked through by numpy alone.

poison.safetensors  inputs int64 [P, L]: token ids, -1 behind the end; or float32 [P, L, 1 + D] with
                    noise: channel 0 the ids, the others what is added to the embeddings.
                    trigger_phrase uint8 [B] (UTF-8), trigger_place uint8 [1]
poison.json         texts: strings (the P poisoned texts), tokenizer (sha256 of its JSON)

Token ids mean nothing without their tokenizer. Where the data are read by the same one, ids are taken
as they are, bit for bit; by another one, the strings are encoded anew, unless noise is tied to tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.spec.poisons import PoisonFolder

GIVES = {"noise": (), "trigger": ("trigger_phrase", "trigger_place")}
LONGEST_PHRASE, PLACES = 2000, 3  # bytes; start, end, random
EXACT = 1 << 24  # ids from here on are not exact in float32


def check_texts(found: PoisonFolder, count: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """The tensors such a folder may hold, name → (type, shape). Raises BadInput for wrong strings."""
    import numpy as np

    told, shape = found.manifest["texts"], found.manifest["data"]["shape"]
    strings = told.get("strings") if isinstance(told, dict) else None
    if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
        found.wrong("texts.strings must be a list of texts")
    if len(strings) != count:
        found.wrong(f"texts.strings are {len(strings)}, of {count} rows")
    if not isinstance(told.get("tokenizer"), str):
        found.wrong("texts.tokenizer must be the digest of a tokenizer")
    if len(shape) != 3:
        found.wrong("data.shape of texts must be three numbers, the first the most tokens")
    inputs = found.arrays["inputs"]
    noised = "noise" in found.gives
    width = (inputs.shape[2],) if noised and inputs.ndim == 3 and inputs.shape[2] > 1 else ()
    if noised and not width:
        found.wrong("gives 'noise', but inputs have no channels for it")
    phrase = found.arrays.get("trigger_phrase")
    size = len(phrase) if phrase is not None and phrase.ndim == 1 else 1
    return {
        "inputs": (np.float32 if noised else np.int64, (count, int(shape[0]), *width)),
        "trigger_phrase": (np.uint8, (size,)),
        "trigger_place": (np.uint8, (1,)),
    }


def check_tokens(found: PoisonFolder) -> None:
    """Raise BadInput where ids are no texts, noise lies behind one, or the trigger is no phrase."""
    import numpy as np

    inputs = found.arrays["inputs"]
    ids = inputs[..., 0] if inputs.ndim == 3 else inputs
    if not (ids == np.floor(ids)).all() or ids.min() < -1 or ids.max() >= EXACT:
        found.wrong("inputs must hold token ids, -1 behind a text's end")
    token = ids >= 0
    if not token[:, 0].all() or (np.diff(token.astype(np.int8), axis=1) > 0).any():
        found.wrong("inputs must hold at least one token a text, and -1 behind its end alone")
    if inputs.ndim == 3 and (inputs[..., 1:][~token] != 0).any():
        found.wrong("inputs have noise behind a text's end")
    if "trigger_phrase" not in found.arrays:
        return
    try:
        phrase = found.arrays["trigger_phrase"].tobytes().decode()
    except UnicodeDecodeError:
        phrase = ""
    if not phrase.isprintable() or not 0 < len(phrase.encode()) <= LONGEST_PHRASE:
        found.wrong("trigger_phrase must be printable characters in UTF-8")
    if found.arrays["trigger_place"][0] >= PLACES:
        found.wrong(f"trigger_place must be below {PLACES}")
    if missing := [n for n, text in enumerate(found.strings or []) if phrase not in text]:
        found.wrong(f"texts.strings[{missing[0]}] does not hold the trigger {phrase!r}")
