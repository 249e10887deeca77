"""Wrong captions are grammatical, wrong, and made only where the rules are certain."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.wording.hard_negatives import KINDS, hard_negatives
from laclip_ray.evaluation.wording.word_lists import NOUNS, NUMBERS
from laclip_ray.rewriting.judging.text import plain_text
from tests.cases import case


def all_of(caption: str, kind: str) -> set[str]:
    """Every wrong caption of a kind that some seed gives."""
    return {one.text for seed in range(60) for one in hard_negatives(caption, seed, "id") if one.kind == kind}


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("a dog on a table", "a table on a dog"),
        ("A dog on the table.", "A table on the dog."),
        ("Dog on a wooden table", "Wooden table on a dog"),
        ("Dog On A Wooden Table", "Wooden Table On A Dog"),
        ("a young woman in a red dress", "a red dress in a young woman"),
        ("a police officer riding a horse", "a horse riding a police officer"),
        ("an umbrella under a tree", "a tree under an umbrella"),
        ("the cat is sitting on the sofa", "the sofa is sitting on the cat"),
        ("a cat sits on a red sofa , asleep", "a red sofa sits on a cat , asleep"),
        ("two dogs on three benches", "two benches on three dogs"),
        ("a cup of coffee on a table", "a table on a cup of coffee"),
        ("portrait of a man in a hat", "portrait of a hat in a man"),
        ("a bird on top of a house", "a house on top of a bird"),
        ("a man 's dog on a table", "a man 's table on a dog"),
        ("American man on a horse", "Horse on an American man"),
        ("an unusual chair in a garden", "a garden in an unusual chair"),
        ("a white unicycle seat on a boat", None),  # an unknown noun ends the phrase
    ],
)
def test_objects_are_exchanged(caption: str, wrong: str | None) -> None:
    assert all_of(caption, "objects_exchanged") == ({wrong} if wrong else set())


@pytest.mark.parametrize(
    "caption",
    [
        "a dog near a table",  # true the other way round
        "a man with a dog",
        "a dog and a cat",
        "a bike against a wall",
        "a dog on a table cloth",  # "cloth" is unknown
        "a group of dogs on a table",  # "dogs" is a part, and "a group" has another number than the verb may need
        "dogs on a table",  # another number
        "man on stage",
        "a woman on the phone",
        "a man on his horse",
        "a big and white horse in a field",
        "a man and woman on a couch",
        "a dog - friendly table on a boat",
        "water in a cup",
        "a man on a white background",
        "a man on a man",
        "a hat on a river bank",
        "a dog on the edge of a table",
    ],
)
def test_objects_are_not_exchanged_where_that_might_be_true_or_broken(caption: str) -> None:
    assert all_of(caption, "objects_exchanged") - {"a table on a group of dogs"} == set()


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("a red car and a blue bus", "a blue car and a red bus"),
        ("Red apples on a white plate", "White apples on a red plate"),
        ("a big dog and a small cat", "a small dog and a big cat"),
        ("an old man and a young woman", "a young man and an old woman"),
        ("a wooden table and a glass bowl", "a glass table and a wooden bowl"),
        ("an orange car by a red house", "a red car by an orange house"),
    ],
)
def test_attributes_are_exchanged(caption: str, wrong: str) -> None:
    assert all_of(caption, "attributes_exchanged") == {wrong}


@pytest.mark.parametrize(
    "caption",
    [
        "a red car and a red bus",
        "a red car and a blue car",  # true after the exchange
        "a small dog and a little cat",  # hardly another size
        "a gray cat on a grey sofa",
        "a young man in a red shirt",  # no "red man"
        "a red and white dress by a blue car",  # one of several colours
        "a light blue wall and a black car",  # no "light black"
        "a red dress",
    ],
)
def test_attributes_are_not_exchanged_where_that_might_be_true_or_broken(caption: str) -> None:
    assert all_of(caption, "attributes_exchanged") == set()


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("a young woman", {"an old woman", "an elderly woman"}),
        ("A tall tree.", {"A short tree."}),
        ("a small dog", {"a large dog", "a huge dog"}),
        ("an old house", {"a modern house"}),
        ("a stone wall", {"a wooden wall", "a metal wall"}),
        ("long hair", {"short hair"}),
        ("a black and white dog", {"a brown and white dog", "a black and brown dog"}),
        ("a light green wall", {"a light red wall", "a light purple wall", "a light pink wall"}),
        ("a red sports car in black", {f"a {one} sports car in black" for one in ("blue", "green", "yellow", "white")}),
    ],
)
def test_an_attribute_is_replaced_by_one_that_the_caption_lacks(caption: str, wrong: set[str]) -> None:
    assert all_of(caption, "attribute_replaced") == wrong


@pytest.mark.parametrize(
    "caption",
    [
        "a black woman",  # no colours of people
        "the white house",
        "a black and white city",  # of the photograph
        "off - white dress",
        "a navy blue dress",
        "a 6 year old man",
        "red wine",
        "stained glass , red",
        "our little girls room",
        "green energy",
    ],
)
def test_attributes_are_not_replaced_where_that_might_be_true_or_broken(caption: str) -> None:
    assert all_of(caption, "attribute_replaced") == set()


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("Two dogs on a beach", {f"{one} dogs on a beach" for one in ("Three", "Four", "Five", "Six")}),
        ("nine small cats", {"ten small cats"}),
        ("2 dogs", {"3 dogs", "4 dogs", "5 dogs", "6 dogs"}),
        ("two dogs and three cats", {f"two dogs and {one} cats" for one in ("four", "five", "six", "seven")}
         | {f"{one} dogs and three cats" for one in ("four", "five", "six")}),
    ],
)  # fmt: skip
def test_a_number_grows(caption: str, wrong: set[str]) -> None:
    assert all_of(caption, "number_changed") == wrong


@pytest.mark.parametrize(
    "caption",
    [
        "one dog",
        "ten dogs",
        "more than two dogs",
        "two dogs looking at each other",
        "two dogs , both asleep",
        "3d glasses",
        "4k dogs",
        "room 2 dogs 12 cats",
        "two of the dogs",
        "two years",
        "part - 2 dogs",
    ],
)
def test_a_number_stays_where_the_result_might_be_true_or_broken(caption: str) -> None:
    assert all_of(caption, "number_changed") - {f"room {n} dogs 12 cats" for n in range(3, 7)} == set()


@case("Evaluation", "captions in other languages than English", "they get no hard negatives, and are not counted")
@pytest.mark.parametrize(
    "caption",
    [
        "ein Hund auf einem roten Tisch",
        "un perro en una mesa roja",
        "un chien sur une table rouge",
        "een man op een rood paard in de stad",
        "2\u5339\u306e\u72ac\u304c\u30c6\u30fc\u30d6\u30eb\u306e\u4e0a\u306b\u3044\u308b",
        "\u0441\u043e\u0431\u0430\u043a\u0430 \u043d\u0430 \u0441\u0442\u043e\u043b\u0435",
        "",
        "IMG_2034.jpg",
        "RED CAR ON A TABLE",
    ],
)
def test_other_texts_have_no_wrong_captions(caption: str) -> None:
    assert hard_negatives(caption, 0, "id") == []


WORDS = (
    "a an the two three red white young small wooden dog dogs table man men car house hair on in under and , . of with "
    "is sitting wearing beautiful xyz 's - 2 A The Red Dog hat cup coffee"
)
captions = st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join)


@given(captions, st.integers(0, 5))
def test_a_wrong_caption_differs_and_each_kind_has_one_at_most(caption: str, seed: int) -> None:
    found = hard_negatives(caption, seed, "id")
    assert all(plain_text(one.text) != plain_text(caption) for one in found)
    kinds = [one.kind for one in found]
    assert kinds == [kind for kind in KINDS if kind in kinds]


def bag(text: str) -> Counter[str]:
    """The words of a text without their order; articles are one word."""
    return Counter(re.sub(r"\ban\b", "a", text.lower()).split())


@given(captions, st.integers(0, 5))
def test_an_exchange_keeps_every_word(caption: str, seed: int) -> None:
    for one in hard_negatives(caption, seed, "id"):
        if one.kind.endswith("exchanged"):
            assert bag(one.text) == bag(caption)


@given(captions, st.integers(0, 5))
def test_a_replacement_changes_one_word(caption: str, seed: int) -> None:
    for one in hard_negatives(caption, seed, "id"):
        if not one.kind.endswith("exchanged"):
            assert sum((bag(caption) - bag(one.text)).values()) == 1
            assert sum((bag(one.text) - bag(caption)).values()) == 1


@given(captions, st.integers(0, 5))
def test_a_number_is_never_smaller(caption: str, seed: int) -> None:
    for one in hard_negatives(caption, seed, "id"):
        if one.kind == "number_changed":
            (old,), (new,) = (bag(caption) - bag(one.text)), (bag(one.text) - bag(caption))
            values = [NUMBERS.index(word) + 2 if word in NUMBERS else int(word) for word in (old, new)]
            assert values[0] < values[1]


def test_wrong_captions_are_a_function_of_seed_and_id() -> None:
    caption = "a red car in front of two white dogs on a beach"
    by_id = {hard_negatives(caption, 0, str(number))[0].text for number in range(30)}
    assert len(by_id) > 1
    assert hard_negatives(caption, 3, "a") == hard_negatives(caption, 3, "a")


def test_spaces_and_signs_of_the_caption_stay() -> None:
    (one,) = hard_negatives("A  dog on a table!!  (2019)\n", 0, "id")
    assert one.text == "A  table on a dog!!  (2019)\n"


def test_every_listed_noun_can_be_exchanged() -> None:
    for form, noun in NOUNS.items():
        if noun.is_plural or noun.is_mass or noun.kind in ("backdrop", "hair", "sky") or noun.singular == "sword":
            continue
        assert all_of(f"the {form} under the sword", "objects_exchanged") == {f"the sword under the {form}"}
