"""A small base of each group of text towers that is read (docs/bases.md): random weights, and tokenizers of their kind.

Foreign tokenizers are trained here, on texts of half the scripts, so that the others show what a tokenizer does with
letters it never saw. open_clip reads the same folder: `open_clip_tokens` are the ids that its own code makes.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from babel import Locale
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from model.text import clean

# One language of each of 32 scripts; of what Babel has no names of, a few words
SCRIPTS = (
    *("en", "ru", "el", "ar", "he", "hi", "bn", "ta", "te", "kn", "ml", "gu", "pa", "or", "si", "th"),
    *("lo", "my", "km", "bo", "ka", "hy", "am", "zh", "ja", "ko", "chr", "vai", "zgh", "ccp", "ii", "ff_Adlm"),
)
SPELLED = [
    "It's the dog's ball, isn't it? 1234 times!!",
    "“quoted” — dashes… and 100%",
    "❤️ love 👩‍👩‍👧",
    "x" * 90,
    "+ $",
]
LATIN = "! !~ a afal coch ci tŷ môr haul cath llong blodyn seren red apple two small boats on quiet lake at night dog"
Settings = dict[str, str]


@cache
def list_texts() -> tuple[str, ...]:
    """Return 200 cleaned texts in 32 scripts: names of languages and countries, alone and several at once."""
    found = list(SPELLED)
    for tag in SCRIPTS:
        locale = Locale.parse(tag)
        names = [*[*locale.languages.values()][:40], *[*locale.territories.values()][:30]]
        found += [*names[::13][:5], " ".join(names[:3]), " ".join(names[5:45])]
    return tuple(clean(text) for text in dict.fromkeys(found))[:200]


@cache
def list_corpus() -> tuple[str, ...]:
    """Return what the foreign tokenizers are trained on: texts of every second script, and some of Latin letters."""
    known = [text for number, text in enumerate(list_texts()) if number < len(SPELLED) or number // 7 % 2 == 0]
    return (*known, LATIN, LATIN[::-1]) * 3


def train_unigram(
    names: Sequence[str], before: str = "", behind: str = "</s>", pad: str = "</s>"
) -> tuple[str, Settings]:
    """Train as for T5, SigLIP, mT5 and XLM-V: pieces with their probabilities, spaces as ▁."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=list(names), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(list_corpus(), trainer)
    _put_ends(tokenizer, before, behind)
    return tokenizer.to_str(), {"pad_token": pad, "eos_token": "</s>", "unk_token": "<unk>"}


def train_byte_fallback() -> tuple[str, Settings]:
    """Train as for Gemma: byte-pair merges over characters, and every byte a token."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    learner.train_from_iterator(list_corpus(), trainers.BpeTrainer(vocab_size=900, show_progress=False))
    model = json.loads(learner.to_str())["model"]
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    merges = [(left, right) for left, right in model["merges"]]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(names[:4])
    _put_ends(tokenizer, "", "<eos>")
    return tokenizer.to_str(), {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}


def train_wordpiece() -> tuple[str, Settings]:
    """Train as for BERT: words and their ends, and one token for every word that cannot be read."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        list_corpus(), trainers.WordPieceTrainer(vocab_size=900, special_tokens=names, show_progress=False)
    )
    _put_ends(tokenizer, "[CLS]", "[SEP]")
    return tokenizer.to_str(), {"pad_token": "[PAD]", "sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"}


def _put_ends(tokenizer: Tokenizer, before: str, behind: str) -> None:
    ends = [(token, tokenizer.token_to_id(token)) for token in (before, behind) if token]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {behind}".strip(), special_tokens=ends
    )


