"""Closed English word lists for wrong captions: nouns that one can see, their attributes, and the words between them.

The lists are small and safe. They leave out words with a second use as verb, name or part of an idiom ("leaves",
"rose", "carpet"). A text in another language has no phrase of these words, so it gets no wrong captions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


def _listed(words: str) -> frozenset[str]:
    """Words between spaces, or phrases between commas."""
    return frozenset(re.findall(r"[\w -]+" if "," in words else r"[\w-]+", words))


@dataclass(frozen=True)
class Noun:
    """A form of a noun."""

    singular: str
    """Tells whether two forms are of one noun."""
    kind: str
    """Nouns of one kind take the same attributes."""
    is_plural: bool = False
    is_mass: bool = False
    """Has no article: water."""


_IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "businessman": "businessmen",
    "businesswoman": "businesswomen", "fisherman": "fishermen", "policeman": "policemen", "wolf": "wolves",
    "goose": "geese", "mouse": "mice", "scarf": "scarves", "calf": "calves", "shelf": "shelves", "knife": "knives",
    "tomato": "tomatoes",
}  # fmt: skip

_COUNTED = {
    "adult": (
        "man woman person lady guy couple businessman businesswoman farmer fisherman worker musician artist tourist "
        "mother father teacher doctor nurse chef actor singer dancer photographer politician athlete"
    ),
    "human": (
        "boy girl child baby kid toddler teenager student bride groom soldier surfer skier cyclist climber hiker "
        "swimmer snowboarder skateboarder skater policeman officer firefighter monk guitarist footballer boxer cowboy "
        "princess queen king angel witch driver player model"
    ),
    "animal": (
        "dog puppy cat kitten horse cow bird duck swan lion tiger elephant monkey rabbit giraffe zebra owl eagle "
        "parrot butterfly bee turtle frog snake squirrel wolf goat pig penguin seagull dolphin whale shark camel "
        "donkey leopard cheetah spider lizard crab goose lamb pony hamster mouse kangaroo gorilla crocodile rooster "
        "pigeon sparrow robin finch bull calf fox bear"
    ),
    "top": "shirt jacket coat suit sweater blouse hoodie uniform costume vest",
    "dress": "dress gown skirt kimono",
    "clothing": "hat cap scarf helmet mask tie veil crown apron necklace turban swimsuit bikini",
    "bag": "bag backpack handbag purse suitcase",
    "seat": "chair bench sofa couch",
    "table": "table desk shelf cabinet bed",
    "wall": "wall fence gate",
    "opening": "door window roof floor staircase ceiling",
    "thing": (
        "lamp mirror curtain pillow blanket rug candle book newspaper laptop computer phone smartphone camera guitar "
        "piano drum violin ball kite balloon flag toy doll clock tent ladder sword pen pencil umbrella surfboard "
        "skateboard snowboard keyboard television refrigerator oven stove toilet sink bathtub hydrant racket racquet "
        "frisbee parasol statue sculpture fountain cage puddle mushroom toadstool cactus"
    ),
    "vessel": "basket box bottle cup mug teacup bowl plate spoon fork knife vase pot tray",
    "food": "pumpkin cake pizza sandwich donut carrot pear apple banana tomato egg cookie",
    "flower": "flower tulip daisy sunflower orchid blossom",
    "tree": "tree pine fir",
    "vehicle": (
        "car sedan automobile truck bus train bicycle bike motorcycle scooter boat sailboat dinghy ship yacht canoe "
        "kayak plane airplane helicopter tractor van taxi tram carriage wagon cart stroller wheelchair jeep"
    ),
    "building": (
        "house building church castle tower barn cottage bungalow hut cabin temple lighthouse skyscraper villa palace "
        "mosque cathedral stadium garage"
    ),
    "bridge": "bridge",
    "way": "street road path river sidewalk trail",
    "place": (
        "field forest beach park garden lake mountain hill valley desert island meadow pool pond yard stage room "
        "kitchen bathroom bedroom city town village market waterfall harbor pier dock lawn rock cave tunnel porch "
        "balcony terrace"
    ),
    "group": "crowd group",
    "backdrop": "background",
}  # fmt: skip
_PLURAL_ONLY = {
    "clothing": "shoes boots sneakers sandals socks gloves jeans pants trousers shorts leggings",
    "eyewear": "sunglasses glasses",
    "eyes": "eyes",
    "cloud": "clouds",
    "opening": "stairs",
    "flower": "roses petals",
}
"""Nouns listed in the plural alone: the singular is missing, rare, or means something else."""
_SINGULAR_ONLY = {"sky": "sky sea ocean", "hair": "hair beard"}
_MASS = "water snow grass sand mud ice hay"


def plural_of(noun: str) -> str:
    """The plural of a listed noun."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _nouns() -> dict[str, Noun]:
    nouns = {word: Noun(word, "mass", is_mass=True) for word in _MASS.split()}
    for kind, words in _SINGULAR_ONLY.items():
        nouns |= {word: Noun(word, kind) for word in words.split()}
    for kind, words in _PLURAL_ONLY.items():
        nouns |= {word: Noun(word.removesuffix("s"), kind, is_plural=True) for word in words.split()}
    for kind, words in _COUNTED.items():
        for word in words.split():
            nouns[word] = Noun(word, kind)
            nouns[plural_of(word)] = Noun(word, kind, is_plural=True)
    return nouns


