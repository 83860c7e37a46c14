"""The lines of `corpus/`: texts with secrets in them, and texts without."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def _sets(name: str) -> list[list[str]]:
    found: list[list[str]] = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found.append([])
        elif line and not line.startswith("# "):
            found[-1].append(line.replace("⏎", "\n").replace("⁀", ""))
    return found


def secret_texts() -> list[list[tuple[str, list[str]]]]:
    """Return the texts of each set, each text with a list of its secrets."""
    return [
        [(re.sub("[⟦⟧]", "", line), re.findall("⟦(.*?)⟧", line, re.DOTALL)) for line in lines]
        for lines in _sets("secret.txt")
    ]


def innocent_texts() -> list[list[str]]:
    return _sets("innocent.txt")
