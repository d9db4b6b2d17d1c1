"""The tokens of captions as the COCO protocol scores them, without Java: what is left
when Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) has run and
the protocol has removed punctuation. The rules were written from the outputs of that
program, and tests hold them against it where Java is there.

Not followed: internet addresses, smileys, telephone numbers in brackets.
"""

from __future__ import annotations

import re

CHARACTERS = str.maketrans({
    "\n": " ", "’": "'", "‘": "'", "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "£": " # ", "€": " $ ",
})  # fmt: skip
BRACKETS = dict(zip("()[]{}", ("-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"), strict=True))
SPLIT = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na",
    "gimme": "gim me", "lemme": "lem me", "'tis": "'t is", "'twas": "'t was",
}  # fmt: skip
# abbreviations that keep their dot, in any case and wherever they stand
DOTTED = (
    "mr mrs ms messrs mme mlle dr prof rev hon esq st jr sr gov pres sen rep gen sgt capt col lt "
    "maj pvt cpl adm cmdr supt atty asst brig insp det dept univ bldg assn mfg intl natl inc co "
    "corp ltd bros vs etc al est tel ext cf adv ph ave blvd rd mt ft ct sq jan feb mar apr jun jul "
    "aug sep sept oct nov dec mon tue tues wed thu thurs fri calif fla ala ariz colo conn ga ind "
    "kan ky md mich minn mo mont neb nev okla penn tenn va vt wis wyo"
).replace(" ", "|")
STATES = "Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"  # as words they have no dot
LETTER = r"[^\W_]"  # or digit
NOT_JOINED = rf"(?!{LETTER})"
TOKEN = re.compile(
    rf"""
      (?i:{DOTTED})\. | (?:{STATES})\. | (?i:nos?)\.(?=\ ?\d)  # Mr. Miss. No. 5
    | [^\W\d_](?:\.[^\W\d_])+\.{NOT_JOINED} | [^\W\d_]\.{NOT_JOINED}  # U.S. P.
    | n't{NOT_JOINED} | '(?i:s|re|ve|ll|d|m){NOT_JOINED}  # as parted from its word
    | '(?i:em|tis|twas|cause|\d\ds){NOT_JOINED} | 'n(?:'|{NOT_JOINED})  # '90s, rock 'n' roll
    | (?i:y'(?=all{NOT_JOINED})) | (?i:[odl]'(?!s{NOT_JOINED})(?={LETTER}))?  # y' all; o'clock
      (?: \d+(?::\d+)+  # 10:30, which parts from am
        | (?:[@\#](?=[^\W\d_]))?{LETTER}+ (?: (?: [-/_@] | (?<=[A-Z])&(?=[A-Z]) | (?<=\d)[.,](?=\d)
                        | (?<=[^\W\d_])[.?!](?=[^\W\d_]) ) {LETTER}+ )* )
    | [?!]{{2,}} | </?{LETTER}+> | _+ | [^\w\s'"`.?!,:;…–—-]  # <unk>, % & $, brackets
    """,
    re.VERBOSE,
)


def ptb_tokens(caption: str) -> str:
    """The tokens of a caption, lower-case, with blanks between them."""
    text = re.sub(rf"(?i)n't{NOT_JOINED}", " n't", caption.translate(CHARACTERS))
    found = (match.lower() for match in TOKEN.findall(text))
    return " ".join(SPLIT.get(token) or BRACKETS.get(token, token) for token in found)