# What hf_tokenizer_name of open_clip's configurations begins with, and a small one of its kind
KINDS: Mapping[str, Callable[[], tuple[str, Settings]]] = {
    "timm/ViT-B-16-SigLIP2": train_byte_fallback,
    "timm/ViT-B-32-SigLIP2": train_byte_fallback,
    "timm/ViT-L-16-SigLIP2": train_byte_fallback,
    "timm/ViT-SO400M": train_byte_fallback,
    "timm/ViT-gopt": train_byte_fallback,
    "timm/ViT-B-16-SigLIP": lambda: train_unigram(["<pad>", "</s>", "<unk>"]),
    "google/mt5": lambda: train_unigram(["<pad>", "</s>", "<unk>"], pad="<pad>"),
    "facebook/xlm-v": lambda: train_unigram(["<s>", "<pad>", "</s>", "<unk>"], before="<s>", pad="<pad>"),
    "bert": train_wordpiece,
}
# One architecture of each group; on each the whole service is tried
GROUPS = {
    "clip": "ViT-B-32",
    "pe": "PE-Core-B-16",
    "mobileclip": "MobileCLIP2-S2",
    "siglip": "ViT-B-16-SigLIP",
    "siglip2": "ViT-B-16-SigLIP2",
    "worldwide": "ViT-H-14-worldwide-quickgelu",
    "clipa": "ViT-L-14-CLIPA",
}


@cache
def load_tokenizer(name: str) -> tuple[str, Settings]:
    """Return `tokenizer.json` and the settings beside it, for an `hf_tokenizer_name`."""
    return next(kind for start, kind in KINDS.items() if name.startswith(start))()


def shrink_config(architecture: str) -> dict[str, Any]:
    """Return a configuration of open_clip with widths, depths, pictures and foreign vocabulary shrunk."""
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    text = {**config["text_cfg"], "width": 32, "heads": 2, "layers": 2}
    if foreign := text.get("hf_tokenizer_name"):
        text["vocab_size"] = (
            Tokenizer.from_str(load_tokenizer(foreign)[0]).get_vocab_size() + 7
        )  # some rows are nobody's
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    return {**config, "embed_dim": 32, "text_cfg": text, "vision_cfg": vision}


def write_base(folder: Path, architecture: str, config: Mapping[str, Any] | None = None, seed: int = 0) -> str:
    """Write a base of random weights under `folder`, by default the small one; returns the spec for `open_base`."""
    folder.mkdir(parents=True, exist_ok=True)
    name, config = f"{architecture}-small", config or shrink_config(architecture)
    (folder / f"{name}.json").write_text(json.dumps(config))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    if foreign := config["text_cfg"].get("hf_tokenizer_name"):
        content, settings = load_tokenizer(foreign)
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        described = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
        (folder / "tokenizer_config.json").write_text(json.dumps(described))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(seed)
    model = open_clip.create_model(name)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "base.safetensors")
    return f"{name}@{folder / 'base.safetensors'}"


def open_clip_tokens(folder: Path, said: Sequence[str]) -> Tensor:
    """Return the ids (n, context) that open_clip's own tokenizer makes of texts, for the base in `folder`."""
    with pytest.MonkeyPatch.context() as patched:
        if find_spec("transformers") is None:
            patched.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=_AutoTokenizer))
        ids: Tensor = open_clip.get_tokenizer(f"local-dir:{folder}")(list(said))
    return ids


class _AutoTokenizer:
    """What open_clip uses of transformers, over `tokenizers`: a stand-in where that large package is not installed.

    `test_every_configuration` is to be run with the real one as well.
    """

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        self._engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._pad = settings["pad_token"]
        self.sep_token_id = self._engine.token_to_id(settings.get("sep_token", ""))

    @classmethod
    def from_pretrained(cls, folder: Path, cache_dir: None = None) -> "_AutoTokenizer":
        return cls(Path(folder))

    def __call__(
        self, said: list[str], return_tensors: str, max_length: int, padding: str, truncation: bool
    ) -> SimpleNamespace:
        assert (return_tensors, padding, truncation) == ("pt", "max_length", True)
        self._engine.enable_truncation(max_length)
        self._engine.enable_padding(length=max_length, pad_id=self._engine.token_to_id(self._pad), pad_token=self._pad)
        return SimpleNamespace(input_ids=torch.tensor([line.ids for line in self._engine.encode_batch(said)]))