NOUNS: Mapping[str, Noun] = _nouns()
"""By form, in lower case."""

HUMANS = frozenset({"adult", "human"})
ANIMATE = HUMANS | {"animal"}
PLACES = frozenset({"way", "place", "building", "bridge", "sky", "backdrop"})
"""Kinds that do not wear, hold or ride, and are not held."""

# --- attributes: (kinds of nouns, word -> words that say something else). No alternative is close to the word:
# no picture shows both: "red" is not replaced by "pink", nor "stone" by "brick".

_COLOURS = {
    "red": "blue green yellow black white",
    "blue": "red yellow white black pink",
    "green": "red white black purple pink",
    "yellow": "blue red black purple green",
    "black": "white red yellow pink",
    "white": "black red blue green",
    "pink": "green blue black yellow",
    "purple": "yellow green white orange",
    "orange": "blue green black white",
    "brown": "white blue green red",
    "gray": "red yellow green orange",
    "grey": "red yellow green orange",
}
_ANIMAL_COLOURS = {"black": "white brown", "white": "black brown", "brown": "black white", "gray": "brown white",
                   "grey": "brown white"}  # fmt: skip
_HAIR_COLOURS = {"black": "blonde white red", "blonde": "black brown", "blond": "black brown", "brown": "blonde white",
                 "red": "black blonde white", "white": "black brown red", "gray": "black brown", "grey": "black brown",
                 "blue": "black blonde red", "pink": "black blonde brown"}  # fmt: skip
_EYE_COLOURS = {"blue": "green brown", "green": "blue brown", "brown": "blue green", "yellow": "blue brown"}
_SIZES = {
    "small": "large huge", "tiny": "huge large", "little": "big huge", "large": "small tiny", "big": "small tiny",
    "huge": "tiny small", "giant": "tiny small", "enormous": "tiny small", "massive": "tiny small",
}  # fmt: skip
_HEIGHTS = {"tall": "short", "short": "tall"}
_LENGTHS = {"long": "short", "short": "long"}
_WIDTHS = {"narrow": "wide", "wide": "narrow"}
_AGES = {"young": "old elderly", "old": "young", "elderly": "young"}
_BUILDING_AGES = {"old": "modern", "ancient": "modern", "modern": "old ancient"}
_HARD = {
    "wooden": "metal plastic", "metal": "wooden", "steel": "wooden", "iron": "wooden", "plastic": "wooden metal",
    "glass": "wooden metal", "marble": "wooden",
}  # fmt: skip
_OF_WALLS = {
    "wooden": "brick concrete stone", "stone": "wooden metal", "brick": "wooden metal", "concrete": "wooden glass",
    "metal": "wooden stone", "glass": "brick wooden",
}  # fmt: skip
_OF_OPENINGS = {"wooden": "metal glass", "metal": "wooden glass", "stone": "wooden metal", "marble": "wooden",
                "concrete": "wooden"}  # fmt: skip
