"""Tokenizers of published encoders, from the vocabulary that lies beside the weights, and how texts are cleaned."""

import gzip
import hashlib
import html
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from imitate.errors import UserError
from imitate.models.peers.files import read_json_file

Kind = Literal["wordpiece", "clip", "sentencepiece"]
FILES: dict[Kind, tuple[str, ...]] = {
    "wordpiece": ("vocab.txt", "tokenizer.json"),
    "clip": ("bpe_simple_vocab_16e6.txt.gz", "vocab.json", "tokenizer.json"),
    "sentencepiece": ("tokenizer.json", "spiece.model"),
}
"""A file of each that is enough (of vocab.json with merges.txt beside it), the one to take first."""
ALL_FILES = ("vocab.txt", "bpe_simple_vocab_16e6.txt.gz", "vocab.json", "merges.txt", "tokenizer.json", "spiece.model",
             "tokenizer_config.json", "special_tokens_map.json")  # fmt: skip
CLIP_MERGES = 49152 - 256 - 2  # of OpenAI's table, which lists more


class Tokenizer(NamedTuple):
    """``ids`` of a text with the special ones at both ends, of any length. ``identity`` is the vocabulary's digest.

    ``continuing`` are the word pieces that go on with a word.
    """

    ids: Callable[[str], list[int]]
    pad: int
    identity: str
    continuing: frozenset[int] = frozenset()


class Rules(NamedTuple):
    """How a family makes tokens: at most ``longest``, padded to that where ``full``, texts apart where ``alone``."""

    kind: Kind
    longest: int
    clean: Callable[[str], str] = str.strip
    full: bool = False
    alone: bool = False


def find_tokenizer(kind: Kind, folder: Path) -> Tokenizer | None:
    """That of the files in the folder; None where there are none. UserError: they cannot be read."""
    for name in FILES[kind]:
        path = folder / name
        if path.is_file():
            try:
                return _read(kind, path)
            except UserError:
                raise
            except Exception as error:  # whatever a damaged file makes a parser raise
                first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                raise UserError(f"{path} is not the vocabulary of a tokenizer ({first}): copy it again") from error
    return None


def _read(kind: Kind, path: Path) -> Tokenizer:
    content = path.read_bytes()
    identity = hashlib.sha256(f"{kind} {path.name}".encode() + content).hexdigest()
    if path.name == "spiece.model":
        return _sentencepiece(path, identity)
    import tokenizers

    if path.name == "tokenizer.json":
        whole = tokenizers.Tokenizer.from_file(str(path))
        whole.no_padding()
        whole.no_truncation()
        pad = next((i for i in map(whole.token_to_id, (*_pads(kind, path.parent),)) if i is not None), 0)
        return Tokenizer(lambda text: list(whole.encode(text).ids), pad, identity, _continuing(whole.get_vocab()))
    if kind == "wordpiece":
        pieces = tokenizers.BertWordPieceTokenizer(vocab=str(path), lowercase=True)
        pad = pieces.token_to_id("[PAD]") or 0
        return Tokenizer(lambda text: list(pieces.encode(text).ids), pad, identity, _continuing(pieces.get_vocab()))
    if path.name == "vocab.json":
        import json

        lines = (path.parent / "merges.txt").read_text(encoding="utf-8").splitlines()
        vocabulary = json.loads(content)
    else:
        lines = gzip.decompress(content).decode().splitlines()[: 1 + CLIP_MERGES]
        vocabulary = {}
    if lines and lines[0].startswith(("#version", '"bpe_simple')):
        del lines[0]
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines) if second]
    return _clip(vocabulary or _clip_vocabulary(merges), merges, identity)


def _continuing(vocabulary: Mapping[str, int]) -> frozenset[int]:
    return frozenset(number for piece, number in vocabulary.items() if piece.startswith("##"))


def _clip(vocabulary: dict[str, int], merges: list[tuple[str, str]], identity: str) -> Tokenizer:
    from tokenizers import Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Whole

    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    whole = Whole(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    whole.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    whole.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    first, last = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    return Tokenizer(lambda text: [first, *whole.encode(text).ids, last], 0, identity)


def _clip_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """In OpenAI's order: bytes, bytes at the end of a word, merges, the two special ones."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet(), key=_byte_order)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def _byte_order(letter: str) -> tuple[bool, int]:
    """Bytes that are printed as themselves come first; the others have letters from 256 on, in their order."""
    return ord(letter) > 255, ord(letter)


def _pads(kind: Kind, folder: Path) -> tuple[str, ...]:
    """What may fill a text up, the likeliest first; that of the folder's configuration, where it says one."""
    said = read_json_file(folder / "tokenizer_config.json").get("pad_token")
    said = said.get("content") if isinstance(said, dict) else said
    usual = ("</s>", "<pad>") if kind == "sentencepiece" else ("[PAD]", "<pad>", "</s>", "<|endoftext|>")
    return (said, *usual) if isinstance(said, str) else usual


def _sentencepiece(path: Path, identity: str) -> Tokenizer:
    """SigLIP's: in lower case and without punctuation, with the end of text after it."""
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(
            f"{path} is read by the package sentencepiece: pip install 'imitate-cxr[siglip]', or add tokenizer.json"
        ) from error
    whole = sentencepiece.SentencePieceProcessor(model_file=str(path))
    unknown, end = int(whole.unk_id()), int(whole.eos_id())
    found = (int(whole.piece_to_id(name)) for name in _pads("sentencepiece", path.parent))
    pad = next((number for number in found if number not in (-1, unknown)), end)

    def ids(text: str) -> list[int]:
        plain = text.lower().translate(str.maketrans("", "", string.punctuation))
        return [*map(int, whole.encode(" ".join(plain.split()))), end]

    return Tokenizer(ids, pad, identity)


def one_line(text: str) -> str:
    """HTML entities resolved, white space collapsed; as OpenAI's CLIP does it, but for ftfy's repairs of encodings."""
    return " ".join(html.unescape(html.unescape(text)).split())


def words_only(text: str) -> str:
    """Sentences of at least two words, in lower case and without punctuation; the rule of GLoRIA, MGCA and CARZero."""
    plain = text.replace("\n", " ")
    sentences = [part for each in re.split(r"[0-9]+\.", plain) for part in each.split(".")]
    kept = []
    for sentence in sentences:
        found = re.findall(r"\w+", sentence.replace("\ufffd\ufffd", " ").lower())
        words = [word for word in (each.encode("ascii", "ignore").decode() for each in found) if word]
        if len(found) > 1:
            kept.append(" ".join(words))
    return " ".join(each for each in kept if each)


def without_end(text: str) -> str:
    """Without the marks at a prompt's end; the rule of BioViL."""
    return text.strip().rstrip("!?.").rstrip()
