"""Small corpora and tokenizers, and what the `tokenizers` library itself makes of a text."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from gptft.config.data import DataConfig
from gptft.config.sections import Config
from gptft.data.encoded_documents import EncodedDocuments, EncodedStats, encode_documents
from gptft.data.pack import Prepared
from gptft.data.plan import PackingPlan, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.store import BlockStore
from gptft.documents.scan import ScannedText, scan_texts
from gptft.documents.sources import find_texts
from gptft.tokenization.encoder import Engine, FastokensEngine, Lengths, TokenizersEngine
from gptft.tokenization.token_ids import TokenIds
from gptft.tokenization.tokenizer import TextTokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import ROOT, SENTENCES

PICO = ROOT / "gptft" / "models" / "pico"
POEMS = "\n\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "data" / "pushkin").glob("*.txt"))
)
SPECIAL = ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>")
EOS = 0  # of every tokenizer here
Ids = Callable[[str], list[int]]

_ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_KNOWN = st.sampled_from([*SENTENCES, *SPECIAL, " ", "  ", "\n", "\r\n\r\n", "\t", "’s", "1234"])
TEXTS = st.lists(st.one_of(_ANYTHING, _KNOWN), max_size=8).map("".join)


def ids_by_tokenizers(tokenizer: Path | Tokenizer) -> Ids:
    """Text -> ids, by a tokenizer that the code under test has never touched."""
    if isinstance(tokenizer, Path):
        backend = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    else:
        backend = Tokenizer.from_str(tokenizer.to_str())
    backend.encode_special_tokens = True
    return lambda text: list(backend.encode(text, add_special_tokens=False).ids)


def text_tokenizer(backend: Tokenizer) -> TextTokenizer:
    """A tokenizer as `load_tokenizer` gives it; its EOS is id 0."""
    backend.encode_special_tokens = True
    return TextTokenizer(backend, {"eos_token": backend.id_to_token(EOS)}, None, "test")


def tiny() -> TextTokenizer:
    """A byte-level BPE like GPT-2's, which fastokens opens in no time."""
    return train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)


def numbers() -> Tokenizer:
    """The word "7" is id 7: a corpus of numbers is its own ids."""
    vocab = {"</s>": EOS, **{str(number): number for number in range(1, 1000)}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def unigram() -> Tokenizer:
    """As XLM-R, T5 and other SentencePiece models split text: Metaspace, then Unigram."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    backend.train_from_iterator([POEMS, *SENTENCES], trainer)
    return backend


def prepending() -> Tokenizer:
    """As Llama 2 does it: the normalizer puts a space before every text."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>", "<unk>"], show_progress=False
    )
    backend.train_from_iterator(POEMS.split(), trainer)
    return backend


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


def scan(data: DataConfig, *, cache_dir: Path) -> list[ScannedText]:
    return scan_texts(find_texts(data).texts, data, cache_dir=cache_dir)


def encoded(
    data: DataConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine | None = None,
    notify: Callable[[str], None] = lambda sentence: None,
) -> tuple[EncodedDocuments, EncodedStats]:
    """Scan and encode all that `data` names."""
    folder.mkdir(exist_ok=True)
    texts = scan(data, cache_dir=folder / "cache")
    chosen = engine or TokenizersEngine(tokenizer)
    facts = encode_documents(texts, data, tokenizer, folder, engine=chosen, notify=notify)
    return EncodedDocuments(folder), facts


def encoded_ids(encoded: EncodedDocuments, *, at_once: int = 1000) -> list[int]:
    total = int(encoded.rows["tokens"].sum()) + len(encoded.rows)
    return [int(i) for ids in encoded.token_ids(0, total, at_once=at_once) for i in ids]


def stream(path: Path, split: str = "train") -> list[int]:
    """All tokens of one split of a store, in order."""
    store = BlockStore(path, split=split)
    return [int(i) for block in range(len(store)) for i in store[block]]


def joined(documents: Sequence[str], ids: Ids) -> list[int]:
    """What a stream of these documents has to be."""
    return [i for document in documents for i in [*ids(document), EOS]]


def prepare(
    model_dir: Path, *, notify: Callable[[str], None] = lambda sentence: None, **settings: object
) -> Prepared:
    config = {"data": settings, "model": {"name": str(model_dir)}}
    return prepare_blocks(plan_packing(Config.model_validate(config)), notify=notify)


def plan(
    tokenizer: TextTokenizer, cache_dir: Path, *train: object, **settings: object
) -> PackingPlan:
    names = [str(source) if isinstance(source, Path) else source for source in train]
    data = DataConfig.model_validate({"train": names, **settings})
    return PackingPlan(data, tokenizer, None, None, cache_dir)


def saved(backend: Tokenizer, folder: Path) -> Path:
    """A model folder with nothing but this tokenizer."""
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = json.dumps({"eos_token": backend.id_to_token(EOS)})
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")
    return folder


@contextmanager
def reference_engine() -> Iterator[None]:
    """Prepare with `tokenizers` alone, which takes no tenth of a second to open."""

    def choose(tokenizer: TextTokenizer, notify: object = None) -> Engine:
        return TokenizersEngine(tokenizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gptft.data.prepare.choose_engine", choose)
        patch.setattr("gptft.data.encoded_documents.choose_engine", choose)
        yield


def altered(*, after: int) -> Callable[..., Any]:
    """`FastokensEngine._encode` with one id changed in every call after the first few."""
    encode, num_calls = FastokensEngine._encode, 0

    def wrong(self: FastokensEngine, texts: Sequence[str]) -> tuple[TokenIds, Lengths]:
        nonlocal num_calls
        num_calls += 1
        ids, lengths = encode(self, texts)
        if num_calls > after and len(ids):
            ids = ids.copy()
            ids[-1] ^= 1
        return ids, lengths

    return wrong
