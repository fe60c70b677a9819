"""The benchmark's data as tensors: a corpus and a test for each language, on the same pictures, encoded once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from safetensors.torch import load_file, save

from benchmarks.emoji36 import lexicon as names
from benchmarks.emoji36 import scenes
from benchmarks.emoji36.lexicon import LANGUAGES, Lexicon, strip_selector
from benchmarks.emoji36.scenes import Sizes
from demo.drawings import load_drawing
from demo.evaluate_base import open_noto
from demo.gallery import Cut, Outline, draw
from model.encoder import Encoder
from model.objectives import Corpus
from model.text import clean
from store import files
from worker.prepare import compute_teacher_features

Vectors = NDArray[np.float32]
Shown = TypeVar("Shown")
_CHUNK = 256  # pictures in memory before they are encoded


@dataclass(frozen=True)
class Test:
    """Captions of one language, and for each the row of its picture in the galleries named."""

    captions: list[str]
    owner: NDArray[np.int64]
    galleries: tuple[str, ...]


class Data(Protocol):
    """What a run needs. `galleries` by name: unit vectors of the test pictures."""

    languages: Sequence[str]
    galleries: dict[str, Vectors]
    sizes: dict[str, int]
    fingerprint: str  # names the pictures and the words of the captions

    def build_corpus(self, language: str) -> Corpus:
        """Return the training data of the language."""

    def tests(self, language: str) -> dict[str, Test]:
        """Return the tests of the language, by name."""

    def digests(self) -> dict[str, str]:
        """Return a digest of every language's captions."""


class EmojiData:
    """Scenes of emoji, the same in every language."""

    def __init__(
        self,
        encoder: Encoder,
        lexicon: Lexicon,
        sizes: Sizes,
        cache_folder: Path,
        unseen: Path | None = None,
    ) -> None:
        """`unseen` is a folder of Noto's drawings, a style new to the base; without it there is no such test."""
        self.languages: Sequence[str] = tuple(lexicon)
        self._lexicon, self._encoder = lexicon, encoder
        drawable = None if unseen is None else {_read_characters(path.stem) for path in unseen.glob("*.png")}
        emojis = scenes.list_shared_emojis(lexicon, drawable)
        self._train = scenes.list_training_scenes(emojis, sizes.train)
        self._test, self._singles = (
            scenes.test_scenes(emojis, sizes.test),
            scenes.list_single_scenes(emojis, sizes.singles),
        )

        def gallery(shown: Sequence[Outline], name: str, cut: Cut = load_drawing) -> Vectors:
            return encode_pictures(encoder, shown, name, cache_folder, _describe, lambda scene: draw(scene, cut))

        self._pictures = torch.from_numpy(gallery(self._train, "train"))
        if sizes.pairs:
            some = np.random.default_rng(0).permutation(len(self._train))[: sizes.pairs]
            self._train, self._pictures = [self._train[place] for place in some], self._pictures[some]
        self.sizes = {
            "emoji": len(emojis), "train": len(self._train), "test": len(self._test), "singles": len(self._singles)
        }  # fmt: skip
        self.galleries = {"seen": gallery(self._test, "seen"), "singles": gallery(self._singles, "singles")}
        if unseen is not None:
            self.galleries["unseen"] = gallery(self._test, "unseen", open_noto(unseen))
        self._english = cache(self._english_features)
        shown = [_describe(scene) for scene in (*self._train, *self._test, *self._singles)]
        known = {
            language: {key: [word.name, *word.keywords] for key, word in lexicon[language].items()}
            for language in lexicon
        }
        self.fingerprint = sha256(json.dumps([encoder.image_fingerprint, shown, known]).encode()).hexdigest()

    def build_corpus(self, language: str) -> Corpus:
        said = self._said(self._train, language)
        return Corpus(language, said, self._english(), self._pictures, torch.arange(len(said)), self._english_texts())

    def tests(self, language: str) -> dict[str, Test]:
        said = self._said(self._test, language)
        both = tuple(name for name in ("seen", "unseen") if name in self.galleries)
        tests = {"scenes": Test(said, np.arange(len(said)), both)}
        called = list(scenes.list_by_keyword(self._singles, self._lexicon, language))
        if called:
            places = np.array([place for place, _ in called], dtype=np.int64)
            tests["keywords"] = Test([clean(keyword) for _, keyword in called], places, ("singles",))
        return tests

    def digests(self) -> dict[str, str]:
        return {tag: digest(self._said(self._train, tag), self.tests(tag)) for tag in self.languages}

    def _said(self, shown: Sequence[Outline], language: str) -> list[str]:
        return [clean(caption) for caption in scenes.make_captions(shown, self._lexicon, language)]

    def _english_features(self) -> torch.Tensor:
        """Return the teacher's features of the names in English, also where the caption has a keyword."""
        return compute_teacher_features(self._encoder, self._english_texts(), lambda: None)

    def _english_texts(self) -> list[str]:
        return [scene.caption for scene in self._train]


def load_emoji36(encoder: Encoder, sizes: Sizes, folder: Path, languages: Sequence[str] = LANGUAGES) -> EmojiData:
    """Return the benchmark itself, from the packages below `folder`; always of the emoji that all 36 languages name."""
    everything = names.read_cldr(folder / "npm")
    data = EmojiData(encoder, everything, sizes, folder / "pictures", names.find_noto(folder / "npm"))
    data.languages = languages
    return data


def digest(training: Sequence[str], tests: Mapping[str, Test]) -> str:
    """Hash a language's captions, and the picture of each test caption."""
    described = {name: [test.captions, test.owner.tolist()] for name, test in tests.items()}
    return sha256(json.dumps([training, described]).encode()).hexdigest()


def encode_pictures(
    encoder: Encoder,
    shown: Sequence[Shown],
    name: str,
    folder: Path,
    described: Callable[[Shown], str],
    picture: Callable[[Shown], Image.Image],
) -> Vectors:
    """Return unit vectors (n, dimension) of what `picture` makes of each; cached, since the pictures take longest.

    They are computed again when the encoder, or the description of any, has changed.
    """
    lines = "\n".join(map(described, shown))
    key = sha256(f"{encoder.image_fingerprint} {name} {lines}".encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.safetensors"
    if not path.is_file():
        with Progress() as progress:  # its thread ends with the block, whatever is raised in it
            parts = [
                encoder.encode_pictures([picture(each) for each in shown[start : start + _CHUNK]])
                for start in progress.track(range(0, len(shown), _CHUNK), description=f"encoding {name}")
            ]
        files.write_bytes(path, save({"vectors": torch.from_numpy(np.concatenate(parts))}))
    vectors: Vectors = load_file(path)["vectors"].numpy()
    return vectors


def _describe(scene: Outline) -> str:
    return f"{scene.id} {scene.caption} {scene.drawing_set}"


def _read_characters(stem: str) -> str:
    """Return the emoji of a drawing's file name, such as 1f34e or 1f3c3-200d-2642-fe0f."""
    return strip_selector("".join(chr(int(code, 16)) for code in stem.split("-")))
