import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.judging.meaning_words import content_words, foreign_words, is_number, stem, words_of

texts = st.text(alphabet="abcdefg '\u2019-.3", max_size=40)


def foreign(caption: str, rewrite: str) -> list[str]:
    return foreign_words(words_of(caption), words_of(rewrite))


@pytest.mark.parametrize(
    ("caption", "rewrite"),
    [
        ("a dog runs", "Dogs were running."),
        ("woman 's feet on sand", "A woman's feet are on the sand."),
        ("cat on plate", "A stunning view of a cat that is seen sitting on a plate."),
        ("early photo of the construction", "An early photo of what they constructed."),
        ("3 dogs", "Three dogs."),
        ("three dogs", "3 dogs"),
        ("\u732b\u304c\u5bdd\u3066\u3044\u308b", "\u72ac\u304c\u8d70\u308b"),
    ],
)
def test_inflections_function_words_and_words_of_any_picture_are_not_foreign(caption: str, rewrite: str) -> None:
    assert foreign(caption, rewrite) == []


@pytest.mark.parametrize(
    ("caption", "rewrite", "expected"),
    [
        ("coy carp in a pond", "A female coy rabbit in a pond.", ["female", "rabbit"]),
        ("keep the parrots happy", "keep the parrots happy, size 10.", ["size", "10"]),
        ("3 dogs", "Four dogs.", ["four"]),
        ("dogs in 2019", "Dogs in 2018.", ["2018"]),
        ("a car", "a cart", ["cart"]),
    ],
)
def test_other_words_and_numbers_are_foreign(caption: str, rewrite: str, expected: list[str]) -> None:
    assert foreign(caption, rewrite) == expected


@given(text=texts)
def test_a_text_adds_nothing_to_itself(text: str) -> None:
    assert foreign(text, text) == []


@given(caption=texts, rewrite=texts)
def test_foreign_words_are_content_words_of_the_rewrite_alone(caption: str, rewrite: str) -> None:
    found = foreign(caption, rewrite)
    assert set(found) <= set(content_words(words_of(rewrite)))
    assert not set(found) & set(words_of(caption))
    assert len(found) == len(set(found))


@given(word=st.text(alphabet="abcdeings'ly", min_size=1, max_size=12))
def test_a_stem_of_a_word_begins_it(word: str) -> None:
    assert word.startswith(stem(word)) or is_number(word)
