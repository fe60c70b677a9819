"""The bundled base for photographs: its files, how its pictures are prepared, and that it finds things."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import normalize, pil_to_tensor

from demo.drawings import load_drawing
from demo.emojis import load_catalogue
from demo.photos import __main__ as photos
from demo.photos.concepts import Concepts, read_classes
from demo.photos.packages import fetch
from demo.photos.phrases import Phrase, Phrases
from demo.photos.wordnet import WordNet
from model.backend import has_bfloat16_instructions
from model.base import BUNDLED, Base, open_base
from model.encoder import Encoder
from model.pictures import read_rgb
from model.reading import Reading
from model.tokenizer import Tokenizer
from store.bases import BFLOAT16, OPENVINO
from tests.demo import small_wordnet

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "model" / "bundled"
NAME = BUNDLED["photos"]
CARD = ROOT / "docs" / "bases.md"


@pytest.fixture(scope="module")
def base() -> Base:
    return open_base("photos", "cpu")


@pytest.fixture(scope="module")
def encoder(base: Base) -> Encoder:
    return Encoder(base)


def test_it_reads_text_as_clip_and_is_the_same_every_time(base: Base) -> None:
    again = open_base("photos", "cpu")
    assert base.reading == Reading((49_406,), (49_407,), 48, 49_408)
    assert (base.text_fingerprint, base.image_fingerprint) == (again.text_fingerprint, again.image_fingerprint)
    assert (base.dimension, base.picture_size) == (384, (260, 260))


def test_a_picture_is_prepared_as_its_json_says(base: Base) -> None:
    """The longer side to 260, bicubic, the rest white; then mean 127/255 and deviation 128/255."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 520, 3), dtype=np.uint8))
    shrunk = Image.new("RGB", (260, 260), "white")
    shrunk.paste(picture.resize((260, 65), Image.Resampling.BICUBIC), (0, 97))
    pixels = pil_to_tensor(shrunk).float() / 255
    expected = normalize(pixels, [127 / 255] * 3, [128 / 255] * 3)
    prepared = base.preprocess(picture)
    assert prepared.shape == (3, 260, 260)
    assert torch.allclose(prepared[:, 0], torch.ones(3, 260))  # white
    assert float((prepared - expected).abs().max()) < 1e-5
    said = json.loads((FOLDER / f"{NAME}.json").read_text())["preprocess_cfg"]
    assert said["mean"] == pytest.approx([127 / 255] * 3) and said["std"] == pytest.approx([128 / 255] * 3)


def test_a_transparent_picture_is_seen_on_white(encoder: Encoder) -> None:
    """open_clip alone would drop the alpha channel, and show what lies hidden below it."""
    cut = Image.new("RGBA", (96, 96), (0, 120, 0, 0))
    cut.paste(Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 50).convert("RGBA"), (24, 24))
    white = Image.new("RGB", cut.size, "white")
    white.paste(cut, mask=cut.getchannel("A"))
    seen = [encoder.encode_pictures([read_rgb(_encode_png(picture))])[0] for picture in (cut, white)]
    assert np.array_equal(*seen)
    assert float(seen[0] @ encoder.encode_pictures([cut.convert("RGB")])[0]) < 0.95


def test_in_bfloat16_it_is_near_enough_and_a_picture_is_seen_as_alone(base: Base, tmp_path: Path) -> None:
    """Decision 25; before, OpenVINO refused it and torch took over."""
    backend = pytest.importorskip("model.openvino", reason="openvino is not installed")
    if not has_bfloat16_instructions(OPENVINO, base.device):
        pytest.skip("this processor does not multiply bfloat16")
    towers = backend.OpenVinoTowers(base, BFLOAT16, tmp_path, threads=1)
    emojis = {emoji.name: emoji.characters for emoji in load_catalogue()}
    shown = [
        read_rgb(_encode_png(load_drawing(emojis[thing], "twemoji", 200))) for thing in ("dog", "banana", "violin")
    ]
    exact, encoder = Encoder(base).encode_pictures(shown), Encoder(base, towers)
    together, alone = encoder.encode_pictures(shown), encoder.encode_pictures(shown, batch=1)
    assert (together * alone).sum(1).min() > 0.99999 and (together * exact).sum(1).min() > 0.97


THINGS = ("dog", "apple", "bicycle", "banana", "sailboat", "snail", "violin", "elephant", "hammer", "pizza", "owl")


