"""Texts of the demo's world: poor alt-texts, faithful rewrites of them in four styles, and a parser for both.

Guarantees: all functions are pure. An alt-text never contains the prompt's separator or a line break. A rewrite states
exactly the facts of its alt-text (`facts_of` gives equal facts for both): the kind, perhaps by another name, and the
colour, number and place if and only if the alt-text has them.
Not covered: texts from outside this world; `facts_of` knows only the words listed here.
"""

import re
from dataclasses import dataclass

from laclip_ray.demo.scenes import KINDS, PLACES, Scene, choose
from laclip_ray.randomness import Key, hash64, uniform

STYLES = ("assistant_concise", "assistant_vivid", "crowd", "cleaned")
"""Styles of rewrites, named after the built-in prompt sets that show them."""

NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "cup": (("cup", "cups"), ("mug", "mugs"), ("teacup", "teacups"), ("beaker", "beakers")),
    "fish": (("fish", "fish"), ("trout", "trout"), ("carp", "carp"), ("koi", "koi")),
    "tree": (("tree", "trees"), ("pine", "pines"), ("fir", "firs"), ("conifer", "conifers")),
    "house": (("house", "houses"), ("cottage", "cottages"), ("bungalow", "bungalows"), ("cabin", "cabins")),
    "car": (("car", "cars"), ("sedan", "sedans"), ("hatchback", "hatchbacks"), ("automobile", "automobiles")),
    "cat": (("cat", "cats"), ("feline", "felines"), ("kitten", "kittens"), ("tabby", "tabbies")),
    "boat": (("boat", "boats"), ("sailboat", "sailboats"), ("dinghy", "dinghies"), ("yacht", "yachts")),
    "umbrella": (
        ("umbrella", "umbrellas"),
        ("parasol", "parasols"),
        ("brolly", "brollies"),
        ("sunshade", "sunshades"),
    ),
    "bird": (("bird", "birds"), ("sparrow", "sparrows"), ("finch", "finches"), ("robin", "robins")),
    "flower": (("flower", "flowers"), ("blossom", "blossoms"), ("bloom", "blooms"), ("daisy", "daisies")),
    "bicycle": (("bicycle", "bicycles"), ("bike", "bikes"), ("pushbike", "pushbikes"), ("cycle", "cycles")),
    "mushroom": (
        ("mushroom", "mushrooms"),
        ("toadstool", "toadstools"),
        ("fungus", "fungi"),
        ("champignon", "champignons"),
    ),
}
"""Singular and plural of each kind's names. The first is the kind's own name."""

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red",),
    "blue": ("blue", "blu"),
    "green": ("green", "grn"),
    "yellow": ("yellow", "yllw"),
    "purple": ("purple", "prpl"),
    "orange": ("orange", "orng"),
    "black": ("black", "blk"),
    "white": ("white", "wht"),
}
"""Spellings of each colour in alt-texts. Rewrites use the first."""

COUNT_WORDS = {2: "two", 3: "three", 4: "four"}

PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "beach": ("beach", "seaside", "shore"),
    "meadow": ("meadow", "grass", "field"),
    "kitchen": ("kitchen", "ktchn"),
    "street": ("street night", "night street", "city night"),
    "snow": ("snow", "snowy", "snowfield"),
    "desert": ("desert", "dunes", "desrt"),
}
"""Words for each place in alt-texts."""

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "at the beach", "by the shore", "at the seaside"),
    "meadow": ("in a meadow", "in the meadow", "on the grass", "in a grassy field"),
    "kitchen": ("in a kitchen", "in the kitchen", "inside a kitchen"),
    "street": ("on a street at night", "on a city street at night", "on a night street"),
    "snow": ("in the snow", "in a snowy place", "on snowy ground"),
    "desert": ("in the desert", "in a desert", "among desert dunes"),
}
"""Phrases for each place in rewrites."""

NOISE = (
    "img {number}",
    "IMG_{number}",
    "DSC{number}",
    "stock photo {number}",
    "stock photo",
    "pic",
    "photo",
    "free download",
    "HD wallpaper",
    "royalty free",
    "thumbnail",
    "ref {number}",
    "buy online",
    "clip art",
    "(c) {number}",
    "#{number}",
)

