"""Figures of the gate: false rejections of human pairs, detected defects, and the cost of a verdict.

Human pairs come from the built-in prompt sets. `LACLIP_CAPTION_PAIRS` may name a file with several captions of each
picture by different people: COCO's annotations (JSON), or Flickr8k's lines `picture#n<TAB>caption`. Two people who
describe one picture mention different facts, so the refused share of these pairs is an upper bound on false rejections.

Defects are seeded into accepted rewrites. The gate's patterns were not fitted to the refusals, chat phrases and
sentences in other scripts below.
"""

import json
import os
import re
import timeit
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

from laclip_ray.config import GateConfig
from laclip_ray.data.tokens import TokenizerSpec, count_tokens
from laclip_ray.rewriting.gate import Gate, Rejection
from laclip_ray.rewriting.prompts import INSTRUCTION, SEPARATOR, ExamplePair, built_in_prompt_sets, load_prompt_set
from tests.figures.figure import Figure

SHOW = 8
COUNT_TOKENS = partial(count_tokens, TokenizerSpec("ViT-B-32"))
REPOSITORY = Path(__file__).parents[2]

SWITCHES: dict[Rejection, dict[str, object]] = {
    Rejection.TRUNCATED: {"drop_truncated": False},
    Rejection.REFUSAL: {"drop_chat_phrases": False},
    Rejection.CHAT_PHRASE: {"drop_chat_phrases": False},
    Rejection.PROMPT_ECHO: {"drop_prompt_echo": False},
    Rejection.TOO_SHORT: {"min_words": 0},
    Rejection.TOO_LONG: {"max_context_tokens": None},
    Rejection.COPY_OF_CAPTION: {"drop_copies": False},
    Rejection.COPY_OF_REWRITE: {"drop_repeats": False},
    Rejection.COPY_OF_EXAMPLE: {"drop_prompt_echo": False},
    Rejection.LOOPING: {"max_repeated_phrases": 0},
    Rejection.WRONG_SCRIPT: {"drop_wrong_script": False},
    Rejection.NUMBERS_LOST: {"drop_lost_numbers": False},
    Rejection.PLACEHOLDERS_CHANGED: {"drop_changed_placeholders": False},
    Rejection.UNRELATED: {"min_shared_words": 0},
}
"""The settings that switch off the check of each reason."""


@dataclass(frozen=True)
class Case:
    """A rewrite and everything else that the gate sees."""

    text: str
    caption: str
    truncated: bool = False
    others: tuple[str, ...] = ()


Defect = Callable[[int, ExamplePair, Sequence[ExamplePair]], Case | None]
"""Seeds a defect into the n-th of the accepted pairs. None: this pair cannot have the defect."""


def built_in_pairs() -> list[ExamplePair]:
    """Pairs of the built-in prompt sets."""
    return [pair for name in built_in_prompt_sets() for pair in load_prompt_set(name).pairs]


def picture_pairs(path: Path) -> list[ExamplePair]:
    """Every ordered pair of two captions of one picture."""
    text = path.read_text(encoding="utf-8")
    captions: dict[str, list[str]] = defaultdict(list)
    if path.suffix == ".json":
        for annotation in json.loads(text)["annotations"]:
            captions[str(annotation["image_id"])].append(" ".join(annotation["caption"].split()))
    else:
        for line in text.splitlines():
            picture, caption = line.split("\t")
            captions[picture.partition("#")[0]].append(caption)
    return [ExamplePair(*two) for several in captions.values() for two in permutations(several, 2)]


