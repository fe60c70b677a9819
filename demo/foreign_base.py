"""A base of another kind, for measurements: built like a SigLIP, and it reads six languages by a tokenizer of its own.

Its text tower is not causal, reads all 64 places of every text and is read off at the last one. It is as large as the
bundled base's, and begins as that one where both have the same parts. Pictures go through the bundled base's tower, so
that only how text is read differs between the two. It is kept in the cache and never shipped.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from babel import Locale
from open_clip.tokenizer import get_clean_fn
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from demo.base_learner import BUNDLE, NAME, Learner, create_model, encode_texts
from demo.batches import Batch
from demo.emojis import load_catalogue
from demo.scenes import join_names
from model.languages import ENGLISH
from model.towers import compute_text_features

FOREIGN = "pictoglot-six"
SIX = (ENGLISH, "ar", "ja", "ko", "ru", "zh")  # each of another script
PIECES = 32_000
# What the tokenizer has seen beside: names of countries, languages and money in so many languages, as the tokenizers of
# multilingual bases have seen more languages than those bases read. Babel's tags of the 36 of the benchmark
KNOWN = (
    *("en", "it", "de", "fil", "tr", "uk", "nl", "bn", "he", "fi", "sv", "qu", "fa", "mi", "fr", "el", "zh", "id"),
    *("sw", "nb", "hi", "da", "te", "th", "pt", "ru", "ro", "pl", "hr", "es", "vi", "ar", "cs", "ko", "ja", "hu"),
)
_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"
FEW = 24  # places that 99 of 100 captions need
_BYTE_SCORE = -20.0  # a byte stands for a letter that no piece has
_TIMES = 3  # captions of several names, for each emoji, that the tokenizer is trained on
_cleaned = get_clean_fn("canonicalize")


def describe_architecture() -> dict[str, Any]:
    """Describe `ViT-B-16-SigLIP` as open_clip does, with the sizes and the picture tower of the bundled base."""
    siglip: dict[str, Any] = open_clip.get_model_config("ViT-B-16-SigLIP")
    bundled = json.loads((BUNDLE / f"{NAME}.json").read_text())
    sizes = {name: bundled["text_cfg"][name] for name in ("width", "heads", "layers")}
    text = {**siglip["text_cfg"], **sizes, "vocab_size": PIECES}
    return {**siglip, "embed_dim": bundled["embed_dim"], "vision_cfg": bundled["vision_cfg"], "text_cfg": text}


def prepare(folder: Path) -> None:
    """Write what lies beside the checkpoint: architecture, languages, and the tokenizer unless there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{FOREIGN}.json").write_text(json.dumps(describe_architecture(), indent=1) + "\n")
    (folder / "open_clip_config.json").write_text(json.dumps({"languages": SIX}) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": _END, "eos_token": _END}) + "\n")
    if not (path := folder / "tokenizer.json").is_file():
        path.write_text(train_tokenizer(_list_corpus()).to_str(), encoding="utf-8")


def train_tokenizer(corpus: Sequence[str], pieces: int = PIECES) -> Tokenizer:
    """Return a unigram as SigLIP has one, with a token for every byte, so that no script is unknown to it."""
    specials, bytes_ = [_PAD, _END, _UNKNOWN], [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.Unigram())
    learner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=pieces - len(bytes_), special_tokens=specials, unk_token=_UNKNOWN, show_progress=False
    )
    learner.train_from_iterator(corpus, trainer)
    learned = [(piece, score) for piece, score in json.loads(learner.to_str())["model"]["vocab"]]
    first = len(specials)
    scored = [*learned[:first], *((name, _BYTE_SCORE) for name in bytes_), *learned[first:]]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=specials.index(_UNKNOWN), byte_fallback=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = learner.normalizer, learner.pre_tokenizer
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {_END}", special_tokens=[(_END, 1)])
    return tokenizer


def _list_corpus() -> list[str]:
    """Return captions in the six languages, and what Babel names in the known ones; each as the base cleans it."""
    said = list[str]()
    random = Random("six")
    for language in SIX:
        for each in load_catalogue():
            company = [each, *random.sample(load_catalogue(), 2)]
            said += [join_names([shown.names[language] for shown in company], language) for _ in range(_TIMES)]
    said += [keyword for each in load_catalogue() for keyword in each.keywords]
    said += [name for tag in KNOWN for name in _list_names(Locale.parse(tag))]
    return [_cleaned(text) for text in said]