# Fields: {subject} is the noun with article or number; {is} and {s} agree with it. {place} is empty or a phrase with a
# leading space. {Place} is a capitalised phrase and needs a stated place.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "assistant_concise": (
        "{Subject}{place}.",
        "{Subject} {is} seen{place}.",
        "{Subject} {is} shown{place}.",
        "{Subject} appear{s}{place}.",
        "{Subject} {is} visible{place}.",
        "{Subject} {is} pictured{place}.",
        "{Subject} rest{s}{place}.",
        "This shows {subject}{place}.",
        "{Place}, {subject} {is} seen.",
        "{Place}, {subject} appear{s}.",
    ),
    "assistant_vivid": (
        "Quietly holding the eye, {subject} make{s} a charming scene{place}.",
        "{Subject} draw{s} the gaze{place}, full of quiet charm.",
        "With a character all its own, the scene presents {subject}{place}.",
        "There is a gentle magic to {subject}{place}, inviting a longer look.",
        "{Subject} steal{s} the show{place}, impossible to overlook.",
        "Take a moment to admire {subject}{place}, a delight to behold.",
        "Proudly on display{place}, {subject} catch{es} the eye at once.",
        "Full of life and charm, {subject} take{s} centre stage{place}.",
        "{Place}, {subject} make{s} for a truly memorable sight.",
        "{Place}, {subject} quietly command{s} all of our attention.",
    ),
    "crowd": (
        "There {is} {subject}{place}.",
        "{Subject} {is} standing out{place}.",
        "{Subject} {is} sitting there{place}.",
        "{Subject} that someone found{place}.",
        "A view of {subject}{place}.",
        "Someone can see {subject}{place}.",
        "We see {subject}{place}.",
        "{Subject} {is} all by {self}{place}.",
        "{Place} there {is} {subject}.",
        "{Place} you can see {subject}.",
    ),
    "cleaned": (
        "{Subject} captured{place}.",
        "A snapshot of {subject}{place}.",
        "A close look at {subject}{place}.",
        "{Subject} in full view{place}.",
        "{Subject} as the main subject{place}.",
        "A simple scene with {subject}{place}.",
        "Here {is} {subject}{place}.",
        "{Subject} posing{place}.",
        "{Place}: {subject}.",
        "{Place}, a scene with {subject}.",
    ),
}


@dataclass(frozen=True)
class Facts:
    """Facts that a text states. None: the text does not state the fact."""

    kind: str
    colour: str | None
    count: int | None
    """A stated number. An article or a bare singular does not count."""
    several: bool
    """Whether the noun is plural without a number. False for names whose plural equals the singular."""
    place: str | None


def class_names() -> tuple[str, ...]:
    """The kinds' own names, in the order of the class indices of the evaluation set."""
    return KINDS


def zero_shot_templates() -> tuple[str, ...]:
    """Prompts for zero-shot classification. Except for articles, no other text here has any of their words."""
    return (
        "an illustration showing {c}.",
        "an artwork depicting the {c}.",
        "cartoon drawing: {c}.",
    )


def _word_index() -> dict[str, tuple[str, str | int]]:
    """Meaning of each word of the world: (field of `Facts`, value)."""
    index: dict[str, tuple[str, str | int]] = {}
    for kind, names in NAMES.items():
        for singular, plural in names:
            index[plural] = ("kinds", kind)
            index[singular] = ("kind", kind)
    for colour, words in COLOUR_WORDS.items():
        index |= dict.fromkeys(words, ("colour", colour))
    for count, word in {1: "one", **COUNT_WORDS, 5: "five"}.items():
        index[word] = index[str(count)] = ("count", count)
    index["single"] = ("count", 1)
    index["pair"] = ("count", 2)
    for place, texts in PLACE_WORDS.items():
        index |= {word: ("place", place) for text in texts for word in text.split()}
    return index | {"grassy": ("place", "meadow")}


_WORDS = _word_index()


def facts_of(text: str) -> Facts | None:
    """Parse the facts that a text of this world states. None if it names no kind, or two values of one fact.

    Numbers of three or more digits are file numbers, not counts.
    """
    stated: dict[str, set[str | int]] = {"kind": set(), "colour": set(), "count": set(), "place": set()}
    plural = False
    for word in re.findall(r"[a-z]+|[0-9]+", text.lower()):
        field, value = _WORDS.get(word, ("", ""))
        if field == "kinds":
            field, plural = "kind", True
        if field:
            stated[field].add(value)
    if len(stated["kind"]) != 1 or any(len(values) > 1 for values in stated.values()):
        return None
    kind, colour, count, place = (next(iter(values), None) for values in stated.values())
    return Facts(
        kind=str(kind),
        colour=None if colour is None else str(colour),
        count=None if count is None else int(count),
        several=plural and count is None,
        place=None if place is None else str(place),
    )


def is_faithful(source: str, target: str) -> bool:
    """Whether `target` states exactly the facts of the alt-text `source`."""
    facts = facts_of(source)
    return facts is not None and facts == facts_of(target)


def _chance(share: float, *keys: Key) -> bool:
    return uniform(*keys) < share


def _stated_facts(scene: Scene, *keys: Key) -> Facts:
    """Choose the facts of an alt-text: the kind, and each other fact by chance."""
    count = scene.count if scene.count > 1 and _chance(0.55, "says count", *keys) else None
    return Facts(
        kind=scene.kind,
        colour=scene.colour if _chance(0.45, "says colour", *keys) else None,
        count=count,
        several=scene.kind != "fish" and scene.count > 1 and count is None and _chance(0.6, "plural", *keys),
        place=scene.place if _chance(0.35, "says place", *keys) else None,
    )


