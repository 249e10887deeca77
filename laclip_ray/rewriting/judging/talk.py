"""Find refusals and an assistant's talk in rewrites; part of the gate.

The patterns are English, and match lower case with straight apostrophes. A refusal does not count when the caption
holds one too, nor does a chat phrase: signs say "sorry", and titles say "here it is".
"""

import re
from collections.abc import Sequence
from typing import Literal

Talk = Literal["refusal", "chat_phrase"]


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_VERSION = (
    r"(?:rewrit\w*|rewrote|rephras\w*|reword\w*|paraphras\w*|captions?|versions?|variations?|revisions?|revised"
    r"|alternatives?)"
)
_FEELINGS = (
    "believe|wait|stop|get|resist|imagine|live|stand|sleep|remember|decide|forget|help but|even|be|take|go|let|miss|say"
    "|tell|think|find|eat|lie|fit|handle|seem"
)
"""A caption can say that somebody cannot do one of these."""
_REFUSAL = _any_of(
    r"(?:i'?m|i am|we(?:'| a)re) (?:(?:so|very|really|truly|deeply) )?(?:sorry|afraid|unable|(?:just |only )?an? ai)\b",
    r"(?:i'?m|i am|we(?:'| a)re) not (?:able|allowed|permitted|comfortable|going to)\b",
    r"sorry\b",
    r"(?:my |please accept my )?(?:sincere(?:st)? |deepest )?apologies\b",
    r"(?:i|we) (?:do )?(?:apologi[sz]e|regret|(?:must|have to) (?:politely )?decline|decline|refuse)\b",
    rf"(?:i|we) (?:can ?not|can't|could not|couldn't|will not|won't) (?!(?:{_FEELINGS})\b)",
    r"(?:i|we) (?:do|did)(?: not|n't) (?:have|see|receive|feel comfortable|understand)\b"
    rf".*\b(?:{_VERSION}|image|access|ability|information|context|request|writing|creating)\b",
    r"(?:i|we) (?:would )?need (?:(?:a|some) )?(?:bit )?more (?:context|information|detail)",
    r"unfortunately,? (?:i|we|this request|your request|it is|it isn't|there)\b",
    r"(?:this|that|the|your) (?:request|prompt|caption) "
    r"(?:can(?:'t| ?not)|violates|goes|is (?:against|in|not|un)|contains|appears|seems|does)",
    r"it(?:'s| is| would be) (?:not possible|not appropriate|impossible|inappropriate|against my)\b"
    rf".*\b(?:{_VERSION}|image|request|guidelines|polic\w+)\b",
    r"(?:there is |there's )?no (?:caption|rewrite|image|content|text) "
    r"(?:was |is |has been )?(?:provided|given|available|possible|supplied)",
    r"please (?:provide|share|give me|supply|send|clarify)\b",
    r"(?:could|can|would) you (?:please )?(?:provide|share|clarify|give)\b",
)
"""Refusals at the start of a text."""
_REFUSAL_ANYWHERE = _any_of(
    r"\bas an? (?:\w+ ){0,2}(?:ai|artificial intelligence|language model|chatbot)\b",
    r"\bi (?:can ?not|can't) (?:help|assist|comply|fulfil+|provide|rewrite|rephrase|generate|create)\b(?! but)",
)
"""Refusals at any place of a text."""
_INTERJECTION = "(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|no problem|understood|got it)"
_LABEL_ADJECTIVE = (
    f"(?:new|improved|updated|edited|final|alternate|suggested|possible|image|photo|concise|short|better|{_VERSION})"
)
_LABEL = (
    f"(?:{_VERSION}|description|output|answer|response|result|assistant|ai|target|input|source|user|original)"
    r"(?: text| caption| image)?(?: #?\d+)?"
)
_CHAT = _any_of(
    rf"{_INTERJECTION} ?[,!.:;–—-]",
    rf"(?:{_INTERJECTION}|great|yes) ?[,!.]? (?:here|i|i'd|i'll|let me)\b",
    rf"here(?:'s| is| are| was)\b(?:[^:]{{0,60}}:|[^.]{{0,60}}\b{_VERSION}\b)",
    r"here (?:you go|you are|it is|goes)\b",
    rf"(?:(?:the|my|your|an?|one) )?(?:{_LABEL_ADJECTIVE} ){{0,3}}{_LABEL} ?(?::|reads\b|(?:is|would be|could be):)",
    r"i(?:'d|'ll|'ve| would| will| have| can| could)? "
    r"(?:be (?:happy|glad) to|gladly|love to help|suggest|help you|rewr\w+|rephras\w+|reword\w*|paraphras\w+)\b",
    r"let me (?:rewr\w+|rephras\w+|help|try|give|provide)\b",
    r"let's (?:rewr\w+|rephras\w+)\b",
    r"(?:thank you|thanks) for (?:asking|sharing|providing|the|your)\b",
    r"you(?:'re| are) welcome\b",
    r"as (?:you )?requested\b",
    r"(?:as )?per your request\b",
    r"to (?:rewrite|rephrase|reword|paraphrase)\b",
)
"""Chat phrases at the start of a text."""
_CHAT_ANYWHERE = _any_of(
    r"\blet me know\b",
    r"\bhope (?:this|that|it) helps\b",
    r"\bfeel free to (?:ask|let|reach|adjust|modify|change|use)\b",
    r"\b(?:is there|if there's|if there is) anything else\b",
    r"\bhow (?:can|may) i (?:help|assist)\b",
    r"\b(?:would you like|do you want) (?:me|another|to see)\b",
    r"\bif you (?:need|want|have|would like|'d like) (?:any|more|me|another)\b",
    r"\byou(?:'d| would) like (?:me|any|another|more)\b",
    r"\b(?:can|could|may|might|should) (?:also )?be (?:rewritten|rephrased|reworded|paraphrased)\b",
    r"\b(?:the|this|your|original) caption (?:as|is|was|has|in|to|has been|you)\b",
    r"\b(?:happy|glad) to help\b",
    r"\bnote that (?:i|the original|this (?:caption|version))\b",
    r"\banother (?:way|option|version) (?:to|of the caption|could|would|is|might)\b",
    r"[(\[] ?(?:please )?note\b",
    r"\bnote:",
    rf"\( ?(?:or|alternatively|{_VERSION})\b",
    r"\(\d+ (?:words|characters)\)",
)
"""Chat phrases at any place of a text."""
_TALK_WORDS = frozenset(
    re.findall(
        r"\w+",
        "i we you sorry apologies ai language artificial chatbot unfortunately request requested prompt "
        "possible impossible appropriate inappropriate guidelines policy policies provided given available "
        "supplied please clarify sure certainly course absolutely okay ok alright problem understood got "
        "here let thank thanks welcome know hope feel anything help note another alternatively output answer "
        "response result reads reword reworded rewording rewrite rewrites rewritten rewriting rewrote "
        "rephrase rephrased rephrases rephrasing paraphrase paraphrased paraphrasing caption captions "
        "version versions variation variations revision revisions revised alternative alternatives",
    )
)
"""Every pattern above needs one of these words, a colon or a bracket. Most texts lack them and skip the patterns."""
_OPENING = re.compile(r"[\s\"'“”‘*_#>(\[-]*")
"""Quotes and Markdown before the first word."""
_SPACED_CLITIC = re.compile(r"\s+(?=(?:n't|'(?:s|m|re|d|ll|ve))\b)")


