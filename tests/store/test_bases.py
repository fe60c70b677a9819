"""Bases: what a move to another one changes, what it refuses, and the way back."""

import pytest

from store.bases import Encoding
from store.errors import (
    BaseMismatch,
    BaseMoved,
    ExpansionCancelled,
    ExpansionInProgress,
    RollbackNotPossible,
    VersionPruned,
)
from store.registry import Registry
from tests.store.steps import (
    begin,
    begin_move,
    learn_again,
    move_base,
    move_encoding,
    promote,
    serve_base,
    submit,
    teach,
    write,
)


def test_the_first_base_is_version_0_and_has_the_name_that_it_was_found_by_last(registry: Registry) -> None:
    (base,) = registry.bases.list()
    assert (base.number, base.name, base.text_fingerprint) == (0, "tiny@/a/a.safetensors", "base-fingerprint")
    for name in ("tiny@/a/c.safetensors", "tiny@/a/b.safetensors"):
        assert registry.initialise("base-fingerprint", name, "image") == registry.releases.get_serving()
    base = registry.bases.find_serving() or base
    assert (base.name, base.public_name, base.image_fingerprint) == ("tiny@/a/b.safetensors", "tiny", "image")


def test_a_base_is_known_by_both_of_its_towers(registry: Registry) -> None:
    registry.encodings.record_first("torch", "float32", "")
    with pytest.raises(BaseMismatch):  # the same text tower, with another one for pictures
        registry.initialise("base-fingerprint", "B", "image-b")
    with pytest.raises(BaseMismatch):
        registry.initialise("other-fingerprint")
    (first,) = registry.bases.list()
    assert first.public_name == "tiny" and not first.has_towers("image-b", "base-fingerprint")
    other = registry.bases.add("B", "image-b", "base-fingerprint", begin_move(registry))
    assert other.number != first.number and registry.bases.find_fingerprints({first.number}) == {
        Encoding("torch", "float32").compute_fingerprint("image")
    }
    for base in (first, other):
        towers = base.image_fingerprint, base.text_fingerprint
        assert [each for each in (first, other) if each.has_towers(*towers)] == [base]
        registry.initialise("base-fingerprint", base.name, base.image_fingerprint)


def test_a_move_is_one_release_with_versions_of_the_new_base_alone(registry: Registry) -> None:
    for tag in "ab":
        teach(registry, tag)
    release = move_base(registry)
    assert (release.number, release.base, release.shared) == (4, 3, 5)
    assert release.languages == {"en": 3, "a": 4, "b": 5}
    assert {name: release.change[name] for name in ("kind", "from_base", "to_base", "to")} == {
        "kind": "base",
        "from_base": 0,
        "to_base": 3,
        "to": "B",
    }
    serving = registry.bases.find_serving()
    assert serving is not None and serving.number == 3
    assert [step.number for step in registry.versions.trace_lineage(5)] == [5, 4, 3]
    registry.initialise("text-b")
    registry.initialise("base-fingerprint")
    with pytest.raises(BaseMismatch, match="pictoglot base move"):
        registry.initialise("text-c")


def test_a_rollback_stays_with_its_base(registry: Registry) -> None:
    for tag in "aba":
        teach(registry, tag)
    release = move_base(registry)
    plan = registry.releases.plan_rollback("a")
    assert (plan.from_version, plan.to_version, plan.shared_version) == (release.languages["a"], None, 5)
    third = teach(registry, "a")
    with pytest.raises(RollbackNotPossible):
        registry.releases.roll_back("en", actor="t", reason="")
    plan = registry.releases.roll_back("a", actor="t", reason="")
    assert (plan.from_version, plan.to_version) == (third, release.languages["a"])
    steps = (1, 3, release.languages["a"])
    assert registry.releases.find_visible("a", steps[-1]) == {registry.versions.get(step).expansion for step in steps}


def test_undo_of_an_encoding_keeps_every_language_as_it_is(registry: Registry) -> None:
    registry.encodings.record_first("torch", "float32")
    teach(registry, "a")
    move_encoding(registry, Encoding("openvino", "float32"))
    teach(registry, "a")
    teach(registry, "b")
    registry.retention.prune(2)  # not even the version that served in the encoding before is needed
    served = registry.releases.get_serving()
    done = registry.bases.undo(actor="t", reason="")
    assert (done.encoding, done.lost, done.returned, done.changed) == ("torch in float32", [], [], [])
    after = registry.releases.get_serving()
    assert (after.number, after.shared, after.languages) == (done.release, served.shared, served.languages)
    assert after.change == {
        **{"kind": "restore", "restored": 2, "from": "tiny", "to": "tiny", "from_base": 0, "to_base": 0},
        "encoding": "torch in float32",
    }
    assert registry.bases.plan_undo().encoding == "openvino in float32"