def _noise_token(*keys: Key) -> str:
    return choose(NOISE, "noise", *keys).format(number=f"{hash64('noise number', *keys) % 10_000:04d}")


def _count_text(count: int, *keys: Key) -> str:
    return choose((str(count), str(count), COUNT_WORDS[count], f"{count}x", f"x{count}"), "count form", *keys)


def alt_text(scene: Scene, *keys: Key) -> str:
    """Write a terse web text about `scene`. It is true but incomplete: it may omit everything but the kind.

    A quarter of the texts use the kind's own name. File names, abbreviations and stock phrases are common.
    """
    facts = _stated_facts(scene, *keys)
    own_name = _chance(0.25, "own name", *keys)
    singular, plural = NAMES[facts.kind][0] if own_name else choose(NAMES[facts.kind][1:], "name", *keys)
    noun = plural if facts.several or facts.count is not None else singular
    if facts.count is not None and _chance(0.1, "number with singular", *keys):
        noun = singular
    colour = choose(COLOUR_WORDS[facts.colour], "colour form", *keys) if facts.colour else ""
    count = _count_text(facts.count, *keys) if facts.count else ""
    place = choose(PLACE_WORDS[facts.place], "place form", *keys) if facts.place else ""
    noise = _noise_token(*keys) if _chance(0.45, "has noise", *keys) else ""

    form = hash64("form", *keys) % 8
    comma, dash = ("," if place else ""), ("- " if place else "")
    if form == 0:  # a file name
        number = f"{hash64('file number', *keys) % 10_000:04d}"
        joint = choose(("_", "-"), "joint", *keys)
        parts = [count, colour, noun, *place.split(), number]
        return joint.join(part for part in parts if part) + choose((".jpg", ".png", ""), "suffix", *keys)
    parts = {
        1: [noun, colour, count, place, noise],
        2: [noise, count, colour, noun + comma, place],
        3: [place, dash + count, colour, noun, noise],
        4: [count, noun, colour, dash + place, noise],
        5: [noun + ("," if colour else ""), colour + comma, place, count, noise],
    }.get(form, [count, colour, noun, place, noise])
    text = " ".join(" ".join(parts).split())
    case = uniform("case", *keys)
    return text.title() if case < 0.12 else text.upper() if case < 0.18 else text


def _subject(facts: Facts, *keys: Key) -> tuple[str, bool]:
    """The subject of a rewrite, with article or number, and whether it is plural."""
    singular, plural = (
        NAMES[facts.kind][0] if _chance(0.6, "own name", *keys) else choose(NAMES[facts.kind][1:], "name", *keys)
    )
    is_plural = facts.several or (facts.count is not None and facts.count > 1)
    words = [facts.colour or "", plural if is_plural else singular]
    if facts.count is not None:
        words.insert(0, COUNT_WORDS[facts.count])
    elif facts.several:
        words.insert(0, choose(("some", "several", "a few"), "several", *keys))
    else:
        words.insert(0, "an" if (facts.colour or singular)[0] in "aeiou" else "a")
    return " ".join(word for word in words if word), is_plural


def rewrite(facts: Facts, style: str, *keys: Key) -> str:
    """Write a sentence in `style` that states exactly `facts`, on one line."""
    templates = tuple(template for template in TEMPLATES[style] if facts.place is not None or "{Place}" not in template)
    subject, is_plural = _subject(facts, *keys)
    place = choose(PLACE_PHRASES[facts.place], "place phrase", *keys) if facts.place else ""
    return choose(templates, "template", *keys).format(
        subject=subject,
        Subject=subject[0].upper() + subject[1:],
        place=place and f" {place}",
        Place=place.capitalize(),
        self="themselves" if is_plural else "itself",
        s="" if is_plural else "s",
        es="" if is_plural else "es",
        **{"is": "are" if is_plural else "is"},
    )


def rewrite_pair(scene: Scene, style: str, *keys: Key) -> tuple[str, str]:
    """Write an alt-text of `scene`, and its rewrite in `style`."""
    source = alt_text(scene, *keys)
    facts = facts_of(source)
    assert facts is not None, f"no single reading: {source!r}"
    return source, rewrite(facts, style, *keys)


def full_caption(scene: Scene, *keys: Key) -> str:
    """Write a complete caption for held-out retrieval: kind, colour, number (if above one) and place."""
    facts = Facts(scene.kind, scene.colour, scene.count if scene.count > 1 else None, False, scene.place)
    return rewrite(facts, choose(STYLES, "style", *keys), *keys)


assert set(NAMES) == set(KINDS)
assert set(PLACE_WORDS) == set(PLACE_PHRASES) == set(PLACES)
