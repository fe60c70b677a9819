"""Words of unspaced scripts."""

from model.segmentation import standalone_words


def test_what_stands_alone_is_a_word_and_compounds_of_words_are_not() -> None:
    assert standalone_words(["苹果", "汽车", "苹果和汽车", "香蕉、苹果"]) == ("汽车", "苹果", "香蕉")


def test_runs_that_hold_an_unknown_word_count_when_little_of_them_is_covered() -> None:
    assert "แอปเปิลสีแดง" in standalone_words(["แอปเปิลสีแดง", "สุนัข"])
    assert "และแอปเปิล" not in standalone_words(["แอปเปิล", "สุนัข และแอปเปิล"])


def test_scripts_with_spaces_have_none() -> None:
    assert standalone_words(["rotes Haus", "Haustür", "लाल सेब", "красное яблоко", "تفاحة"]) == ()


def test_the_order_does_not_depend_on_the_corpus_order() -> None:
    corpus = ["苹果", "汽车", "红色问号", "香蕉", "帆船和海"]
    assert standalone_words(corpus) == standalone_words(corpus[::-1])
