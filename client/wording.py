"""Numbers in sentences for people. Imports nothing."""


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,234 pictures`; `many` where that is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def are(count: int) -> str:
    """The verb after a number of things."""
    return "is" if count == 1 else "are"


def were(count: int) -> str:
    """The same of what has been."""
    return "was" if count == 1 else "were"


def them(count: int) -> str:
    """The pronoun for so many things."""
    return "it" if count == 1 else "them"
