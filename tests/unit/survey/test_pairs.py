"""Pictures are paired with the text files of their names, each once."""

import json
import posixpath
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.survey.pairs import find_pairs, table_of_pairs

FILES = st.lists(
    st.builds("{}{}".format, st.sampled_from(["a/1", "a/2", "b/1", "1.x"]), st.sampled_from([".jpg", ".png", ".txt"])),
    unique=True,
)


@given(FILES)
def test_a_pair_shares_its_name_and_no_text_is_used_twice(names: list[str]) -> None:
    pairs = find_pairs(names)
    for image, text in pairs.captions.items():
        assert posixpath.splitext(image)[0] == posixpath.splitext(text)[0]
    assert len({*pairs.captions.values()}) == len(pairs.captions)
    assert pairs.pictures + pairs.texts == len(names)
    assert pairs.lonely_pictures >= 0
    assert pairs.lonely_texts >= 0


@given(FILES)
def test_pairs_do_not_depend_on_the_order_of_the_listing(names: list[str]) -> None:
    assert find_pairs(names) == find_pairs(names[::-1])


def test_the_table_holds_texts_in_any_encoding_of_unicode(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "1.txt").write_bytes("caf\u00e9\r\n".encode("utf-16"))
    (tmp_path / "2.txt").write_bytes(b"caf\xc3\xa9\n")
    table = table_of_pairs(str(tmp_path), find_pairs(["1.jpg", "1.txt", "2.jpg", "2.txt"]))
    assert [json.loads(line)["caption"] for line in table.splitlines()] == ["caf\u00e9"] * 2
