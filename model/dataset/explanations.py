"""Sentences on what is wrong with a dataset and what to do about it; the same words for one that is accepted.

Knows the kinds of faults, and reads no file. A sentence never repeats what stands in a row, except ids of pictures.
"""

from collections.abc import Mapping, Sequence

from store.errors import format_count

ENTRY = '{"word": "Apfel", "glosses": ["apple"]}'
PAIR = '{"caption": "roter Apfel", "english": "red apple"}'
FAULTS = {
    "missing_caption": "without a caption",
    "missing_english_and_picture": "with neither another text nor a picture",
    "english_and_pivot": "with an English text and a pivot, of which a row may have one",
    "malformed_json": "not one JSON object in a line",
    "wrong_field_count": "with too few or too many cells",
    "quote_not_closed": "behind a quote that is not closed, or is followed by text",
    "pivot_invalid": "with a pivot that has no language and text",
    "picture_id_invalid": "with a picture whose id is not valid",
    "picture_not_found": "with a picture that is not in the gallery",
    "split_invalid": "with a split that is neither `train` nor `val`",
    "not_text": "with something else than a text",
    "empty_text": "with a text of no letter, number or symbol",
    "text_too_long": "with a text that is too long",
    "text_invalid_unicode": "with control characters or broken ones",
    "language_tag_invalid": "with a pivot in a language of no valid tag",
    "split_conflict": "of a picture or text that is in the other split already",
    "missing_word": "without a headword",
    "glosses_invalid": "with glosses that are no list of texts",
    "forms_invalid": "with forms that are no list of texts",
}
LEFT_OUT = {  # entries of a dictionary
    "no_gloss": "without an equivalent",
    "definition": "that are explained by a sentence and have no equivalent",
    "grammar": "of grammar: function words, affixes, forms of another word",
    "too_long": "with too long a headword",
    "script": "in another script than the language's",
    "common_gloss": "whose equivalents very many headwords have",
    "repeated": "that repeat others",
    "beyond_limit": "behind as many as can be taught",
}
_REMEDIES = {
    "missing_caption": "Fill the column `caption` of each row with the text in the new language",
    "missing_english_and_picture": "Give each caption its English text or the id of its picture",
    "english_and_pivot": "Leave out one of the two",
    "malformed_json": f"Write one pair in each line: `{PAIR}`",
    "wrong_field_count": 'Put texts with a comma or a semicolon in quotes: `"roter, reifer Apfel","ripe, red apple"`',
    "quote_not_closed": "Close the quote of the first of these lines; one that belongs to a text is written twice: "
    '`"der ""rote"" Apfel"`',
    "pivot_invalid": 'Name its language and its text: `"pivot": {"language": "de", "text": "roter Apfel"}`, '
    "or in a table the columns `pivot_language` and `pivot_text`",
    "picture_id_invalid": "Write ids as the gallery has them, such as `IMG_0001` or `2019/IMG_0001`",
    "split_invalid": "Write one of these, or leave out the column `split`: then some rows are held out by themselves",
    "not_text": 'Put every text in quotes, numbers as well: `{"caption": "5", "english": "five"}`',
    "empty_text": "Write words there, or take these rows out",
    "text_too_long": "Shorten each text to at most 1,000 characters",
    "text_invalid_unicode": "Save the file as UTF-8 again, or take these characters out",
    "language_tag_invalid": "Name languages by tags, such as `de` or `pt-BR`",
    "split_conflict": "Give all rows of one picture, or of one text, the same split",
    "missing_word": f"The headword stands under the key `word`: `{ENTRY}`",
    "glosses_invalid": f"Put what a headword means into a list of texts: `{ENTRY}`",
    "forms_invalid": 'Put other forms of a headword into a list of texts: `"forms": ["Äpfel"]`',
}
_IN_LINES = {  # what differs where each line is an object
    "missing_caption": f"The text in the new language stands under the key `caption`: `{PAIR}`",
    "missing_english_and_picture": f"Give each caption its English text, `{PAIR}`, or the id of its picture under the "
    "key `picture`",
}
_WITH_TABS = {
    "wrong_field_count": "Put one tab between two cells, and none into a text: each row has as many as the first"
}
_BY_FORMAT = {
    "jsonl": _IN_LINES,
    "dictionary": {"malformed_json": f"Write one entry in each line: `{ENTRY}`"},
    "tsv": _WITH_TABS,
    "parallel": _WITH_TABS,
    "coco": {"malformed_json": 'Each annotation is an object: `{"image_id": 1, "caption": "roter Apfel"}`'},
    "xm3600": {
        "malformed_json": 'Each line is an object: `{"image/key": "IMG_0001", "de": {"caption": ["roter Apfel"]}}`'
    },
}


def describe_fault(kind: str) -> str:
    """Say what rows with a fault of this kind are: "2 " + "without a caption"."""
    of_a_text = kind.partition("_")[2]  # of the English, or of the pivot
    return FAULTS.get(kind) or FAULTS.get(of_a_text) or kind.replace("_", " ")


def suggest_remedy(kind: str, format: str) -> str:
    """Say what to do about faults of this kind in a file of this format: sentences without the last full stop."""
    own = _BY_FORMAT.get(format, {})
    return own.get(kind) or _REMEDIES.get(kind) or _REMEDIES.get(kind.partition("_")[2]) or "Look at these rows"


def explain_too_many_faults(rows: int, most: float, counts: Mapping[str, int], format: str) -> str:
    """Say why a dataset with so many faulty rows is refused, and what to do about the most frequent kind."""
    kinds = ", ".join(f"{count:,} {describe_fault(kind)}" for kind, count in counts.items())
    often = max(counts, key=lambda kind: counts[kind])
    faulty = sum(counts.values())
    return (
        f"{faulty:,} of {format_count(rows, 'row')} cannot be used, and at most {most:.0%} may be left out: {kinds}. "
        f"{suggest_remedy(often, format)}"
    )


def explain_left_out(counts: Mapping[str, int]) -> str:
    """Say which entries of a dictionary are not taken, and why."""
    return "Left out: " + ", ".join(f"{count:,} {LEFT_OUT[reason]}" for reason, count in counts.items())


def explain_not_in_gallery(failing: int, rows: int, pictures: Sequence[str], alike: Sequence[str]) -> str:
    """Say why a dataset is refused whose rows name these pictures; `alike` are some ids that the gallery has."""
    names = "names a picture that is" if failing == 1 else "name pictures that are"
    look = f"Ids there look like {', '.join(f'`{id}`' for id in alike)}: write them so. " if alike else ""
    return (
        f"{failing:,} of {format_count(rows, 'row')} {names} not in the gallery. {look}"
        f"{format_count(len(pictures), 'picture')} missing, first: {', '.join(pictures[:10])}"
    )
