"""Training: exact under TEIR, resumable to the last bit, honest about divergence."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model import checkpoint, training
from model.checkpoint import TokenRows, load_newest, save_step
from model.encoder import Encoder
from model.tokenizer import BEGIN, END
from model.training import LearnSettings, Progress, Trainer, TrainingInterrupted
from store import files
from store.errors import CheckpointMismatch, TrainingDiverged
from tests.model.toy import CAPTIONS, SETTINGS, corpus_for, go_on, learn, noting, same


@pytest.mark.parametrize(("english", "pictures"), [(True, True), (True, False), (False, True)])
def test_the_loss_falls_with_english_pictures_or_both(
    encoder: Encoder, tmp_path: Path, english: bool, pictures: bool
) -> None:
    seen: list[Progress] = []
    corpus = corpus_for(encoder, english=english, pictures=pictures)
    learn(encoder, encoder.base_view, corpus, tmp_path, replace(SETTINGS, epochs=8), noting(seen))
    losses = [each.loss for each in seen]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_a_last_caption_alone_in_its_batch_teaches_nothing_and_hinders_nothing(
    encoder: Encoder, tmp_path: Path
) -> None:
    whole = corpus_for(encoder, english=False)
    corpus = replace(whole, captions=CAPTIONS[:81], pivot_features=whole.pivot_features[:81])
    corpus = replace(corpus, picture_rows=whole.picture_rows[:81])
    seen: list[Progress] = []
    learn(encoder, encoder.base_view, corpus, tmp_path, replace(SETTINGS, epochs=2), noting(seen))
    assert (len(seen), [each.loss for each in seen].count(0.0)) == (12, 2)  # five of 16 and one of 1, twice


@pytest.mark.parametrize(("stop_at", "half"), [(1, False), (6, False), (13, False), (4, True)])
def test_an_interrupted_run_ends_on_the_same_bits(
    encoder: Encoder, tmp_path: Path, stop_at: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "can_multiply_bfloat16", lambda _: half)
    corpus = corpus_for(encoder)
    whole = learn(encoder, encoder.base_view, corpus, tmp_path / "whole", SETTINGS, go_on)
    with pytest.raises(TrainingInterrupted):
        learn(encoder, encoder.base_view, corpus, tmp_path / "cut", SETTINGS, lambda p: p.step == stop_at)
    seen: list[Progress] = []
    resumed = learn(encoder, encoder.base_view, corpus, tmp_path / "cut", SETTINGS, noting(seen))
    assert seen[0].step == stop_at + 1
    assert same(whole, resumed)


def test_a_training_goes_on_from_what_most_of_the_captions_taught(encoder: Encoder, tmp_path: Path) -> None:
    """The tokenizer knows the words of the others from the beginning, so that both have the same tokens."""
    whole = corpus_for(encoder)
    most = replace(
        whole,
        captions=CAPTIONS[:70],
        pivot_features=whole.pivot_features[:70],
        picture_rows=whole.picture_rows[:70],
        others=whole.entries[70:],
    )
    before = learn(encoder, encoder.base_view, most, tmp_path / "most", SETTINGS, go_on)
    alone = learn(encoder, encoder.base_view, whole, tmp_path / "alone", SETTINGS, go_on)
    assert before.merges == alone.merges and {*before.rows.ids} <= {*alone.rows.ids}

    def go_on_from(name: str, settings: LearnSettings) -> Trainer:
        return Trainer(encoder, encoder.base_view, whole, tmp_path / name, settings, before)

    still = go_on_from("still", replace(SETTINGS, learning_rate=1e-12)).learn(go_on)
    places = np.searchsorted(still.rows.ids, before.rows.ids)
    assert torch.allclose(still.rows.rows[torch.from_numpy(places)], before.rows.rows, atol=1e-6)
    assert still.merges == alone.merges and [*still.rows.ids] == [*alone.rows.ids]
    some = replace(whole, captions=CAPTIONS[60:], pivot_features=whole.pivot_features[60:])
    some = replace(some, picture_rows=whole.picture_rows[60:], others=whole.entries[:60])
    part = Trainer(encoder, encoder.base_view, some, tmp_path / "part", SETTINGS, before).learn(go_on)
    assert [*part.rows.ids] == [*alone.rows.ids], "with those that it did not see again"
    uncut = go_on_from("uncut", SETTINGS).learn(go_on)
    with pytest.raises(TrainingInterrupted):
        go_on_from("cut", SETTINGS).learn(lambda progress: progress.step == 3)
    assert same(uncut, go_on_from("cut", SETTINGS).learn(go_on)) and not same(uncut, still)
    with pytest.raises(CheckpointMismatch):
        Trainer(encoder, encoder.base_view, whole, tmp_path / "cut", SETTINGS, alone).learn(go_on)


def test_half_precision_teaches_what_full_precision_does_but_for_rounding(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any machine: bfloat16 without hardware for it is slow, not wrong."""
    corpus = corpus_for(encoder)
    monkeypatch.setattr(training, "can_multiply_bfloat16", lambda _: True)
    full, mixed = (
        learn(encoder, encoder.base_view, corpus, tmp_path / str(on), replace(SETTINGS, mixed_precision=on), go_on)
        for on in (False, True)
    )
    assert full.rows.rows.dtype == mixed.rows.rows.dtype == torch.float32
    start = Trainer(encoder, encoder.base_view, corpus, tmp_path / "start", SETTINGS).rows.detach()[:-2]
    one, other = ((learned.rows.rows - start).flatten() for learned in (full, mixed))
    assert 0.9 < float(torch.cosine_similarity(one, other, dim=0)) < 1.0
    monkeypatch.setattr(training, "can_multiply_bfloat16", lambda _: False)
    assert same(full, learn(encoder, encoder.base_view, corpus, tmp_path / "without", SETTINGS, go_on))