def web_captions() -> list[str]:
    """Captions of CC3M's validation set; empty without the file."""
    directory = Path(os.environ.get("LACLIP_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    path = directory / "cc3m-validation.tsv"
    if not path.is_file():
        return []
    return [line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()]


def make_gate(head: tuple[ExamplePair, ...] = (), **changes: object) -> Gate:
    """The default gate, or one with some fields changed."""
    return Gate(GateConfig().model_copy(update=changes), [head], COUNT_TOKENS)


def false_rejections(pairs: Sequence[ExamplePair], gate: Gate | None = None) -> dict[Rejection, float]:
    """Share of `pairs` that the gate refuses, by reason."""
    judge = (gate or make_gate()).judge
    verdicts = Counter(judge(pair.target, pair.source, False, 0) for pair in pairs)
    return {reason: verdicts[reason] / len(pairs) for reason in Rejection}


def stand_in_rewrites(captions: Sequence[str]) -> list[ExamplePair]:
    """Make rewrites by exchanging the two halves of each caption, which keeps its words and numbers."""
    pairs = []
    for caption in captions:
        words = caption.split()
        middle = len(words) // 2
        pairs.append(ExamplePair(caption, " ".join([*words[middle:], ",", *words[:middle]])))
    return pairs


def accepted(pairs: Sequence[ExamplePair], gate: Gate) -> list[ExamplePair]:
    """The pairs that the gate accepts. If it refuses one of them with a defect, the defect is the cause."""
    return [pair for pair in pairs if gate.judge(pair.target, pair.source, False, 0) is None]


@dataclass(frozen=True)
class Detection:
    """How many texts with one defect the gate refused."""

    seeded: int
    """Number of texts with the defect."""
    refused: float
    """Share of them refused for any reason."""
    named: float
    """Share of them refused for the defect's own reason."""


def detection(
    gate: Gate, pairs: Sequence[ExamplePair], defects: dict[tuple[Rejection, str], Defect]
) -> dict[tuple[Rejection, str], Detection]:
    """Seed each defect into `pairs` and judge the results."""
    detections = {}
    for (reason, how), defect in defects.items():
        cases = [case for n, pair in enumerate(pairs) if (case := defect(n, pair, pairs)) is not None]
        verdicts = [gate.judge(case.text, case.caption, case.truncated, 0, case.others) for case in cases]
        refused = sum(verdict is not None for verdict in verdicts)
        count = max(1, len(cases))
        detections[reason, how] = Detection(len(cases), refused / count, verdicts.count(reason) / count)
    return detections


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


def _caption_nearly(n: int, pair: ExamplePair, pairs: Sequence[ExamplePair]) -> Case:
    return Case(f"The {pair.source}", pair.source)


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


EXAMPLES = load_prompt_set("assistant_concise").pairs[:3]
DEFECTS: dict[tuple[Rejection, str], Defect] = {
    (Rejection.EMPTY, "blank"): lambda n, pair, pairs: Case(" ", pair.source),
    (Rejection.TRUNCATED, "cut off"): lambda n, pair, pairs: Case(pair.target[:-9], pair.source, truncated=True),
    (Rejection.REFUSAL, f"{len(REFUSALS)} wordings"): _refusal,
    (Rejection.CHAT_PHRASE, f"{len(CHAT_FRAMES)} wordings"): _chat,
    (Rejection.PROMPT_ECHO, f"{len(ECHOES)} ways"): _echo,
    (Rejection.TOO_SHORT, "first word"): lambda n, pair, pairs: Case(pair.target.split()[0], pair.source),
    (Rejection.TOO_LONG, "texts joined"): _too_long,
    (Rejection.COPY_OF_CAPTION, "case and punctuation"): _caption_again,
    (Rejection.COPY_OF_CAPTION, "one word added"): _caption_nearly,
    (Rejection.COPY_OF_REWRITE, "case"): lambda n, pair, pairs: Case(
        pair.target, pair.source, others=(pair.target.upper(),)
    ),
    (Rejection.COPY_OF_EXAMPLE, "case and punctuation"): lambda n, pair, pairs: Case(
        EXAMPLES[n % 3].target.lower().rstrip("."), pair.source
    ),
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


def cost_us(gate: Gate, pairs: Sequence[ExamplePair], draws: int = 4) -> float:
    """Microseconds per verdict with `draws` draws per caption: the best of 20 passes over the pairs."""

    def judge_all() -> None:
        for pair in pairs:
            for _ in range(draws):
                gate.judge(pair.target, pair.source, False, 0)

    return min(timeit.repeat(judge_all, number=1, repeat=20)) / (len(pairs) * draws) * 1e6


def figures() -> Iterator[Figure]:
    """Measure everything that the available data allows: the picture pairs and web captions are optional."""
    gate = make_gate(EXAMPLES)
    own = built_in_pairs()
    groups = {"built-in pairs": own}
    if named := os.environ.get("LACLIP_CAPTION_PAIRS"):
        groups["pairs of one picture"] = picture_pairs(Path(named))
    else:
        print("LACLIP_CAPTION_PAIRS is not set: false rejections are measured on the built-in pairs alone")
    for group, pairs in groups.items():
        shares = false_rejections(pairs)
        bar = 0.0 if group == "built-in pairs" else None
        yield Figure(SHOW, f"gate: refused of {len(pairs)} {group}", 100 * sum(shares.values()), "%", at_most=bar)
        for reason, share in shares.items():
            if share:
                yield Figure(SHOW, f"gate: refused of {group} as {reason}", 100 * share, "%")

    captions = web_captions()
    if captions:
        # Checks of the text alone, on web texts. The fixed caption is unrelated and excuses no text.
        alone = make_gate(min_shared_words=0)
        shares = false_rejections([ExamplePair("picture", caption) for caption in captions], alone)
        for reason, share in shares.items():
            if share:
                yield Figure(SHOW, f"gate: refused of {len(captions)} web captions as {reason}", 100 * share, "%")

    bases = {"rewrites by people": [pair for pairs in groups.values() for pair in pairs]}
    if captions:
        bases["web captions rearranged"] = stand_in_rewrites(captions)
    for base, pairs in bases.items():
        sound = accepted(pairs, gate)
        for (reason, how), default in detection(gate, sound, DEFECTS).items():
            switched_off = make_gate(EXAMPLES, **SWITCHES.get(reason, {}))
            without_check = detection(switched_off, sound, {(reason, how): DEFECTS[reason, how]})[reason, how]
            name = f"gate: {reason} ({how}) in {default.seeded} {base}"
            yield Figure(SHOW, f"{name}: refused", 100 * default.refused, "%")
            yield Figure(SHOW, f"{name}: named so", 100 * default.named, "%")
            yield Figure(SHOW, f"{name}: refused with this check off", 100 * without_check.refused, "%")

    sound = accepted(own, gate)
    yield Figure(SHOW, "gate: a verdict, four draws a caption", cost_us(gate, sound), "us", at_most=10.0)
