"""A caption is always storable text, or has a problem that says why not."""

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.records import NO_CAPTION, Sample, clean_caption

values = st.binary() | st.text() | st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE010)) | st.none()


@given(values)
def test_every_value_gives_a_caption_in_utf_8_or_a_problem(value: object) -> None:
    caption, problems = clean_caption(value)
    assert caption.encode("utf-8").decode("utf-8") == caption
    assert (caption == "") == bool(NO_CAPTION & set(problems))


def test_an_edited_caption_has_another_hash() -> None:
    assert Sample(0, "a", "one", None).caption_hash != Sample(0, "a", "one ", None).caption_hash
