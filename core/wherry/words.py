"""The nearest valid word: what an error about a misspelt name says next."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str]) -> str:
    """`; did you mean "x"?` for the valid word most like `word`, else the list of what is valid, else nothing."""
    import difflib  # only when something is wrong

    known = sorted(set(valid))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    if not known:
        return ""
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; there is {shown}"
