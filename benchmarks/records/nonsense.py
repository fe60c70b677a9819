"""Searches for what no gallery of emoji drawings has, by a rule: random letters, words and sentences of other subjects.

Of each four, two are of random letters: one to four words of four to nine letters, drawn as often as the captions have
them. One is of one or two abstract words, one a sentence of two of them.
"""

from collections.abc import Sequence
from random import Random

WORDS = {
    "en": "mortgage grammar inflation deadline theorem bankruptcy jurisdiction metabolism irony republic syntax "
    "pension audit nostalgia subsidy hypothesis tariff dialect amnesty algorithm",
    "de": "Hypothek Grammatik Inflation Frist Lehrsatz Insolvenz Zuständigkeit Stoffwechsel Ironie Republik Satzbau "
    "Rente Buchprüfung Wehmut Beihilfe Hypothese Zolltarif Mundart Begnadigung Algorithmus",
    "ja": "住宅ローン 文法 物価上昇 締め切り 定理 破産 管轄 代謝 皮肉 共和国 構文 年金 監査 郷愁 補助金 仮説 関税 方言 "
    "恩赦 算法",
    "ar": "رهن نحو تضخم مهلة نظرية إفلاس اختصاص أيض سخرية جمهورية تركيب معاش تدقيق حنين إعانة فرضية تعرفة لهجة عفو "
    "خوارزمية",
}
SENTENCES = {
    "en": (
        "the {} was postponed until the {} is decided",
        "nobody explained why the {} depends on the {}",
        "a long report about the {} and its {}",
    ),
    "de": (
        "die {} wurde verschoben, bis über {} entschieden ist",
        "niemand erklärte, warum {} von {} abhängt",
        "ein langer Bericht über {} und {}",
    ),
    "ja": (
        "{}が決まるまで{}は延期された",
        "なぜ{}が{}に左右されるのか誰も説明しなかった",
        "{}と{}についての長い報告書",
    ),
    "ar": ("تأجل {} حتى يتقرر {}", "لم يشرح أحد لماذا يعتمد {} على {}", "تقرير طويل عن {} و {}"),
}


def draw_nonsense(language: str, captions: Sequence[str], count: int = 100, seed: int = 0) -> list[str]:
    """Return distinct searches in one of the languages of `WORDS`; the same seed and captions give the same ones."""
    random, words, found = Random(f"{seed} {language}"), WORDS[language].split(), list[str]()
    letters = [letter for caption in captions for letter in caption if letter.isalpha()]
    while len(found) < count:
        kind = len(found) % 4
        if kind < 2:
            lengths = [random.randint(4, 9) for _ in range(random.randint(1, 4))]
            text = " ".join("".join(random.choice(letters) for _ in range(length)) for length in lengths)
        elif kind == 2:
            text = " ".join(random.sample(words, random.randint(1, 2)))
        else:
            text = random.choice(SENTENCES[language]).format(*random.sample(words, 2))
        if text not in found:
            found.append(text)
    return found