def test_it_finds_things_by_their_names(encoder: Encoder) -> None:
    """Among drawings; photographs, which are no package's, are asked in `benchmarks.stamps`."""
    emojis = {emoji.name: emoji.characters for emoji in load_catalogue()}
    names = {"apple": "red apple", "sailboat": "sailboat"}
    shown = []
    for thing in THINGS:
        cut = load_drawing(emojis[names.get(thing, thing)], "twemoji", 200)
        white = Image.new("RGB", (240, 240), "white")
        white.paste(cut, (20, 20), cut.getchannel("A"))
        shown.append(white)
    pictures = encoder.encode_pictures(shown)
    for frame in ("{}", "A {}.", "a small {} on a table"):
        texts = encoder.encode_texts([(encoder.base_view, frame.format(thing)) for thing in THINGS]).vectors
        found = (texts @ pictures.T).argmax(1)
        assert (found == np.arange(len(THINGS))).mean() >= 0.9, frame


def test_rows_that_no_phrase_trained_keep_the_scale_that_new_languages_start_from(base: Base) -> None:
    thai = {number for ids in Tokenizer().encode(["สวัสดี ครับ"]) for number in ids}
    assert 0.01 < float(base.table[sorted(thai)].std()) < 0.06


# --- how it was made --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("small")
    small_wordnet.write(work)
    torch.manual_seed(0)
    save_file({"features": torch.rand(len(load_catalogue()), 1280)}, work / "drawings.safetensors")
    return work


def test_a_class_is_its_row_a_hypernym_the_mean_and_a_stranger_a_mixture(small: Path) -> None:
    packages = fetch(small)
    wordnet, known = WordNet.read(packages), read_classes(packages)
    concepts = Concepts(wordnet, known)
    own, above, stranger = (
        concepts.weigh_synset(number)
        for number in (small_wordnet.FIRST + 4, small_wordnet.ANIMAL, small_wordnet.STRANGER)
    )
    assert own[4] == 1 and own.sum() == 1
    assert np.allclose(above[::2], 1 / 500) and not above[1::2].any()
    assert stranger.argmax() == 0 and stranger.sum() == pytest.approx(1) and (stranger >= 0).all()
    assert not known[3].description and known[4].names == (wordnet.synsets[small_wordnet.FIRST + 4].words[0],)
    found = [wordnet.find_lemma(word) for word in ("mice", "animals", "nothing")]
    assert found == ["mouse", "animal", None]
    assert concepts.list_senses("stranger") == [(1.0, small_wordnet.STRANGER)]


def test_words_for_persons_are_unseen_unless_they_name_a_class(small: Path) -> None:
    wordnet = WordNet.read(fetch(small))
    assert wordnet.list_unseen([]) == ["mice", "mouse", "person", "stranger"]
    assert wordnet.list_unseen([small_wordnet.STRANGER]) == ["mice", "mouse", "person"]


@pytest.mark.nightly
def test_a_resumed_training_is_bitwise_equal_to_an_uninterrupted_one(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(out: str) -> None:
        photos.main(steps=4, size=8, every=2, work=small, out=small / out)

    train("whole.safetensors")
    checkpoint = small / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.unlink()
    drawn: list[int] = []

    def draw(phrases: Phrases, step: int, size: int) -> list[Phrase]:
        drawn.append(step)
        if step == 3 and drawn.count(3) == 1:
            raise KeyboardInterrupt
        return draw_phrases(phrases, step, size)

    draw_phrases = Phrases.draw
    monkeypatch.setattr(Phrases, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        train("parts.safetensors")
    train("parts.safetensors")
    assert drawn == [0, 1, 2, 3, 2, 3]
    assert checkpoint.read_bytes() == whole
    assert (small / "parts.safetensors").read_bytes() == (small / "whole.safetensors").read_bytes()


# --- its card ---------------------------------------------------------------------------------------------------------


def test_the_card_states_the_figures_of_the_report() -> None:
    card = CARD.read_text(encoding="utf-8")
    report = json.loads((ROOT / "docs" / "reports" / "stamps.json").read_text())
    for half in ("dev", "test"):
        for part in ("all", "known", "not known"):
            figures = report["english"][half][part]
            shown = [part, half, f"{figures['captions']}", *(f"{figures[f'R@{k}']:.1f}" for k in (1, 5, 10))]
            assert f"| {' | '.join(shown)} |" in card, shown


def test_the_report_is_about_the_weights_that_are_here(base: Base) -> None:
    report = json.loads((ROOT / "docs" / "reports" / "stamps.json").read_text())
    assert report["text_fingerprint"] == base.text_fingerprint


def _encode_png(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
