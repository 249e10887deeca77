"""Defects that the figures of the gate seed into accepted rewrites.

The gate's patterns were not fitted to the refusals, chat phrases and sentences in other scripts below.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from laclip_ray.data.tokens import TokenizerSpec, count_tokens
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.prompting.completions import parse_completion
from laclip_ray.rewriting.prompting.prompts import INSTRUCTION, SEPARATOR, ExamplePair

COUNT_TOKENS = partial(count_tokens, TokenizerSpec("ViT-B-32"))


@dataclass(frozen=True)
class Case:
    """A rewrite and everything else that the gate sees."""

    text: str
    caption: str
    truncated: bool = False
    others: tuple[str, ...] = ()


Defect = Callable[[int, ExamplePair, Sequence[ExamplePair]], Case | None]
"""Seeds a defect into the n-th of the accepted pairs. None: this pair cannot have the defect."""


REFUSALS = (
    "I'm sorry, but I can't assist with that request.",
    "I'm sorry, I cannot fulfill this request.",
    "Sorry, but I can't help with that.",
    "I am sorry, but as an AI language model I am not able to view images.",
    "As an AI, I don't have the ability to see pictures.",
    "As a large language model, I cannot describe real people.",
    "I cannot provide a rewrite of this caption.",
    "I can't create content that sexualizes people.",
    "I can’t help with identifying people in photos.",
    "I apologize, but I don't feel comfortable rewriting this caption.",
    "I'm afraid I can't do that.",
    "I'm unable to rewrite this caption because it contains explicit content.",
    "I won't be able to help with this one.",
    "I must decline to rewrite that.",
    "Unfortunately, I can't rewrite captions that include personal information.",
    "My apologies, but that text is not something I can rephrase.",
    "The caption appears to be incomplete. Could you provide more detail?",
    "There is no caption to rewrite here.",
    "It seems that the caption is missing.",
    "It looks like you forgot to include the caption.",
    "Please provide the image caption you want me to rewrite.",
    "Could you please share the full caption?",
    "I do not have enough information to rewrite this.",
    "I need more context to rewrite this caption.",
    "This request goes against my guidelines.",
    "This content may violate our usage policies.",
    "It would not be appropriate for me to rewrite this.",
    "I prefer not to continue with this.",
    "That's not something I'm able to do.",
    "Rewriting this would be inappropriate.",
)
CHAT_FRAMES = (
    "Sure, here is a rewritten caption: {}",
    "Sure! {}",
    "Certainly! Here's another way to put it: {}",
    "Of course! {}",
    "Here is the rewritten caption: {}",
    "Here's a possible rewrite: {}",
    "Here's one option - {}",
    "Okay, {}",
    "Absolutely, here you go: {}",
    "Rewritten caption: {}",
    "Rewrite: {}",
    "Caption: {}",
    "Image caption: {}",
    "Output: {}",
    "Answer: {}",
    "Revised version: {}",
    "**Rewritten:** {}",
    "Assistant: {}",
    "I would rewrite it as: {}",
    "I'd be happy to help! {}",
    "The caption could be rewritten as {}",
    "In other words: {}",
    "A better way to say this is: {}",
    "One way to rephrase it: {}",
    "{} Let me know if you would like another version.",
    "{} I hope this helps!",
    "{} (Note: I kept the original meaning.)",
    "{} Note that the original caption was unclear.",
    "{} Is there anything else I can do for you?",
    "{} Would you like me to try a different style?",
    "{} This version keeps all the facts of the original.",
    "{} Feel free to adjust it as you see fit.",
)
OTHER_SCRIPTS = (
    "一只狗在雪地里奔跑",
    "公園で子供たちが遊んでいます",
    "Мужчина в красной куртке катается на лыжах",
    "امرأة تجلس على مقعد في الحديقة",
    "एक आदमी साइकिल चला रहा है",
    "한 여자가 해변을 걷고 있다",
    "ผู้ชายกำลังขี่จักรยาน",
    "Δύο σκύλοι παίζουν στο γρασίδι",
    "ילדה אוכלת גלידה ברחוב",
)
ECHOES = (
    "{} " + SEPARATOR + " {}",
    "{}" + SEPARATOR,
    INSTRUCTION + " {}",
    "{} " + INSTRUCTION.partition(". ")[0],
    "{} " + INSTRUCTION.partition(". ")[2],
    "<|assistant|> {}",
    "{} <|im_end|>",
    "[INST] {} [/INST]",
    "{} </s>",
    " ".join(INSTRUCTION.split()[:5]) + " {}",  # part of a sentence
    "{} -> {}",  # another separator than this prompt has
)
_NUMBER = re.compile(
    r"\b(?:\d[\d,.]*\d|\d|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty)\b", re.IGNORECASE
)


def _refusal(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(REFUSALS[n % len(REFUSALS)], pair.source)


def _chat(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(CHAT_FRAMES[n % len(CHAT_FRAMES)].format(pair.target), pair.source)


def _echo(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(ECHOES[n % len(ECHOES)].replace("{}", pair.target), pair.source)


def _too_long(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    text = pair.target
    while COUNT_TOKENS(text) <= 77:
        n += 1
        text += " " + pairs[n % len(pairs)].target
    return Case(text, pair.source)


def _caption_again(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    ways = (pair.source, pair.source.upper(), pair.source.rstrip(" .") + ".", f"“{pair.source}”")
    return Case(ways[n % len(ways)], pair.source)


def _other_articles(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    words = [word for word in pair.source.split() if word.lower() not in ("a", "an", "the")]
    return Case(" ".join([("The", "A")[n % 2], *words, "."]), pair.source)


def _other_inflection(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case | None:
    words = pair.source.split()
    places = [place for place, word in enumerate(words) if word.isalpha() and word.islower() and len(word) > 3]
    if not places:
        return None
    place = places[n % len(places)]
    word = words[place]
    words[place] = word[:-1] if word.endswith("s") else word[:-3] + "es" if word.endswith("ing") else word + "s"
    return Case(" ".join(words), pair.source)


def _one_word_more(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(f"{pair.source} seen", pair.source)


BROKEN = ("\ufffd", "\u00e2\u20ac\u2122s", "caf\u00c3\u00a9", "<0x0A>", "\u00f0\u0178\u02dc\u0160", "\u00c2\u00ae")
SPACES = ("\u0120", "\u2581")
MARKUP = (
    "The **picture: @", "@ [photo](picture.html)", "@ <em class=x", "<think>@", '{"caption": "@", "style": "plain"}',
    "@ https://pictures.example/1", "@ (see pictures.com)", "@ `code", "@ &notasign; more", "@ \\u00e9",
)  # fmt: skip
WORDLESS = (
    "###",
    "12.5",
    "DSC_0087.JPG",
    "img-001.png",
    "\U0001f382",
    "2019-08-14",
    "000000039769.jpg",
    "...",
    "X",
    "4 x 3",
)


def _broken(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    first, *others = pair.target.split()
    return Case(" ".join([first, BROKEN[n % len(BROKEN)], *others]), pair.source)


def _tokenizer_spaces(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(pair.target.replace(" ", SPACES[n % len(SPACES)]), pair.source)


def _markup(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case | None:
    text = parse_completion(MARKUP[n % len(MARKUP)].replace("@", pair.target), pair.source)
    return None if text == pair.target else Case(text, pair.source)


def _wordless(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(pair.target, WORDLESS[n % len(WORDLESS)])


def _with_words_of_example(*phrases: str) -> Defect:
    def seed(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case | None:
        phrase = phrases[n % len(phrases)]
        known = set(pair.source.lower().split())
        return (
            None if known & set(phrase.lower().split()) else Case(f"{pair.target.rstrip(' .')} {phrase}", pair.source)
        )

    return seed


def _bare_words(pair: ExamplePair) -> list[str]:
    return [word for word in pair.target.split() if word.isalnum()]


def _loop(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    words = _bare_words(pair)
    phrase = words[-(1 + n % 10) :]
    return Case(" ".join(words + 5 * phrase), pair.source)


def _two_words_loop(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    words = _bare_words(pair)
    return Case(" ".join(words + 2 * words[-2:]), pair.source)


def _other_script(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(OTHER_SCRIPTS[n % len(OTHER_SCRIPTS)], pair.source)


def _script_changes(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    words = pair.target.split()
    return Case(" ".join([*words[: len(words) // 2], OTHER_SCRIPTS[n % len(OTHER_SCRIPTS)]]), pair.source)


def _number(replacement: str) -> Defect:
    def seed(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case | None:
        common = {match.lower() for match in _NUMBER.findall(pair.source)} & set(_NUMBER.findall(pair.target.lower()))
        if not common:
            return None
        number = sorted(common)[0]
        text = re.sub(rf"\b{re.escape(number)}\b", replacement, pair.target, flags=re.IGNORECASE)
        return Case(text, pair.source)

    return seed


def _with_placeholder(rewrite_has: str) -> Defect:
    def seed(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
        return Case(f"{pair.target} {rewrite_has}", f"<PERSON> {pair.source}")

    return seed


def _invented_placeholder(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    names = ("<PERSON>", "<LOCATION>", "[NAME]", "[CITY]", "<PERSON_1>", "[Your Name]")
    return Case(f"{pair.target} {names[n % len(names)]}", pair.source)


def _of_another_picture(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(pairs[(n + len(pairs) // 2) % len(pairs)].target, pair.source)


EXAMPLES = (
    ExamplePair("grandma Ruth 90th birthday cake", "Grandma Ruth has a cake for her 90th birthday."),
    ExamplePair("adopt Biscuit, beagle mix", "Biscuit, a beagle mix, is up for adoption."),
    ExamplePair("golden gate bridge fog 2019", "The Golden Gate Bridge in fog, pictured in August 2019."),
)
DEFECTS: dict[tuple[Rejection, str], Defect] = {
    (Rejection.NOTHING_TO_REWRITE, f"{len(WORDLESS)} captions without a word"): _wordless,
    (Rejection.EMPTY, "blank"): lambda n, pair, pairs: Case(" ", pair.source),
    (Rejection.TRUNCATED, "cut off"): lambda n, pair, pairs: Case(pair.target[:-9], pair.source, truncated=True),
    (Rejection.REFUSAL, f"{len(REFUSALS)} wordings"): _refusal,
    (Rejection.CHAT_PHRASE, f"{len(CHAT_FRAMES)} wordings"): _chat,
    (Rejection.PROMPT_ECHO, f"{len(ECHOES)} ways"): _echo,
    (Rejection.BROKEN_CHARACTERS, f"{len(BROKEN)} kinds"): _broken,
    (Rejection.BROKEN_CHARACTERS, "spaces of tokenizers"): _tokenizer_spaces,
    (Rejection.MARKUP_LEFT, f"{len(MARKUP)} ways, after the normaliser"): _markup,
    (Rejection.TOO_SHORT, "first word"): lambda n, pair, pairs: Case(pair.target.split()[0], pair.source),
    (Rejection.TOO_LONG, "texts joined"): _too_long,
    (Rejection.COPY_OF_CAPTION, "case and punctuation"): _caption_again,
    (Rejection.NEAR_COPY, "other articles"): _other_articles,
    (Rejection.NEAR_COPY, "one word inflected"): _other_inflection,
    (Rejection.NEAR_COPY, "one word more"): _one_word_more,
    (Rejection.COPY_OF_REWRITE, "case"): lambda n, pair, pairs: Case(
        pair.target, pair.source, others=(pair.target.upper(),)
    ),
    (Rejection.COPY_OF_EXAMPLE, "case and punctuation"): lambda n, pair, pairs: Case(
        EXAMPLES[n % 3].target.lower().rstrip("."), pair.source
    ),
    (Rejection.FROM_EXAMPLE, "a phrase of three words"): _with_words_of_example(
        "her 90th birthday", "up for adoption", "a beagle mix", "bridge in fog", "has birthday cake"
    ),
    (Rejection.FROM_EXAMPLE, "a number"): _with_words_of_example("aged 90th", "since 2019"),
    (Rejection.FROM_EXAMPLE, "a name"): _with_words_of_example("with Ruth", "of Biscuit", "in August"),
    (Rejection.FROM_EXAMPLE, "one other word"): _with_words_of_example("with beagle", "and fog", "for adoption"),
    (Rejection.LOOPING, "1 to 10 words, six times"): _loop,
    (Rejection.LOOPING, "2 words, three times"): _two_words_loop,
    (Rejection.WRONG_SCRIPT, f"{len(OTHER_SCRIPTS)} sentences"): _other_script,
    (Rejection.WRONG_SCRIPT, "from the middle"): _script_changes,
    (Rejection.NUMBERS_LOST, "left out"): _number(""),
    (Rejection.NUMBERS_LOST, "another number"): _number("13"),
    (Rejection.PLACEHOLDERS_CHANGED, "lost"): _with_placeholder("person"),
    (Rejection.PLACEHOLDERS_CHANGED, "spelled differently"): _with_placeholder("<person>"),
    (Rejection.PLACEHOLDERS_CHANGED, "another"): _with_placeholder("<LOCATION>"),
    (Rejection.PLACEHOLDERS_CHANGED, "invented"): _invented_placeholder,
    (Rejection.UNRELATED, "of another picture"): _of_another_picture,
}