_OF_BUILDINGS = {"wooden": "brick stone", "stone": "wooden", "brick": "wooden", "concrete": "wooden", "glass": "brick"}
_OF_BRIDGES = {"wooden": "stone steel", "stone": "wooden steel", "steel": "wooden stone", "iron": "wooden stone"}
_OF_TOPS = {"leather": "denim woollen", "denim": "leather woollen", "lace": "leather denim", "silk": "leather denim",
            "velvet": "denim", "woollen": "leather"}  # fmt: skip
_OF_BAGS = {"leather": "plastic", "plastic": "leather"}

_THINGS = _listed(
    "top dress clothing bag seat table wall opening thing vessel flower vehicle building backdrop cloud bridge"
)


@dataclass(frozen=True)
class Attribute:
    """A kind of attribute, for some kinds of nouns."""

    name: str
    kinds: frozenset[str]
    """Of nouns."""
    alternatives: Mapping[str, tuple[str, ...]]
    """By word, the words of the same attribute that say something else."""


def _attribute(name: str, kinds: str | frozenset[str], words: Mapping[str, str]) -> Attribute:
    of = frozenset(kinds.split()) if isinstance(kinds, str) else kinds
    return Attribute(name, of, {word: tuple(others.split()) for word, others in words.items()})


ATTRIBUTES = (
    _attribute("colour", _THINGS | {"food", "sky"}, _COLOURS),
    _attribute("colour", "animal", _ANIMAL_COLOURS),
    _attribute("colour", "hair", _HAIR_COLOURS),
    _attribute("colour", "eyes", _EYE_COLOURS),
    _attribute(
        "size", "animal bag table vessel food flower tree vehicle building bridge place group thing opening", _SIZES
    ),
    _attribute("height", "adult tree building", _HEIGHTS),
    _attribute("length", "hair dress bridge", _LENGTHS),
    _attribute("width", "way bridge", _WIDTHS),
    _attribute("age", "adult", _AGES),
    _attribute("age", "building bridge", _BUILDING_AGES),
    _attribute("material", "seat table vessel", _HARD),
    _attribute("material", "wall", _OF_WALLS),
    _attribute("material", "opening", _OF_OPENINGS),
    _attribute("material", "building", _OF_BUILDINGS),
    _attribute("material", "bridge", _OF_BRIDGES),
    _attribute("material", "top dress", _OF_TOPS),
    _attribute("material", "bag", _OF_BAGS),
)

IDIOMS = _listed(
    "white house,white houses,green house,black box,black boxes,red sea,black sea,black forest,green room,white water,"
    "white board,black board,blue whale,blue whales,black widow,white shark,brown bear,black bear,giant panda,"
    "big bird,white room,little mermaid,orange tree,orange trees,white tie,black tie,black belt,green card,red bull,"
    "little person,little people,old people,short people,old city,old town,old guy,young person,yellow cab,"
    "glass ceiling,iron man,steel man,long island,big ben,short film,red planet,orange juice"
)
"""Pairs of attribute and noun that form a name or a term. Another attribute would not make the caption wrong."""

MODIFIERS = _listed(
    "beautiful happy cute pretty smiling attractive handsome adorable lovely funny pregnant female male senior adult "
    "middle-aged muscular blonde blond brunette african american asian indian chinese japanese european caucasian "
    "french italian british german mexican russian traditional colorful colourful bright dark light vintage retro "
    "antique rustic wild stray domestic fresh ripe healthy empty full open closed broken dirty clean wet dry warm "
    "cold hot snowy sandy grassy rocky wooded sunny cloudy busy quiet crowded deserted abandoned decorated decorative "
    "ornate striped floral knitted elegant stylish casual formal romantic sleeping sad angry scary cartoon stuffed "
    "golden silver football basketball baseball soccer tennis hockey rugby cricket golf police wedding christmas "
    "school country rock pop jazz business fashion sports race fishing sailing cargo passenger fire front back top "
    "round square soft plush sharp shiny male teenage teddy baby fluffy furry hairy curly new same other "
    "unidentified homeless bearded barefoot shirtless naked armed elderly young old little small big large tall short "
    "long black white red blue green yellow pink purple orange brown gray grey wooden metal plastic glass stone brick "
    "leather denim modern ancient tiny huge"
)
"""Words before a noun, from outside the lists of nouns. After an article, other words are taken for modifiers too."""

