"""What the benchmark of pivots teaches from: the same captions beside either language, pictures only to be measured."""

import typer
from typer.testing import CliRunner

from benchmarks import pivots, tokenizer_growth
from benchmarks.pivots import pairs
from demo.dataset import rows


def test_a_language_that_the_demo_does_not_have_is_refused_before_anything_is_taught() -> None:
    for main, arguments in ((pivots.main, ["--languages", "fr,xx"]), (tokenizer_growth.main, ["fr", "xx"])):
        app = typer.Typer()
        app.command()(main)
        refused = CliRunner().invoke(app, arguments)
        assert (refused.exit_code, "there are no captions in xx" in refused.stderr) == (2, True), refused.output


def test_both_trainings_have_the_same_captions_and_see_no_picture() -> None:
    english, german = pairs("fr", "en"), pairs("fr", "de")
    assert [row["caption"] for row in english] == [row["caption"] for row in german]
    for other, said in (
        (english, [row["english"] for row in rows("fr")]),
        (german, [r["caption"] for r in rows("de")]),
    ):
        assert [row["pivot"]["text"] for row in other] == said
        assert all(("picture" in row) == (row["split"] == "val") for row in other)
        assert 400 < sum(row["split"] == "val" for row in other) < 600