def test_a_damaged_checkpoint_is_saved_again_and_pushes_out_no_whole_one(tmp_path: Path) -> None:
    def kept() -> tuple[list[str], int]:
        newest = load_newest(tmp_path, {})
        assert newest is not None
        assert newest[1]["rows"].tolist() == [newest[0]] * 2
        return sorted(path.name for path in tmp_path.iterdir()), newest[0]

    def save(step: int) -> None:
        save_step(tmp_path, step, {"rows": torch.full((2,), step)}, {})

    save(1)
    save(2)
    (tmp_path / "step-2" / "state.safetensors").write_bytes(b"")
    assert kept() == (["step-1", "step-2"], 1)
    save(2)
    assert kept() == (["step-1", "step-2"], 2)
    (tmp_path / "step-2" / "state.safetensors").write_bytes(b"")
    save(3)
    assert kept() == (["step-1", "step-3"], 3)


class Otherwise(Trainer):
    """Another method."""


@pytest.mark.row("K9")
@pytest.mark.parametrize(
    ("part", "trainer", "settings", "seed"),
    [
        ("corpus", Trainer, SETTINGS, 2),
        ("settings", Trainer, replace(SETTINGS, learning_rate=1e-4), 1),
        ("settings", Trainer, replace(SETTINGS, seed=1), 1),
        ("method", Otherwise, SETTINGS, 1),
        ("settings", Trainer, replace(SETTINGS, vocabulary=10), 1),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    encoder: Encoder, tmp_path: Path, part: str, trainer: type[Trainer], settings: LearnSettings, seed: int
) -> None:
    with pytest.raises(TrainingInterrupted):
        learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, lambda p: p.step == 4)
    with pytest.raises(CheckpointMismatch, match=part):
        trainer(encoder, encoder.base_view, corpus_for(encoder, seed=seed), tmp_path, settings).learn(go_on)


def test_a_checkpoint_on_a_parent_of_other_rows_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    corpus = corpus_for(encoder)
    learned = learn(encoder, encoder.base_view, corpus, tmp_path / "parent", SETTINGS, go_on)
    others = replace(learned, rows=TokenRows(learned.rows.ids, 2 * learned.rows.rows))
    one, other = (encoder.extend(encoder.base_view, n, "br", each) for n, each in enumerate((learned, others), 1))
    with pytest.raises(TrainingInterrupted):
        learn(encoder, one, corpus, tmp_path / "cut", SETTINGS, lambda p: p.step == 4)
    with pytest.raises(CheckpointMismatch, match="parent"):
        learn(encoder, other, corpus, tmp_path / "cut", SETTINGS, go_on)
    learn(encoder, one, corpus, tmp_path / "cut", SETTINGS, go_on)


def test_only_the_corpus_tokens_are_stored(encoder: Encoder, tmp_path: Path) -> None:
    learned = learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, go_on)
    tokenizer = learned.extend_tokenizer(encoder.base_view.tokenizer)
    used = {number for ids in tokenizer.encode(CAPTIONS) for number in ids}
    assert set(learned.rows.ids.tolist()) == used
    assert not {BEGIN, END} & used


SENTENCE, WORD = ("a red apple", None, False), ("apple", None, False)


