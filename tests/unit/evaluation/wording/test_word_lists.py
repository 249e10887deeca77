"""The word lists are consistent."""

import pytest

from laclip_ray.evaluation.wording.word_lists import (
    ATTRIBUTES,
    DETERMINERS,
    FOLLOWERS,
    INTRANSITIVE,
    INTRANSITIVE_FINITE,
    NOUNS,
    NUMBERS,
    PLURAL_DETERMINERS,
    PREPOSITIONS,
    TRANSITIVE,
    TRANSITIVE_FINITE,
    Attribute,
    plural_of,
)


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: f"{attribute.name} {min(attribute.kinds)}")
def test_alternatives_are_other_words_of_the_same_kind_of_attribute(attribute: Attribute) -> None:
    known = {word for other in ATTRIBUTES if other.name == attribute.name for word in other.alternatives}
    for word, others in attribute.alternatives.items():
        assert others
        assert word not in others
        assert len(set(others)) == len(others)
        assert set(others) <= known


def test_kinds_of_attributes_are_kinds_of_nouns() -> None:
    kinds = {noun.kind for noun in NOUNS.values()}
    assert all(attribute.kinds <= kinds for attribute in ATTRIBUTES)


def test_no_word_of_a_noun_takes_two_alternatives_lists_of_one_attribute() -> None:
    for kind in {noun.kind for noun in NOUNS.values()}:
        for word in {word for attribute in ATTRIBUTES for word in attribute.alternatives}:
            names = [one.name for one in ATTRIBUTES if kind in one.kinds and word in one.alternatives]
            assert len(set(names)) == len(names), (kind, word)


def test_nouns_are_neither_attributes_nor_words_between_phrases() -> None:
    between = (
        DETERMINERS | PLURAL_DETERMINERS | FOLLOWERS | PREPOSITIONS | TRANSITIVE | TRANSITIVE_FINITE | INTRANSITIVE
        | INTRANSITIVE_FINITE | {word for attribute in ATTRIBUTES for word in attribute.alternatives}
    )  # fmt: skip
    assert NOUNS.keys() & between == set()


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("dog", "dogs"), ("bus", "buses"), ("puppy", "puppies"), ("boy", "boys"), ("bench", "benches"), ("man", "men")],
)
def test_plurals_are_english(singular: str, plural: str) -> None:
    assert plural_of(singular) == plural
    assert (NOUNS[singular].is_plural, NOUNS[plural].is_plural) == (False, True)
    assert NOUNS[singular].singular == NOUNS[plural].singular


def test_number_words_ascend() -> None:
    assert NUMBERS[:3] == ("two", "three", "four")
    assert set(NUMBERS) <= PLURAL_DETERMINERS
