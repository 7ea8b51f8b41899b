"""Texts to token ids and back: byte-level BPE trained here, or a published tokenizer.

Of a published one only tokenizer.json and the name of its end token are read: data, no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from engine.lab.data._tokenizers import GPT2_PROBE, GPT2_SIZE, published
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

END = "<|endoftext|>"
PAD = -1  # behind a text's end
CHUNK = 1024  # texts encoded at once: bounds the memory that long ones take


class Tokens:
    """A tokenizer and the id of the token that ends every text.

    Equal input gives equal ids, whatever the number of threads. No text encodes to the end token:
    its spelling inside a text is text.
    """

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None  # BPE dropout draws from a generator nobody seeds
        self._tokenizer = tokenizer
        self.end = end
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """Byte-level BPE of at most `vocabulary` tokens, 257 at least: 256 bytes and the end.

        Merges seen once are none. Source: Radford et al. 2019, section 2.2; the pattern that
        splits words is GPT-2's.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            show_progress=False,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(texts, trainer)
        end = tokenizer.token_to_id(END)
        assert end is not None
        return cls(tokenizer, end)

    @classmethod
    def load(cls, place: str) -> Self:
        """A published tokenizer: a folder with tokenizer.json, or a name on the hub.

        Raises BadInput where there is none, or no token that ends a text.
        """
        found = published(place)
        tokens = cls._parsed(found.content, found.end, f"data.tokenizer = {place!r}")
        text, ids = GPT2_PROBE
        if found.gpt2 and (tokens.size != GPT2_SIZE or tokens._ids(text) != ids):
            raise BadInput(f"data.tokenizer = {place!r}: what the hub gave is not GPT-2's.")
        return tokens

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        told = json.loads(text)
        return cls._parsed(json.dumps(told["tokenizer"]), told["end"], "tokens.json")

    @classmethod
    def _parsed(cls, content: str, end: str, where: str) -> Self:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(content)
        except Exception as error:  # the library raises no narrower one
            raise BadInput(f"{where}: its tokenizer.json cannot be read: {error}.") from None
        number = tokenizer.token_to_id(end)
        if number is None:
            raise BadInput(f"{where}: has no token {end!r}, which is to end its texts.")
        return cls(tokenizer, number)

    def to_json(self) -> str:
        """Everything `from_json` needs; the same bytes for the same tokenizer."""
        end = self._tokenizer.id_to_token(self.end)
        return json.dumps({"end": end, "tokenizer": json.loads(self._tokenizer.to_str())})

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[np.ndarray, int]:
        """(int32 [N, max_tokens], how many texts were cut).

        Each row is the text's first tokens, the end token, and -1 up to `max_tokens`.
        """
        import numpy as np

        rows = np.full((len(texts), max_tokens), PAD, dtype=np.int32)
        cut = 0
        for start in range(0, len(texts), CHUNK):
            some = list(texts[start : start + CHUNK])
            found = self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
            for row, encoding in enumerate(found, start):
                ids = encoding.ids
                cut += len(ids) >= max_tokens
                ids = [*ids[: max_tokens - 1], self.end]
                rows[row, : len(ids)] = ids
        return rows, cut

    def decode(self, ids: Iterable[int]) -> str:
        """The text of one row, without padding and end token; of byte-level BPE, character for
        character unless it was cut."""
        own = [int(token) for token in ids if token >= 0]
        if own and own[-1] == self.end:
            own.pop()
        return self._tokenizer.decode(own, skip_special_tokens=False)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
