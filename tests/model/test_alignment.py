"""The aligner against loops over dictionaries, and where a language's new rows start because of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import objectives
from model.encoder import Encoder
from model.objectives import align_tokens
from model.tokenizer import CLIP_TOKENS
from model.training import Trainer
from tests.model.toy import CAPTIONS, SETTINGS, corpus_for

ALIGNED = replace(SETTINGS, start="aligned")
MEANS = {"afal": "apple", "coch": "red", "ci": "dog", "tŷ": "house", "môr": "sea", "haul": "sun", "a": "and"}
ENGLISH = [" ".join(MEANS.get(word, word) for word in caption.split()) for caption in CAPTIONS]


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
    assert np.unique(said).tolist() == [0, 1, 2]


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