def _list_names(locale: Locale) -> Iterator[str]:
    for names in (locale.languages, locale.territories, locale.scripts, locale.currencies, locale.variants):
        yield from names.values()
    for widths in (*locale.months.values(), *locale.days.values()):
        yield from widths["wide"].values()
    yield from (str(pattern.pattern) for pattern in locale.unit_display_names.values() if hasattr(pattern, "pattern"))


class ForeignLearner(Learner):
    """The text tower learns each caption's target. Targets are sums of the bundled base's features of English names.

    Only the losses here apply: the tower for pictures, and the targets, are finished.
    """

    def __init__(self, folder: Path) -> None:
        open_clip.add_model_config(folder / f"{FOREIGN}.json")
        super().__init__(open_clip.create_model(FOREIGN))
        bundled = create_model()
        bundled.load_state_dict(load_file(BUNDLE / f"{NAME}.safetensors"))
        bundled.eval().requires_grad_(False)
        self.clip.visual.load_state_dict(bundled.visual.state_dict())
        self.clip.visual.requires_grad_(False)
        begin(self.clip.text, bundled, load_tokenizer(folder))
        with torch.inference_mode():
            units = F.normalize(encode_texts(bundled, [each.name for each in load_catalogue()]), dim=-1)
        self.prototypes = nn.Parameter(units.clone(), requires_grad=False)
        self._tokens = partial(_encode_tokens, load_tokenizer(folder))
        self._places = int(self.clip.text.context_length)

    def compute_loss_in_few_places(self, batch: Batch) -> Tensor:
        """Compute the loss in the first places and the last: a third of the cost, and nearly the same features.

        What fills up a text says nothing, and the tower learns soon not to look at it.
        """
        self._places = FEW
        return self.compute_caption_loss_from_scratch(batch)

    def compute_loss_in_all_places(self, batch: Batch) -> Tensor:
        """Compute the loss as texts are read in the end."""
        self._places = int(self.clip.text.context_length)
        return self.compute_caption_loss_from_scratch(batch)

    def encode_captions(self, captions: list[str]) -> Tensor:
        """Encode all places as open_clip's `encode_text` does; the last block computes the last place alone."""
        tower, tokens = self.clip.text, self._tokens(self._places, captions)
        last = torch.full((len(tokens),), self._places - 1)
        there, here = tower.positional_embedding[-1], tower.positional_embedding[self._places - 1]
        moved = F.pad((there - here)[None], (0, 0, self._places - 1, 0))  # (places, width)
        return compute_text_features(tower, tower.token_embedding(tokens) + moved, last)


@torch.no_grad()
def begin(tower: Any, bundled: Any, tokenizer: Tokenizer) -> None:
    """Give the text tower of the foreign base what the bundled base has learned of English.

    Blocks and projection are copied. A place begins as the one behind it, since there is no begin of text here. The row
    of a piece is the mean of the rows by which the bundled base reads the same letters, where CLIP's tokenizer is for
    them: ASCII. The others stay as they are.
    """
    tower.transformer.load_state_dict(bundled.transformer.state_dict())
    tower.ln_final.load_state_dict(bundled.ln_final.state_dict())
    tower.text_projection.weight.copy_(bundled.text_projection.T)
    tower.text_projection.bias.zero_()
    tower.positional_embedding.copy_(bundled.positional_embedding[1 : 1 + tower.context_length])
    clip, known = open_clip.get_tokenizer(NAME), bundled.token_embedding.weight
    for piece, number in tokenizer.get_vocab(with_added_tokens=False).items():
        letters = piece.replace("▁", " ").strip()
        if letters.isascii() and not letters.startswith("<") and (ids := clip.encode(letters)):
            tower.token_embedding.weight[number] = known[ids].mean(0)
    tower.token_embedding.weight[tokenizer.token_to_id(_END)] = known[clip.eot_token_id]


@cache
def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of the base in `folder`."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _encode_tokens(tokenizer: Tokenizer, places: int, captions: Sequence[str]) -> Tensor:
    """Return ids (n, places): cut to fit, with the end of text behind, which also fills up."""
    lines = tokenizer.encode_batch([_cleaned(text) for text in captions], add_special_tokens=False)
    end = tokenizer.token_to_id(_END)
    return torch.tensor([[*line.ids[: places - 1], *[end] * (places - len(line.ids[: places - 1]))] for line in lines])
