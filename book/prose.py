"""Numbers that somebody typed into the text of the book: python book/prose.py [files]

A number in a sentence is glued from a cell (`madcluster.study.claims`), or it is not a measurement:
then it stands in code or in a formula, in the sentence of a citation, or after a comment that says
where it is from, ``<!-- stated: … -->``, which covers one paragraph. Years, versions, chapters, 0 and
1 are free.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

BOOK = Path(__file__).resolve().parent
PAGES = sorted(BOOK.glob("*.ipynb")) + sorted(BOOK.glob("*.md")) + [BOOK.parent / "README.md"]

# what is no sentence, or stands there by its own right
DROPPED = (
    r"^\s*:\w+:[^\n]*$",  # options of a directive
    r"\[`[^`]*`\]|`+[^`]+`+",  # before formulas: code may hold a lone $
    r"^\$\$.*?\$\$|(?<!\\)\$[^$]+\$",
    r"\[\d+\]\([^)]*\)|\]\([^)]*\)|\]\[[^]]*\]",
    r"<[^>!]+>|https?://\S+|&\w+;",
    r"\{\w[\w-]*\}\s+ex-[\d-]+",  # of an exercise
    r"(?m:^\s*\d+\.\s)",  # of a list
)
ROLE = re.compile(r"\{([\w:-]+)\}`[^`]*`")
STATED = re.compile(r"<!--\s*stated:\s*\S.*?-->", re.DOTALL)
# named, not counted
NAMES = (
    r"\b(?i:chapters?|sections?|tables?|figures?|equations?|appendix|items?|seeds?|"
    r"exercises?|questions?|lemmas?|theorems?|python|channel|part|claim|CC BY)"
    r"(?:\s*\[?\d+[\d.]*\]?(?:,| and| or| to|–)?)+",
    r"^#+\s+\d+\s",  # a heading of a chapter
    r"\|\s*\[?\d+\s+(?=[A-Z])",  # a chapter in a table
    r"\b(?:1[6-9]|20)\d\d\b(?:/(?:19|20)\d\d)?",  # years
    r"\b\d+(?:\.\d+){2,}\b",  # versions
    r"\b\d+-(?:NN|D|norm)\b|\b[A-Z]-\d+\b|\bSHA-\d+|\barXiv \d+\.\d+",
    r"[\[(][-−]?[01], 1[\])]",  # of an interval
    r"\(\d\)",  # (1), (2)
    r"\[\d\]",
)
NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e[-−]?\d+)?"
DIGITS = re.compile(rf"(?<![\w.,])(?P<number>{NUMBER})(?P<unit>\s?[%×])?(?![\w])")
WORD = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand"
)
IN_WORDS = re.compile(
    rf"\b(?:{WORD})\s+(?:out\s+of|of|in|among)\s+(?:the\s+|all\s+)?(?:{WORD})\b"
    rf"|\b(?:{WORD})\s+(?:times|percent|per\s+cent)\b"
    r"|\b(?:half|thirds?|quarters?|tenths?)\s+(?:as|of\s+(?:the|all|its|their|them|those|these|it))\b"
    r"|\babout\s+(?:one\s+|a\s+)?(?:half|third|quarter|tenth)\b"
    r"|\b(?:twice|thrice|tenfold|twofold|threefold|hundredfold|hundred-fold|ten-fold)\b",
    re.IGNORECASE,
)


def texts(path: Path) -> Iterator[str]:
    """The cells of text of a notebook, or the whole of a page."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        yield from (cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        yield path.read_text()


def without_code(text: str) -> str:
    """The text less blocks of code and formulas; of other directives only the fences go."""
    kept, closing, of_code = [], [], False
    for line in text.splitlines():
        fence = re.match(r"\s*(`{3,}|~{3,}|:{3,})\s*(\S*)", line)
        if fence and closing and fence[1] == closing[-1] and not fence[2]:
            closing.pop()
            of_code = False
        elif fence and not of_code:
            closing.append(fence[1])
            of_code = not re.match(r"\{(?!math|raw|include|code|literal)", fence[2])
        elif not of_code:
            kept.append(line)
    return "\n".join(kept)


def paragraphs(text: str) -> Iterator[str]:
    """What stands between blank lines, less code and formulas; not what is said to be stated.

    A comment alone covers the paragraph that follows it, or a table.
    """
    text = without_code(text)
    for pattern in DROPPED:
        text = re.sub(pattern, " ", text, flags=re.MULTILINE | re.DOTALL)
    stated = False
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] )", text):
        if STATED.search(paragraph):
            stated = not STATED.sub("", paragraph).strip()  # alone: for the next
            continue
        if not stated:
            yield paragraph
        stated = False


def typed_numbers(text: str) -> list[str]:
    """Numbers in the sentences of a text that nothing vouches for, each with the words around it."""
    found = []
    for paragraph in paragraphs(text):
        for sentence in re.split(r"(?<=[.!?:;])\s+(?=[A-Z*\[{])", " ".join(paragraph.split())):
            if re.search(r"\{cite(:\w+)?\}", sentence):
                continue
            plain = ROLE.sub("·", sentence)
            for pattern in NAMES:
                plain = re.sub(pattern, " ", plain)
            for match in [*DIGITS.finditer(plain), *IN_WORDS.finditer(plain)]:
                if match.groupdict().get("number") in ("0", "1") and not match["unit"]:
                    continue
                around = plain[max(0, match.start() - 30) : match.end() + 30]
                found.append(f"{match[0].strip()!r} in '…{around.strip()}…'")
    return found


def main() -> None:
    faults = 0
    for path in [Path(name) for name in sys.argv[1:]] or PAGES:
        for text in texts(path):
            for fault in typed_numbers(text):
                print(f"{path.name}: {fault}")
                faults += 1
    sys.exit(f"{faults} typed numbers" if faults else 0)


if __name__ == "__main__":
    main()