def find_talk(text: str, words: Sequence[str], caption: str) -> Talk | None:
    """Find a refusal or a chat phrase in a rewrite that the caption does not hold too.

    Args:
        text: the rewrite.
        words: its words, in lower case and without punctuation.
        caption: the caption.
    """
    if _TALK_WORDS.isdisjoint(words) and ":" not in text and "(" not in text:
        return None
    folded = _fold(text)
    start = _end_of_opening(folded)
    if _REFUSAL.match(folded, start) or _REFUSAL_ANYWHERE.search(folded):
        folded_caption = _fold(caption)
        if not (_REFUSAL.search(folded_caption) or _REFUSAL_ANYWHERE.search(folded_caption)):
            return "refusal"
    if _CHAT.match(folded, start) or _CHAT_ANYWHERE.search(folded):
        folded_caption = _fold(caption)
        if not (_CHAT.search(folded_caption) or _CHAT_ANYWHERE.search(folded_caption)):
            return "chat_phrase"
    return None


def _fold(text: str) -> str:
    # Web captions split their words ("ca n't"), and models write curly apostrophes.
    straight = text.lower().replace("’", "'").replace("ca n't", "can't")
    return _SPACED_CLITIC.sub("", " ".join(straight.split()))


def _end_of_opening(text: str) -> int:
    opening = _OPENING.match(text)
    return opening.end() if opening else 0
