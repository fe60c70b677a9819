"""Losses, alignment, and where rows start and how far they move, against slow loops that say what formulas say."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.emoji36.trainer import StepScaledAdamW
from model import objectives
from model.encoder import Encoder, View, pad
from model.objectives import (
    NO_PICTURE,
    Corpus,
    CrossLingual,
    CrossModal,
    align_tokens,
    make_objectives,
    tokenize_corpus,
)
from model.tokenizer import BEGIN, CLIP_TOKENS, END, Tokenizer
from model.training import Trainer
from tests.model.toy import CAPTIONS, SETTINGS, WORDS, corpus_for, go_on, learn

SHARED = [
    pytest.param([0, 1, 2, 3, 4], id="each caption has a picture of its own"),
    pytest.param([0, 0, 1, 2, 2], id="captions share pictures"),
    pytest.param([3, 3, 3, 3, 3], id="one picture for all"),
]
ALIGNED = replace(SETTINGS, start="aligned")
MEANS = {"afal": "apple", "coch": "red", "ci": "dog", "tŷ": "house", "môr": "sea", "haul": "sun", "a": "and"}
ENGLISH = [" ".join(MEANS.get(word, word) for word in caption.split()) for caption in CAPTIONS]
RATE = 4e-3

# So small a norm of the gradient that Adam's eps counts: much above it, a factor on the gradient is divided out again.
FAINT = 1e-5
Sequences = list[NDArray[np.int64]]


def features(owner: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    student = torch.randn(len(owner), 6, generator=random)
    gallery = torch.randn(5, 6, generator=random)
    return student, gallery[owner]


def test_the_cross_lingual_loss_is_a_mean_over_captions_and_dimensions_of_what_is_not_normalised() -> None:
    student, teacher = features([0, 1, 2, 3, 4])
    total = sum((float(a) - float(b)) ** 2 for a, b in zip(student.flatten(), teacher.flatten(), strict=True))
    assert float(CrossLingual()(student, teacher)) == pytest.approx(total / student.numel(), rel=1e-5)
    assert float(CrossLingual()(2 * student, 2 * teacher)) == pytest.approx(4 * total / student.numel(), rel=1e-5)


@pytest.mark.parametrize("owner", SHARED)
def test_the_cross_modal_loss_shares_the_target_mass_among_captions_of_one_picture(owner: list[int]) -> None:
    student, pictures = features(owner)
    assert float(CrossModal()(student, pictures, torch.tensor(owner)).detach()) == pytest.approx(
        (one_way(student, pictures, owner) + one_way(pictures, student, owner)) / 2, rel=1e-5
    )


def one_way(asking: torch.Tensor, asked: torch.Tensor, owner: list[int]) -> float:
    """For each row: minus the mean log-probability of those that show its picture, cosines over 0.07."""
    total = 0.0
    for i, row in enumerate(asking):
        cosines = [float(row @ other / row.norm() / other.norm()) / 0.07 for other in asked]
        normaliser = math.log(sum(math.exp(value) for value in cosines))
        positives = [j for j in range(len(owner)) if owner[j] == owner[i]]
        total -= sum(cosines[j] - normaliser for j in positives) / len(positives)
    return total / len(owner)


@pytest.mark.parametrize(("set_to", "used"), [(3.0, 0.5), (-1.0, 0.001), (0.2, 0.2)])
def test_the_temperature_is_held_within_its_bounds_before_each_use(set_to: float, used: float) -> None:
    loss = CrossModal()
    assert loss.temperature.item() == pytest.approx(0.07)
    loss.temperature.data.fill_(set_to)
    student, pictures = features([0, 1, 2, 3, 4])
    loss(student, pictures, torch.arange(5))
    assert loss.temperature.item() == pytest.approx(used)


def total(objectives: list[Any], features: torch.Tensor, corpus: Corpus) -> float:
    terms = [each.compute_loss(features, corpus, torch.arange(len(features))) for each in objectives]
    return sum(float(term.detach()) for term in terms if term is not None)


def test_balanced_losses_keep_their_shares_whatever_size_the_teachers_features_have() -> None:
    student, pictures = features([0, 1, 2, 3, 4])
    english = torch.randn(5, 6, generator=torch.Generator().manual_seed(5))
    english[3] = math.nan  # one caption has no translation
    losses = []
    for size in (1.0, 7.0):
        corpus = Corpus("cy", [*"abcde"], size * english, pictures, torch.arange(5))
        losses.append(total(make_objectives(corpus), size * student, corpus) / size**2)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    weights = [each.weight for each in make_objectives(corpus) if isinstance(each, CrossModal)]
    assert weights == [pytest.approx(0.1 * 49 * float(english[[0, 1, 2, 4]].square().mean()), rel=1e-5)]


def test_without_english_the_pictures_alone_teach() -> None:
    _, pictures = features([0, 1, 2, 3, 4])
    corpus = Corpus("cy", [*"abcde"], torch.full((5, 6), math.nan), pictures, torch.arange(5))
    weights = [each.weight for each in make_objectives(corpus) if isinstance(each, CrossModal)]
    assert weights == [1.0]


@pytest.mark.parametrize("other", ["damaged", "captions", "vocabulary", "parent"])
def test_tokens_are_kept_for_the_very_corpus_and_parent_they_were_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    captions = [f"{a} a {b}" for a in ("afal", "môr", "भाषा") for b in ("coch", "haul", "शिशु")]

    def make(folder: str, parent: Tokenizer, *more: str, size: int = 300) -> tuple[str, list[list[int]]]:
        made = tokenize_corpus(parent, [(each, None, False) for each in (*captions, *more)], size, tmp_path / folder)
        return made.tokenizer.sha256, [ids.tolist() for ids in made.ids]

    first = make("kept", Tokenizer())
    assert first[1] == Tokenizer().grow(captions, 300).encode(captions)
    with monkeypatch.context() as without:
        without.setattr(Tokenizer, "grow", None)  # to call it would fail
        assert make("kept", Tokenizer()) == first
    if other == "damaged":
        file = tmp_path / "kept" / "kept.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    parent = Tokenizer().grow(["llong fawr"] * 5, 300) if other == "parent" else Tokenizer()
    more, size = (("seren",) if other == "captions" else ()), 2 if other == "vocabulary" else 300
    made = make("kept", parent, *more, size=size)
    assert made == make("elsewhere", parent, *more, size=size) and (made == first) == (other == "damaged")


def lines(pairs: Sequence[Sequence[int]]) -> list[np.ndarray]:
    return [np.array(line, dtype=np.int32) for line in pairs]


def slowly(captions: Sequence[Sequence[int]], english: Sequence[Sequence[int]]) -> dict[tuple[int, int], float]:
    """p(e | f) after eight rounds in which p(e | f) and p(f | e) agree, as the paper says it."""
    forth: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    back: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    for _ in range(8):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        for said, source in zip(captions, english, strict=True):
            for e in source:
                for f in said:
                    from_f = forth[f, e] / sum(forth[other, e] for other in said)
                    from_e = back[f, e] / sum(back[f, other] for other in source)
                    counts[f, e] += from_f * from_e
        of_f, of_e = defaultdict[int, float](float), defaultdict[int, float](float)
        for (f, e), count in counts.items():
            of_f[f] += count
            of_e[e] += count
        forth = defaultdict(float, {(f, e): count / of_f[f] for (f, e), count in counts.items()})
        back = defaultdict(float, {(f, e): count / of_e[e] for (f, e), count in counts.items()})
    return dict(forth)


def test_probabilities_are_those_of_eight_rounds_of_expectation_and_maximisation() -> None:
    random = np.random.default_rng(0)
    captions = [random.integers(0, 9, random.integers(1, 6)).tolist() for _ in range(40)]  # words repeat in a caption
    english = [random.integers(100, 112, random.integers(0, 6)).tolist() for _ in range(40)]  # and some have no English
    said, source, probability = align_tokens(lines(captions), english)
    found = dict(zip(zip(said.tolist(), source.tolist(), strict=True), probability.tolist(), strict=True))
    assert found == pytest.approx(slowly(captions, english))
    assert np.bincount(said, probability)[np.unique(said)] == pytest.approx(1.0)
    assert (np.diff(said) >= 0).all()


def test_of_a_very_large_corpus_only_a_part_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "_MOST", 10)
    said, _, _ = align_tokens(lines([[number, number] for number in range(100)]), [[7, 8]] * 100)
    assert np.unique(said).tolist() == [0, 33, 66], "from all parts of it"


def test_without_english_nothing_is_aligned() -> None:
    assert [len(part) for part in align_tokens(lines([[1, 2]]), [[]])] == [0, 0, 0]
    assert [len(part) for part in align_tokens([], [])] == [0, 0, 0]


def test_a_new_row_starts_as_the_mean_of_the_english_rows_it_stands_for_and_as_drawn_as_far_as_that_is_unsure(
    encoder: Encoder, tmp_path: Path
) -> None:
    texts = [None if number % 9 == 0 else text for number, text in enumerate(ENGLISH)]
    corpus = replace(corpus_for(encoder), pivot_texts=texts)
    trainer, plain = (
        Trainer(encoder, encoder.base_view, corpus, tmp_path / settings.start, settings)
        for settings in (ALIGNED, replace(SETTINGS, start="drawn"))
    )
    paired = [place for place, text in enumerate(texts) if text is not None]
    said = [trainer.tokenizer.encode([CAPTIONS[place]])[0] for place in paired]
    source = encoder.base_view.tokenize([str(texts[place]) for place in paired])
    mean, sure = dict[int, torch.Tensor](), defaultdict[int, float](float)
    for (f, e), share in slowly(said, source).items():
        mean[f] = mean.get(f, torch.zeros(encoder.base.table.shape[1])) + share * encoder.base.table[e]
        sure[f] += share**2
    new = trainer.used[trainer.used >= CLIP_TOKENS].tolist()
    assert len(new) > 5 and min(sure[token] for token in new) < 0.6 < max(sure[token] for token in new)
    for token, row, drawn in zip(trainer.used.tolist(), trainer.rows.detach(), plain.rows.detach(), strict=False):
        if token >= CLIP_TOKENS:
            expected = mean[token] + max(0.0, 1 - sure[token]) ** 0.5 * drawn
            torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-6)
        else:  # a row that the parent has stays as it is
            assert torch.equal(row, encoder.base.table[token])


def test_without_english_texts_new_rows_are_drawn(encoder: Encoder, tmp_path: Path) -> None:
    unknown, none = corpus_for(encoder), replace(corpus_for(encoder), pivot_texts=[None] * len(CAPTIONS))
    starts = [
        Trainer(encoder, encoder.base_view, corpus, tmp_path / str(number), ALIGNED).rows.detach()
        for number, corpus in enumerate((unknown, none, replace(unknown, pivot_texts=ENGLISH)))
    ]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_a_word_that_starts_as_its_english_is_not_trained_unless_others_move_its_row(
    encoder: Encoder, tmp_path: Path
) -> None:
    captions, texts = ["afal", "blodyn", "coch", "coch môr"], ["apple", "flower", "red", "red sea"]
    whole, few = corpus_for(encoder, pictures=False), len(captions)
    corpus = replace(whole, captions=captions, pivot_texts=texts, pivot_features=whole.pivot_features[:few])
    corpus = replace(corpus, picture_rows=whole.picture_rows[:few])
    trainer = Trainer(encoder, encoder.base_view, corpus, tmp_path, ALIGNED)
    assert [captions[place] for place in trainer.lesson] == ["coch", "coch môr"]
    assert trainer.steps == ALIGNED.epochs
    learned, base = trainer.learn(lambda _: False).rows, encoder.base_view
    row = learned.rows[learned.ids.tolist().index(trainer.tokenizer.encode(["afal"])[0][0])]
    assert torch.allclose(row, encoder.base.table[base.tokenize(["apple"])[0][0]].float(), rtol=0.01)
    pictured = replace(corpus, picture_rows=torch.arange(few), pictures=whole.pictures)
    assert len(Trainer(encoder, base, pictured, tmp_path, ALIGNED).lesson) == few
    drawn = replace(SETTINGS, start="drawn")
    assert len(Trainer(encoder, base, corpus, tmp_path, drawn).lesson) == few


def test_new_rows_are_drawn_like_the_whole_table_as_it_is_now(encoder: Encoder, tmp_path: Path) -> None:
    """After a language whose rows are far away, what a later one begins with has its mean and deviation too."""
    base = encoder.base_view
    far = encoder.table.append(torch.full((40_000, encoder.base.table.shape[1]), 3.0))
    view = base.extend(1, "xx", base.tokenizer, np.arange(0, 40_000, dtype=np.int64), far, {})
    trainer = Trainer(encoder, view, corpus_for(encoder), tmp_path, SETTINGS)
    new = trainer.rows.detach()[torch.from_numpy(trainer.ids >= view.tokenizer.size)]
    whole = encoder.table.rows[torch.from_numpy(view.physical[view.physical >= 0]).long()]
    assert len(new) > 5
    assert new.mean().item() == pytest.approx(whole.mean().item(), abs=0.4)  # the base's own mean is 0
    assert new.std().item() == pytest.approx(whole.std().item(), rel=0.2)


@pytest.mark.parametrize("kind", [objectives.ScaledAdamW, StepScaledAdamW], ids=["gradient", "step"])
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-7, 1e-8])
def test_one_step_is_the_published_one(size: float, kind: type[objectives.ScaledAdamW]) -> None:
    """Clip by the norm of the unscaled gradient, decay by the row's scale, scale the gradient, then Adam; in numpy.

    Or scale what Adam would do. Only gradients about as small as Adam's eps tell the one from no scale at all.
    """
    random = np.random.default_rng(0)
    start, rate, clip, weight_decay = random.standard_normal((3, 4)), 0.01, 0.5, 0.2
    gradients = size * random.standard_normal((2, 3, 4))
    scale = np.array([[1.0], [1 / 3], [0.0]])
    before, after = (np.ones((3, 1)), scale) if kind is StepScaledAdamW else (scale, np.ones((3, 1)))

    rows, first, second = start.copy(), np.zeros((3, 4)), np.zeros((3, 4))
    for step, gradient in enumerate(gradients, 1):
        scaled = before * gradient * min(1.0, clip / np.sqrt((gradient**2).sum()))
        first, second = 0.9 * first + 0.1 * scaled, 0.999 * second + 0.001 * scaled**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-6)
        rows = rows * (1 - rate * weight_decay * scale) - rate * after * move

    table = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = kind(table, torch.from_numpy(scale), [], decay=weight_decay)
    for gradient in gradients:
        table.grad = torch.from_numpy(gradient.copy())
        optimizer.step(rate, clip)
    moved = table.detach().numpy() - start
    assert np.allclose(moved[:2], (rows - start)[:2], rtol=1e-5, atol=0)
    assert np.array_equal(table.detach().numpy()[2], start[2])


@pytest.mark.parametrize("clip", [0.1, FAINT])
def test_a_gathered_step_is_the_full_tables_step(encoder: Encoder, clip: float) -> None:
    """One optimizer step over the whole table, with scale 0 outside the corpus, against the same over the used rows."""
    view = encoder.base_view
    sequences = [view.build_sequence(ids)[0].astype(np.int64) for ids in view.tokenize(CAPTIONS[:8])]
    used = np.unique(np.concatenate(sequences))
    target = torch.randn((8, encoder.dimension), generator=torch.Generator().manual_seed(3))
    frozen = np.isin(used, [BEGIN, END])
    scale = objectives.compute_row_scale(view.count_frequency(used, "cy"))
    scale[torch.from_numpy(frozen)] = 0

    full = nn.Parameter(encoder.base.table.clone())
    full_scale = torch.zeros(len(full), 1)
    full_scale[torch.from_numpy(used)] = scale
    gradient = one_step(encoder, full, full_scale, sequences, target, clip)

    gathered = nn.Parameter(encoder.base.table[torch.from_numpy(used)].clone())
    local = [np.searchsorted(used, sequence) for sequence in sequences]
    one_step(encoder, gathered, scale, local, target, clip)

    assert torch.equal(full[torch.from_numpy(used)], gathered)
    untouched = np.setdiff1d(np.arange(len(full)), used[~frozen])
    assert torch.equal(full[torch.from_numpy(untouched)], encoder.base.table[torch.from_numpy(untouched)])
    assert gradient.norm() > clip
    assert_published(full.detach(), encoder.base.table, gradient, full_scale, clip)


def one_step(
    encoder: Encoder, table: nn.Parameter, scale: Tensor, sequences: Sequences, target: Tensor, clip: float
) -> Tensor:
    optimizer = objectives.ScaledAdamW(table, scale, [], decay=SETTINGS.weight_decay)
    gradient = gradient_of(encoder, table, sequences, target)
    optimizer.step(RATE, clip)
    return gradient


def gradient_of(encoder: Encoder, table: nn.Parameter, sequences: Sequences, target: Tensor) -> Tensor:
    numbers, last = pad([sequence.astype(np.int32) for sequence in sequences], encoder.base.reading)
    loss = nn.functional.mse_loss(encoder.base.compute_text_features(table[numbers], last), target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    return table.grad.clone()


def assert_published(after: Tensor, before: Tensor, gradient: Tensor, scale: Tensor, clip: float) -> None:
    """Adam's first step is g / (|g| + eps): the moments' own factors are 1 once their bias is taken out."""
    start, scale = before.double(), scale.double()
    scaled = scale * gradient.double() * clip / gradient.double().norm()
    expected = start * (1 - RATE * SETTINGS.weight_decay * scale) - RATE * scaled / (scaled.abs() + 1e-6)
    torch.testing.assert_close(after.double() - start, expected - start, rtol=5e-3, atol=1e-8)


def test_a_row_counts_one_more_for_every_other_language_that_trained_it(encoder: Encoder, tmp_path: Path) -> None:
    first = learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path / "1", SETTINGS, go_on)
    view: View = encoder.extend(encoder.base_view, 1, "cy", first)
    ids = first.rows.ids
    expected = np.where(ids < CLIP_TOKENS, 3, 2)
    assert (view.count_frequency(ids, "br") == expected).all()
    unseen = np.array([320, 321, view.tokenizer.size + 5])
    new = ~np.isin(unseen, ids)
    assert (view.count_frequency(unseen[new], "br") == np.array([2, 2, 1])[new]).all()
    # taught again, a language is not its own predecessor
    assert (view.count_frequency(ids, "cy") == expected - 1).all()
    grown = view.tokenizer.grow(CAPTIONS, 400)
    assert grown.merges == view.tokenizer.merges  # nothing new to learn from the same corpus


def test_a_second_languages_step_is_scaled_by_the_languages_before_it(encoder: Encoder, tmp_path: Path) -> None:
    """All of `learn` in one step: that of the full table, with f counted here, begin and end of text in the norm."""
    welsh = corpus_for(encoder)
    first = learn(encoder, encoder.base_view, welsh, tmp_path, SETTINGS, go_on)
    view = encoder.extend(encoder.base_view, 1, "cy", first)
    held = {number for ids in view.tokenizer.encode(CAPTIONS) for number in ids}
    captions = [f"{a} {b}" for a in WORDS[:4] for b in ("kazh", "bleunioù", "mor", "an heol")] * 2
    features = torch.randn((len(captions), encoder.dimension), generator=torch.Generator().manual_seed(2))
    breton = Corpus("br", captions, features, welsh.pictures, torch.full((len(captions),), NO_PICTURE))
    settings = replace(SETTINGS, epochs=1, batch_size=len(captions), warmup=0.0, cooldown=0.0, clip=FAINT)
    settings = replace(settings, mixed_precision=False)
    trainer = Trainer(encoder, view, breton, tmp_path / "br", settings)
    start = trainer.rows.detach().clone()
    learned = trainer.learn(go_on)

    tokens = learned.extend_tokenizer(view.tokenizer).encode(captions)
    used = np.array(sorted({number for ids in tokens for number in ids}))
    languages = [1 + (number < CLIP_TOKENS) + (number in held) for number in used.tolist()]
    assert {*languages} == {1, 2, 3}
    scale = torch.tensor([*(1 / f for f in languages), 0.0, 0.0])[:, None]
    place = {number: at for at, number in enumerate([*used.tolist(), BEGIN, END])}
    local = [np.array([place[number] for number in (BEGIN, *ids, END)]) for ids in tokens]
    gradient = gradient_of(encoder, nn.Parameter(start.clone()), local, features)
    assert gradient[-2:].norm() > gradient[:-2].norm() > FAINT  # left out of the norm, they would be missed
    assert learned.rows.ids.tolist() == used.tolist()
    after = torch.cat([learned.rows.rows, start[-2:]])
    assert_published(after, start, gradient, scale, FAINT)


def test_begin_and_end_of_text_keep_their_bits_under_teir(encoder: Encoder, tmp_path: Path) -> None:
    """They are not stored with a language, so a training that moved them would learn for a table that nobody has."""
    learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, go_on)
    newest = max(tmp_path.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
    rows = load_file(newest / "state.safetensors")["rows"]
    assert torch.equal(rows[-2:], encoder.base.table[[BEGIN, END]])
    assert not torch.equal(rows[0], encoder.base.table[BEGIN])
