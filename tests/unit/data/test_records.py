"""A caption is always storable text, or has a problem that says why not."""

import json

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import CaptionChoice
from laclip_ray.data.records import NO_CAPTION, Sample, clean_caption, id_text, number_id, parse_json, select_captions

values = st.binary() | st.text() | st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE010)) | st.none()


@given(values)
def test_every_value_gives_a_caption_in_utf_8_or_a_problem(value: object) -> None:
    caption, problems = clean_caption(value)
    assert caption.encode("utf-8").decode("utf-8") == caption
    assert (caption == "") == bool(NO_CAPTION & set(problems))


def test_an_edited_caption_has_another_hash() -> None:
    assert Sample(0, "a", "one", None).caption_hash != Sample(0, "a", "one ", None).caption_hash


@given(value=values | st.lists(values), choice=st.sampled_from(["first", "all"]))
def test_a_row_has_at_least_one_caption(value: object, choice: CaptionChoice) -> None:
    captions = select_captions(value, choice)
    assert len(captions) == (max(len(value), 1) if isinstance(value, list) and choice == "all" else 1)
    texts = [clean_caption(caption)[0] for caption in captions]
    assert any(texts) == any(clean_caption(each)[0] for each in (value if isinstance(value, list) else [value]))


@given(sample_id=st.text(), numbers=st.sets(st.integers(0, 99)))
def test_the_captions_of_a_row_have_ids_of_their_own(sample_id: str, numbers: set[int]) -> None:
    assert len({number_id(sample_id, number) for number in numbers}) == len(numbers)
    assert number_id(sample_id, 0) == sample_id


@given(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary(), st.booleans()))
def test_an_id_is_text_or_nothing(value: object) -> None:
    text = id_text(value)
    assert text is None or (text != "" and text != "nan")
    if isinstance(value, str) and value:
        assert text == value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_is_parsed_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


def test_broken_or_hostile_json_is_no_value() -> None:
    for raw in (b"{", b"[" * 100_000, b'{"a": ' * 100_000, b"\xff", b"", b"nul"):
        assert parse_json(raw) is None
    assert parse_json(b'{"n": %s, "caption": "a"}' % (b"9" * 5_000)) == {"n": "9" * 5_000, "caption": "a"}