def test_up_to_10000_captions_start_aligned_and_take_fewer_and_smaller_steps_unless_told_otherwise() -> None:
    def steps(captions: int) -> tuple[str, float, int]:
        settled = LearnSettings().resolve([SENTENCE] * captions, "drawn")
        number = math.ceil(captions / settled.batch_size) * settled.choose_epochs(captions)
        highest = max(settled.compute_rate(step, number) for step in range(1, number + 1))
        return settled.start, round(highest, 4), number

    sizes = (10, 64, 200, 400, 800, 1_000, 2_000, 3_485, 9_600)
    assert [steps(captions) for captions in sizes] == [
        ("aligned", 0.004, 40), ("aligned", 0.004, 40), ("aligned", 0.004, 48), ("aligned", 0.004, 84),
        ("aligned", 0.0025, 156), ("aligned", 0.002, 192), ("aligned", 0.002, 384), ("aligned", 0.002, 605),
        ("aligned", 0.002, 600),
    ]  # fmt: skip
    assert [steps(captions) for captions in (10_001, 100_000)] == [("drawn", 0.004, 1_099), ("drawn", 0.004, 4_689)]
    assert LearnSettings(start="aligned").resolve([SENTENCE] * 100_000, "drawn").epochs == 3
    assert LearnSettings().resolve([WORD] * 50_001 + [SENTENCE] * 50_000, "drawn").start == "aligned"
    dictionary = LearnSettings().resolve([WORD] * 40_000, "drawn")
    assert (dictionary.batch_size, dictionary.epochs, dictionary.count_steps(40_000)) == (256, 1, 157)
    times = [LearnSettings().resolve([WORD] * count, "drawn").epochs for count in (9_600, 12_000, 25_001, 37_501)]
    assert times == [4, 3, 2, 1]
    words = range(40_000)
    rows = [len(dictionary.repeat_captions(range(40_000 + captions), words)) for captions in (0, 400, 10_000, 50_000)]
    assert rows == [40_000, 42_400, 80_000, 90_000]
    of_pieces = LearnSettings().resolve([SENTENCE] * 500, "pieces")
    assert (of_pieces.start, of_pieces.choose_epochs(500)) == ("drawn", 40)
    settings = LearnSettings(start="drawn")
    assert settings.resolve([SENTENCE] * 500, "drawn") == settings and settings.choose_epochs(500) == 40
    assert LearnSettings(start="aligned").resolve([SENTENCE] * 500, "drawn") == LearnSettings().resolve(
        [SENTENCE] * 500, "drawn"
    )
    settings = LearnSettings(epochs=7, learning_rate=0.001).resolve([SENTENCE] * 500, "drawn")
    assert (settings.start, settings.epochs, settings.learning_rate) == ("aligned", 7, 0.001)


def test_sentences_without_spaces_are_no_list_of_words() -> None:
    sentences, words = (
        [(*texts, False)] * 12_000 for texts in (("红苹果和汽车", "a red apple and a car"), ("苹果", "apple"))
    )
    settled = LearnSettings().resolve(sentences, "drawn")
    assert settled == LearnSettings().resolve([SENTENCE] * 12_000, "drawn") and settled.count_steps(12_000) == 1_128
    listed = [("红绿灯", "traffic light", True)] * 12_000
    assert [LearnSettings().resolve(each, "drawn").count_steps(12_000) for each in (words, listed)] == [141, 141]


def test_who_goes_on_sees_what_it_knows_a_sixth_as_often() -> None:
    """In 48 steps at least, since new rows need them, but for those of words."""

    def shorten(captions: int, epochs: int, **least: int) -> tuple[int, int]:
        shorter, one_in = LearnSettings(epochs=epochs).shorten(captions, **least)
        return shorter.epochs, one_in

    assert shorten(9_600, 12) == (2, 1)
    assert shorten(40_000, 1) == (1, 6) and shorten(20_000, 3) == (1, 2)
    assert shorten(3_000, 1) == (1, 1), "47 steps"
    assert shorten(100, 24) == (24, 1)
    assert shorten(12_000, 3, least=0) == (1, 2) and shorten(5_000, 7, least=0) == (1, 1)
    assert shorten(3_000, 1, least=0) == (1, 6) and shorten(1_000, 12, least=0) == (2, 1)


def test_a_training_is_of_the_settings_that_its_dataset_gives(encoder: Encoder, tmp_path: Path) -> None:
    trainer = Trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, LearnSettings(batch_size=16))
    assert trainer.settings == LearnSettings(batch_size=16).resolve(
        [(caption, None, False) for caption in CAPTIONS], "drawn"
    )
    assert trainer.settings.start == "aligned"


def test_the_rate_rises_stays_and_falls_or_stays_as_published() -> None:
    falls = LearnSettings(learning_rate=1.0, warmup=0.1, cooldown=0.5)
    assert [round(falls.compute_rate(step, 100), 2) for step in (1, 5, 10, 50, 51, 76, 100)] == [
        0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.02,
    ]  # fmt: skip
    constant = LearnSettings(learning_rate=0.2, warmup=0.1, cooldown=0.0)
    assert {constant.compute_rate(step, 100) for step in range(10, 101)} == {0.2}


def test_rows_that_overflow_in_the_last_step_are_no_version(encoder: Encoder, tmp_path: Path) -> None:
    """The loss is looked at before each step, so the last one needs a look of its own."""
    corpus = corpus_for(encoder)
    last = math.ceil(len(CAPTIONS) / SETTINGS.batch_size) * SETTINGS.choose_epochs(len(CAPTIONS))
    with pytest.raises(TrainingInterrupted):
        learn(encoder, encoder.base_view, corpus, tmp_path, SETTINGS, lambda p: p.step == last - 1)
    newest = tmp_path / f"step-{last - 1}"
    manifest = files.verify(newest)
    state = load_file(newest / "state.safetensors")
    state["rows.adam.exp_avg"][:, 0] = math.inf
    files.remove(newest)
    checkpoint.save_step(tmp_path, last - 1, state, manifest["belongs"])
    with pytest.raises(TrainingDiverged):
        learn(encoder, encoder.base_view, corpus, tmp_path, SETTINGS, go_on)
    assert not (tmp_path / f"step-{last}").exists()
