"""How a base reads text, as data: what stands around a text's tokens, what fills it up, and where it is read off.

The groups that are read here are listed in docs/bases.md; every other text tower of open_clip is refused by name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from model.languages import ENGLISH, MANY, canonical
from model.merges import CLIP_TOKENS
from store.errors import BaseNotFound, BaseNotSupported, LanguageTagInvalid, TokenizerUnfit

CLEANINGS = ("lower", "whitespace", "canonicalize")  # names that open_clip has for what it does to a text first
# Parts of the names of open_clip's models that were trained on texts of about 100 (the last: 300) languages. Which of
# them a model really reads, its card does not say: that is measured (`pictoglot assess`)
_MULTILINGUAL = ("SigLIP-i18n", "SigLIP2", "worldwide")
_TOKENIZER_ARGUMENTS = {"clean", "strip_sep_token"}  # of open_clip's `HFTokenizer`, that are read here


@dataclass(frozen=True)
class Reading:
    """How a text tower reads the tokens of a text.

    `prefix` and `suffix` are the ids before and behind a text's own, of which so many are read that all fit into
    `context` places. `vocabulary` is the number of rows of the base's table: larger ids belong to learned languages. In
    a `causal` tower what stands behind a place has no influence on it. `pad` is the id that fills a text up to the
    context where the tower reads it; None where nothing behind a text is read, so that a text need not be filled up.
    Features are read off `at` the "end" of the suffix, or at the "last" place of the context.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    context: int
    vocabulary: int
    causal: bool = True
    pad: int | None = None
    at: Literal["end", "last"] = "end"

    @property
    def most(self) -> int:
        """Tokens of a text that are read."""
        return self.context - len(self.prefix) - len(self.suffix)

    @property
    def specials(self) -> tuple[int, ...]:
        """The ids that no text gives: prefix, suffix and, if it is read, the pad. Nothing ever trains their rows."""
        return (*self.prefix, *self.suffix, *(() if self.pad is None else (self.pad,)))

    def length(self, tokens: int) -> int:
        """Places that a sequence of so many tokens, with prefix and suffix, takes in the tower."""
        return tokens if self.pad is None else self.context

    def described(self) -> dict[str, object]:
        """All of it, for a fingerprint."""
        return asdict(self)


def require_supported(name: str, config: Mapping[str, Any]) -> None:
    """Raise `BaseNotSupported` with the reason unless the text tower of this configuration is read here."""
    text: Mapping[str, Any] = config["text_cfg"]
    foreign = text.get("hf_tokenizer_name")
    given: Mapping[str, Any] = text.get("tokenizer_kwargs") or {}
    pool = text.get("pool_type", "argmax")
    if text.get("hf_model_name"):
        raise BaseNotSupported(
            f"the text tower of {name} is {text['hf_model_name']} of the package transformers, which is not read here"
        )
    if "multimodal_cfg" in config or text.get("embed_cls"):
        raise BaseNotSupported(f"{name} is a CoCa: it takes its features from a token of its own, not from the text's")
    if text.get("tokenizer_mode") or {*given} - _TOKENIZER_ARGUMENTS or given.get("clean", "lower") not in CLEANINGS:
        raise BaseNotSupported(f"{name} changes its tokenizer in a way that is not read here")
    if not foreign and (given or text.get("vocab_size", CLIP_TOKENS) != CLIP_TOKENS):
        raise BaseNotSupported(f"{name} changes CLIP's BPE tokenizer")
    if pool not in ("argmax", "eos", "last") or (foreign and pool == "argmax"):
        raise BaseNotSupported(f"{name} takes its text features from neither the end of a text nor the last place")
    if text.get("use_pad_mask"):
        raise BaseNotSupported(f"{name} hides the pads of a text by a mask, which is not read here")


def reading_of(
    name: str, text: Mapping[str, Any], prefix: tuple[int, ...], suffix: tuple[int, ...], pad: int | None
) -> Reading:
    """The reading of a tower with this `text_cfg` of open_clip, by a tokenizer with these ends and this pad.

    Raises `TokenizerUnfit` where they do not fit the tower.
    """
    context, rows = int(text.get("context_length", 77)), int(text.get("vocab_size", CLIP_TOKENS))
    pool, end = text.get("pool_type"), text.get("eos_id", 2)
    filled = bool(text.get("no_causal_mask")) or pool == "last"
    if pool == "eos" and suffix[-1:] != (end,):
        raise TokenizerUnfit(f"{name} reads a text off at token {end}, with which tokenizer.json ends no text")
    if filled and pad is None:
        raise TokenizerUnfit(
            f"nothing says with which token {name} fills up a text: put tokenizer_config.json beside tokenizer.json"
        )
    if max(*prefix, *suffix, pad or 0, 0) >= rows:
        raise TokenizerUnfit(f"special tokens of the tokenizer of {name} are not among its {rows:,} rows")
    if len(prefix) + len(suffix) >= context:
        raise TokenizerUnfit(f"the tokenizer of {name} leaves no place for a text in a context of {context}")
    at: Literal["end", "last"] = "last" if pool == "last" else "end"
    return Reading(prefix, suffix, context, rows, not text.get("no_causal_mask"), pad if filled else None, at)


def languages_of(name: str, declared: object) -> tuple[str, ...]:
    """The canonical tags of the languages that a base reads untaught, English first; `MANY` where nobody has a list.

    `declared` is the list that its maker gives, None without one: then it is by the name that open_clip knows. Raises
    `BaseNotFound` for what is no list of tags.
    """
    if declared is None:
        return (ENGLISH, MANY) if any(part in name for part in _MULTILINGUAL) else (ENGLISH,)
    try:
        if not isinstance(declared, list) or not all(isinstance(tag, str) for tag in declared):
            raise TypeError
        tags = [tag if tag == MANY else canonical(tag) for tag in declared]
    except (TypeError, LanguageTagInvalid) as error:
        raise BaseNotFound(f"the languages that are declared for {name} are not a list of language tags") from error
    return tuple(dict.fromkeys([ENGLISH, *sorted(tags)]))