PROPER = _listed(
    "african american asian indian chinese japanese european caucasian french italian british german mexican russian "
    "christmas"
)
"""Modifiers that keep their capital within a sentence."""

SOFTENING = _listed("light pale dark deep bright vibrant soft")
"""Words before a colour that black and white do not take."""

# --- the words between and around noun phrases

ARTICLES = frozenset({"a", "an"})
POSSESSIVES = _listed("his her its their my our your")
DETERMINERS = ARTICLES | POSSESSIVES | _listed("the each every another one")
PLURAL_DETERMINERS = _listed("two three four five six seven eight nine ten several some many these those few")

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""Number words from 2."""

PREPOSITIONS = _listed("on in inside under underneath beneath behind above over below through onto into")
"""They say where a thing is. With its nouns exchanged, the caption is wrong. "Near", "with" and "against" are not of
them."""
TRANSITIVE = _listed(
    "holding riding wearing carrying eating pulling pushing driving feeding throwing kicking climbing cleaning "
    "washing painting repairing"
)
TRANSITIVE_FINITE = _listed("holds rides wears carries eats pulls pushes drives feeds throws kicks climbs")
INTRANSITIVE = _listed(
    "sitting standing lying laying sleeping resting walking running swimming floating flying jumping hanging perched "
    "parked placed kneeling crawling hiding growing sailing dancing playing climbing grazing relaxing posing"
)
INTRANSITIVE_FINITE = _listed(
    "sits stands lies sleeps rests walks runs swims floats flies jumps hangs sails plays grazes"
)

IN_USE = _listed(
    "on phone,on computer,on laptop,on camera,on smartphone,in water,on model,in group,in crowd,"
    "on background,over background,in background,on stage,in room"
)
"""Pairs of preposition and noun that say how, not where."""

DEPICTIONS = _listed(
    "view photo photograph picture image portrait illustration painting drawing shot sketch silhouette silhouettes "
    "close-up closeup photos pictures images video footage"
)
"""What shows a thing: "a portrait of a woman"."""

FOLLOWERS = _listed(
    "with in on at by near beside next under over behind during while as and or for from to that which who where when "
    "before after against around along across into onto through above below inside outside is are was were has have "
    "outdoors indoors together alone but until between among amid beneath underneath off up down against without "
    "covered surrounded isolated filled made seen taken"
)
"""Words that cannot continue a noun phrase. The noun before them is its head."""

NOUNS_IN_ING = _listed(
    "building wedding clothing evening morning parking setting drawing painting ring string swimming dining living "
    "shopping wing king railing ceiling icing bedding lighting racing stocking earring pudding herring sterling "
    "spring fishing boarding training meeting landing crossing thing everything something opening greeting bowling "
    "boxing waiting riding sailing hunting gaming cooking printing washing sewing serving covering viewing wrapping"
)
"""Words like participles that continue a noun phrase: "wedding dress", "fishing boat"."""

SUBSTANCES = _listed("coffee tea wine beer milk juice soup food rice fruit fruits bread hay wood")
"""Contents of a cup, a plate or a stack: "a cup of coffee"."""

SHADES = _listed(
    "navy royal baby sky olive emerald lime hot mint neon off snow jet blood ice powder teal turquoise cobalt forest "
    "charcoal rose year years month months week weeks extra not"
)
"""Words before an attribute that depend on it: "navy blue", "six years old"."""
