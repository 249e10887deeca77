"""Figures of the gate: false rejections of human pairs, detected defects, and the cost of a verdict.

Human pairs come from the built-in prompt sets. `LACLIP_CAPTION_PAIRS` may name a file with several captions of each
picture by different people: COCO's annotations (JSON), or Flickr8k's lines `picture#n<TAB>caption`. Two people who
describe one picture mention different facts, so the refused share of these pairs is an upper bound on false rejections.

Defects are seeded into accepted rewrites (`gate_defects`).
"""

import json
import os
import timeit
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from laclip_ray.config import GateConfig
from laclip_ray.rewriting.judging.gate import Gate, Rejection
from laclip_ray.rewriting.prompting.head_choice import pairs_of, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import ExamplePair, built_in_prompt_sets, load_prompt_set
from tests.figures.figure import Figure
from tests.figures.gate_defects import COUNT_TOKENS, DEFECTS, EXAMPLES, Defect

SHOW = 8
HEADS = 32
"""Prompt heads of each built-in set."""
REPOSITORY = Path(__file__).parents[2]

SWITCHES: dict[Rejection, dict[str, object]] = {
    Rejection.NOTHING_TO_REWRITE: {"drop_wordless_captions": False},
    Rejection.TRUNCATED: {"drop_truncated": False},
    Rejection.REFUSAL: {"drop_chat_phrases": False},
    Rejection.CHAT_PHRASE: {"drop_chat_phrases": False},
    Rejection.PROMPT_ECHO: {"drop_prompt_echo": False},
    Rejection.BROKEN_CHARACTERS: {"drop_broken_characters": False},
    Rejection.MARKUP_LEFT: {"drop_markup": False},
    Rejection.TOO_SHORT: {"min_words": 0},
    Rejection.TOO_LONG: {"max_context_tokens": None},
    Rejection.COPY_OF_CAPTION: {"drop_copies": False},
    Rejection.NEAR_COPY: {"drop_near_copies": False},
    Rejection.COPY_OF_REWRITE: {"drop_repeats": False},
    Rejection.COPY_OF_EXAMPLE: {"drop_prompt_echo": False},
    Rejection.FROM_EXAMPLE: {"drop_from_example": False},
    Rejection.LOOPING: {"max_repeated_phrases": 0},
    Rejection.WRONG_SCRIPT: {"drop_wrong_script": False},
    Rejection.NUMBERS_LOST: {"drop_lost_numbers": False},
    Rejection.PLACEHOLDERS_CHANGED: {"drop_changed_placeholders": False},
    Rejection.UNRELATED: {"min_shared_words": 0},
}
"""The settings that switch off the check of each reason."""


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


def built_in_heads() -> list[tuple[ExamplePair, ...]]:
    """Prompt heads of the built-in sets."""
    sets = map(load_prompt_set, built_in_prompt_sets())
    return [head for prompt_set in sets for head in pairs_of(prompt_set, unaligned_heads(prompt_set, HEADS, 0))]


def false_rejections(
    pairs: Sequence[ExamplePair], gate: Gate, heads: Sequence[tuple[ExamplePair, ...]] = ((),)
) -> dict[Rejection, float]:
    """Share of `pairs` that the gate refuses, by reason. Each pair has one of the heads that do not show it."""
    verdicts: Counter[Rejection | None] = Counter()
    for n, pair in enumerate(pairs):
        others = (number % len(heads) for number in range(n, n + len(heads)))
        head = next(number for number in others if pair not in heads[number])
        verdicts[gate.judge(pair.target, pair.source, False, head)] += 1
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


def cost_us(gate: Gate, pairs: Sequence[ExamplePair], draws: int = 4) -> float:
    """Microseconds per verdict with `draws` draws per caption: the best of 20 passes over the pairs."""

    def judge_all() -> None:
        for pair in pairs:
            for _ in range(draws):
                gate.judge(pair.target, pair.source, False, 0)

    return min(timeit.repeat(judge_all, number=1, repeat=20)) / (len(pairs) * draws) * 1e6


def figures() -> Iterator[Figure]:
    """Measure everything that the available data allows: the picture pairs and web captions are optional."""
    every_check: dict[str, object] = {"drop_near_copies": True}
    gate = make_gate(EXAMPLES, **every_check)
    own = built_in_pairs()
    groups = {"built-in pairs": own}
    if named := os.environ.get("LACLIP_CAPTION_PAIRS"):
        groups["pairs of one picture"] = picture_pairs(Path(named))
    else:
        print("LACLIP_CAPTION_PAIRS is not set: false rejections are measured on the built-in pairs alone")
    heads = built_in_heads()
    usual = Gate(GateConfig(), heads, COUNT_TOKENS)
    for group, pairs in groups.items():
        shares = false_rejections(pairs, usual, heads)
        bar = 0.0 if group == "built-in pairs" else None
        yield Figure(SHOW, f"gate: refused of {len(pairs)} {group}", 100 * sum(shares.values()), "%", at_most=bar)
        shares[Rejection.NEAR_COPY] = false_rejections(pairs, gate)[Rejection.NEAR_COPY]  # by default it refuses none
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
            switched_off = make_gate(EXAMPLES, **every_check | SWITCHES.get(reason, {}))
            without_check = detection(switched_off, sound, {(reason, how): DEFECTS[reason, how]})[reason, how]
            name = f"gate: {reason} ({how}) in {default.seeded} {base}"
            yield Figure(SHOW, f"{name}: refused", 100 * default.refused, "%")
            yield Figure(SHOW, f"{name}: named so", 100 * default.named, "%")
            yield Figure(SHOW, f"{name}: refused with this check off", 100 * without_check.refused, "%")

    sound = accepted(own, gate)
    yield Figure(SHOW, "gate: a verdict, four draws a caption", cost_us(gate, sound), "us", at_most=10.0)
