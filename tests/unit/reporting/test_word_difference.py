"""The word-level difference of a rewrite from its caption."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.reporting.word_difference import word_difference

TEXTS = st.text(alphabet="aAbB cé'’-_.0\u05e9\n", max_size=40)


@given(TEXTS, TEXTS)
def test_the_pieces_are_the_rewrite(caption: str, rewrite: str) -> None:
    assert "".join(piece.text for piece in word_difference(caption, rewrite).pieces) == rewrite


@given(TEXTS)
def test_a_copy_differs_nowhere(text: str) -> None:
    found = word_difference(text, text)
    assert not found.dropped
    assert not any(piece.is_new for piece in found.pieces)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_new_and_dropped_words_are_what_one_text_has_more_often(caption: list[str], rewrite: list[str]) -> None:
    found = word_difference(" ".join(caption), " ".join(rewrite))
    new = Counter(word for piece in found.pieces if piece.is_new for word in piece.text.split())
    assert new == Counter(rewrite) - Counter(caption)
    assert Counter(found.dropped) == Counter(caption) - Counter(rewrite)


def test_new_neighbours_are_marked_together_and_punctuation_is_not() -> None:
    pieces = word_difference("red cup", "A big red cup, really.").pieces
    assert [piece.text for piece in pieces if piece.is_new] == ["A big", "really"]
