"""Both losses against loops that say in words what the formulas say; and the tokens of a corpus, made once."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from model.objectives import Corpus, CrossLingual, CrossModal, make_objectives, tokenize_corpus
from model.tokenizer import Tokenizer

SHARED = [
    pytest.param([0, 1, 2, 3, 4], id="each caption has a picture of its own"),
    pytest.param([0, 0, 1, 2, 2], id="captions share pictures"),
    pytest.param([3, 3, 3, 3, 3], id="one picture for all"),
]


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
        made = tokenize_corpus(parent, [*captions, *more], size, tmp_path / folder)
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
