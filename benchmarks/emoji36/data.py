"""The benchmark's data as tensors: a corpus and a test of each language over the same pictures, encoded once."""

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
from rich.progress import track
from safetensors.torch import load_file, save

from benchmarks.emoji36 import lexicon as names
from benchmarks.emoji36 import scenes
from benchmarks.emoji36.lexicon import LANGUAGES, Lexicon, plain
from benchmarks.emoji36.scenes import Sizes
from demo.drawings import drawing
from demo.evaluate_base import noto_drawing
from demo.gallery import Cut, Outline, draw
from model import storage
from model.corpus import Corpus
from model.encoder import Encoder
from model.text import clean
from worker.prepare import teacher_features

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
    """What a run needs. `galleries` by name: unit vectors of the pictures that are asked for."""

    languages: Sequence[str]
    galleries: dict[str, Vectors]
    sizes: dict[str, int]
    fingerprint: str  # names the pictures, and what captions are made of

    def corpus(self, language: str) -> Corpus:
        """What the language is taught from."""

    def tests(self, language: str) -> dict[str, Test]:
        """What is asked in the language."""

    def digests(self) -> dict[str, str]:
        """Of every language's captions, as they were made of it."""


class EmojiData:
    """Scenes of emoji; every language tells of the same ones."""

    def __init__(
        self,
        encoder: Encoder,
        lexicon: Lexicon,
        sizes: Sizes,
        cache_folder: Path,
        unseen: Path | None = None,
    ) -> None:
        """`unseen` is a folder of Noto's drawings, the style that the base never saw; without one it is not asked."""
        self.languages: Sequence[str] = tuple(lexicon)
        self._lexicon, self._encoder = lexicon, encoder
        drawable = None if unseen is None else {_characters(path.stem) for path in unseen.glob("*.png")}
        emojis = scenes.shared_emojis(lexicon, drawable)
        self._train = scenes.training_scenes(emojis, sizes.train)
        self._test, self._singles = scenes.test_scenes(emojis, sizes.test), scenes.single_scenes(emojis, sizes.singles)
        self.sizes = {
            "emoji": len(emojis), "train": len(self._train), "test": len(self._test), "singles": len(self._singles)
        }  # fmt: skip

        def gallery(shown: Sequence[Outline], name: str, cut: Cut = drawing) -> Vectors:
            return encoded(encoder, shown, name, cache_folder, _described, lambda scene: draw(scene, cut))

        self._pictures = torch.from_numpy(gallery(self._train, "train"))
        self.galleries = {"seen": gallery(self._test, "seen"), "singles": gallery(self._singles, "singles")}
        if unseen is not None:
            self.galleries["unseen"] = gallery(self._test, "unseen", noto_drawing(unseen))
        self._english = cache(self._english_features)
        shown = [_described(scene) for scene in (*self._train, *self._test, *self._singles)]
        known = {
            language: {key: [word.name, *word.keywords] for key, word in lexicon[language].items()}
            for language in lexicon
        }
        self.fingerprint = sha256(json.dumps([encoder.image_fingerprint, shown, known]).encode()).hexdigest()

    def corpus(self, language: str) -> Corpus:
        said = self._said(self._train, language)
        return Corpus(language, said, self._english(), self._pictures, torch.arange(len(said)))

    def tests(self, language: str) -> dict[str, Test]:
        said = self._said(self._test, language)
        both = tuple(name for name in ("seen", "unseen") if name in self.galleries)
        found = {"scenes": Test(said, np.arange(len(said)), both)}
        called = list(scenes.by_keyword(self._singles, self._lexicon, language))
        if called:
            places = np.array([place for place, _ in called], dtype=np.int64)
            found["keywords"] = Test([clean(keyword) for _, keyword in called], places, ("singles",))
        return found

    def digests(self) -> dict[str, str]:
        return {tag: digest(self._said(self._train, tag), self.tests(tag)) for tag in self.languages}

    def _said(self, shown: Sequence[Outline], language: str) -> list[str]:
        return [clean(caption) for caption in scenes.captions(shown, self._lexicon, language)]

    def _english_features(self) -> torch.Tensor:
        """The teacher's features of the names in English, whatever the caption says."""
        return teacher_features(self._encoder, [scene.caption for scene in self._train], lambda: None)


def emoji36(encoder: Encoder, sizes: Sizes, folder: Path, languages: Sequence[str] = LANGUAGES) -> EmojiData:
    """The benchmark itself, from what `lexicon.fetch` installed below `folder`; always the emoji that all 36 share."""
    everything = names.cldr(folder / "npm")
    data = EmojiData(encoder, everything, sizes, folder / "pictures", names.noto(folder / "npm"))
    data.languages = languages
    return data


def digest(taught: Sequence[str], asked: Mapping[str, Test]) -> str:
    """Of a language's captions, and of which picture each of those that ask is about."""
    tests = {name: [test.captions, test.owner.tolist()] for name, test in asked.items()}
    return sha256(json.dumps([taught, tests]).encode()).hexdigest()


def encoded(
    encoder: Encoder,
    shown: Sequence[Shown],
    name: str,
    folder: Path,
    described: Callable[[Shown], str],
    picture: Callable[[Shown], Image.Image],
) -> Vectors:
    """Unit vectors (n, dimension) of what `picture` makes of each; kept, since to make the pictures takes longest.

    They are made anew when the encoder, or what `described` says of any, has changed.
    """
    lines = "\n".join(map(described, shown))
    key = sha256(f"{encoder.image_fingerprint} {name} {lines}".encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.safetensors"
    if not path.is_file():
        parts = [
            encoder.pictures([picture(each) for each in shown[start : start + _CHUNK]])
            for start in track(range(0, len(shown), _CHUNK), f"encoding {name}")
        ]
        storage.write_bytes(path, save({"vectors": torch.from_numpy(np.concatenate(parts))}))
    vectors: Vectors = load_file(path)["vectors"].numpy()
    return vectors


def _described(scene: Outline) -> str:
    return f"{scene.id} {scene.caption} {scene.drawing_set}"


def _characters(stem: str) -> str:
    """What a drawing's file name stands for: 1f34e, 1f3c3-200d-2642-fe0f."""
    return plain("".join(chr(int(code, 16)) for code in stem.split("-")))