def test_after_undo_of_an_encoding_a_rollback_goes_where_it_would_have_gone(registry: Registry) -> None:
    registry.encodings.record_first("torch", "float32")
    first = teach(registry, "a")
    move_encoding(registry, Encoding("openvino", "float32"))
    teach(registry, "a")
    teach(registry, "b")
    registry.bases.undo(actor="t", reason="")
    assert {tag: registry.releases.plan_rollback(tag).to_version for tag in "ab"} == {"a": first, "b": None}
    assert registry.retention.prune(2).versions == ()


def test_a_language_is_taught_again_while_only_the_encoding_changes(registry: Registry) -> None:
    teach(registry, "a")
    (serving,) = registry.bases.list()
    move, _ = registry.expansions.submit(kind="base", language="mul", settings={"base": serving.name}, actor="t")
    again = teach(registry, "a")
    assert registry.releases.get_serving().languages["a"] == again
    assert registry.expansions.get(move.id).state == "queued"


def test_a_release_is_restored_with_the_encoding_that_it_had(registry: Registry) -> None:
    first, other = Encoding("torch", "float32"), Encoding("openvino", "float32")
    registry.encodings.record_first(first.backend, first.precision)
    teach(registry, "a")
    lease = begin_move(registry)
    base = registry.bases.add("B", "image-b", "text-b", lease).number
    languages = {"en": base, "a": learn_again(registry, lease, "a", base)}
    assert serve_base(registry, lease, base, languages, 2, other) is not None
    registry.expansions.succeed(lease, base, 3, {})
    registry.releases.restore(2, expected=3, actor="t", reason="")
    assert registry.encodings.find_current() == first and registry.bases.plan_undo().encoding == str(other)
    registry.releases.restore(3, expected=4, actor="t", reason="")
    assert registry.encodings.find_current() == other and registry.bases.plan_undo().encoding == str(first)


def test_what_was_learned_for_the_base_before_is_not_promoted_on_another(registry: Registry) -> None:
    teach(registry, "a")
    lease = begin(registry, "b")
    version = write(registry, lease, "b", 1)
    registry.expansions.give_back_lease(lease)
    with pytest.raises(ExpansionInProgress):
        begin_move(registry)
    registry.expansions.cancel(lease.expansion)
    move_base(registry)
    lease = begin(registry, "b")
    version = write(registry, lease, "b", 1)
    with pytest.raises(BaseMoved):
        promote(registry, lease, version)
    assert "b" not in registry.releases.get_serving().languages


def test_a_move_waits_for_what_is_at_work_and_takes_in_what_came_meanwhile(registry: Registry) -> None:
    teach(registry, "a")
    lease = begin_move(registry)
    base = registry.bases.add("B", "image-b", "text-b", lease).number
    assert registry.bases.add("B", "image-b", "text-b", lease).number == base
    first = learn_again(registry, lease, "a", base)
    with pytest.raises(ExpansionInProgress, match="moves to another base"):
        submit(registry, "a")
    with pytest.raises(ExpansionInProgress):
        registry.bases.plan_undo()
    learning = begin(registry, "b")
    assert serve_base(registry, lease, base, {"a": first}, 2) is None
    version = write(registry, learning, "b", 1)
    release = promote(registry, learning, version)
    registry.expansions.succeed(learning, version.number, release.number, {})
    assert serve_base(registry, lease, base, {"a": first}, 2) is None
    second = learn_again(registry, lease, "b", first)
    done = serve_base(registry, lease, base, {"a": first, "b": second}, release.number)
    assert done is not None and done.languages == {"en": base, "a": first, "b": second}
    assert serve_base(registry, lease, base, {}, 1) == done
    registry.expansions.succeed(lease, base, done.number, {})
    lease = begin_move(registry)
    registry.expansions.cancel(lease.expansion)
    with pytest.raises(ExpansionCancelled):
        serve_base(registry, lease, registry.bases.add("C", "image-c", "text-c", lease).number, {}, done.number)
    assert registry.releases.get_serving() == done


def test_pruning_keeps_the_base_before_while_a_release_in_reach_names_it_and_then_takes_it(registry: Registry) -> None:
    teach(registry, "a")
    release = move_base(registry)
    assert registry.retention.prune(2).versions == ()
    for number in (release.number, release.number + 1):
        registry.releases.restore(release.number, expected=number, actor="t", reason="")
    made_by = registry.encodings.record_first("torch", "float32", "")
    ours = Encoding(made_by.backend, made_by.precision).compute_fingerprint("image")
    assert registry.bases.find_fingerprints({0}) == {ours} and registry.bases.find_fingerprints({1}) == set()
    gone = registry.retention.prune(2)
    assert [version.number for version in gone.versions] == [0, 1]
    assert gone.datasets == ()  # the language on the new base may have to be taught from it again
    with pytest.raises(VersionPruned):
        registry.bases.undo(actor="t", reason="")
    again = registry.bases.add("A", "image", "base-fingerprint", begin_move(registry))
    assert again.number == 4
