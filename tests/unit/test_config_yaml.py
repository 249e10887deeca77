"""YAML is read within limits: traps are refused in one sentence."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from laclip_ray.config import load_experiment, parse_experiment
from laclip_ray.config.yaml_text import MAX_CHARACTERS, MAX_DEPTH, dump_yaml, parse_yaml
from laclip_ray.errors import UserError
from tests.cases import case

SECTION = "Configs and secrets"
HEAD = "name: test\noutput: out\n"


def alias_bomb(levels: int = 12) -> str:
    """A list of nine items, each level of which names the level before nine times."""
    lines = ["data: &k0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{level}: &k{level} [{', '.join([f'*k{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines)


def merged_without_end(segments: int = 24, depth: int = 45) -> str:
    """Merge keys, each nested within the limit, that an alias joins to one chain of a thousand."""
    texts = [
        f"&s{number} " + "{<<: " * depth + (f"*s{number - 1}" if number else "{a: 1}") + "}" * depth
        for number in range(segments)
    ]
    return f"list: [{', '.join(texts)}]\nlast: {{<<: *s{segments - 1}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            merged_without_end(),
            "nested too deep",
            marks=case(SECTION, "a config of merge keys that merge merge keys, a thousand deep", "refused", 2),
        ),
        pytest.param(
            alias_bomb(),
            "its aliases expand to more than",
            marks=case(SECTION, "a config whose aliases expand to billions of values", "refused at once", 2),
        ),
        pytest.param(
            "a: &a [*a]",
            "its aliases expand to more than",
            marks=case(SECTION, "a config with an alias inside itself", "refused", 2),
        ),
        pytest.param(
            "a: &a {b: 1}\nc: &c {<<: *a}\nd: &d [*d]",
            "its aliases expand to more than",
            marks=case(SECTION, "a recursive list beside merge keys", "refused", 2),
        ),
        pytest.param(
            "a: " + "[" * 5_000 + "]" * 5_000,
            f"nested more than {MAX_DEPTH} deep",
            marks=case(SECTION, "a config nested 5,000 deep", "refused", 2),
        ),
        pytest.param(
            "\n".join(" " * depth + "a:" for depth in range(2_000)),
            f"nested more than {MAX_DEPTH} deep",
            marks=case(SECTION, "a config with 2,000 nested sections", "refused", 2),
        ),
        pytest.param(
            "seed: " + "9" * 5_000,
            "a number of 5,000 digits",
            marks=case(SECTION, "a number of 5,000 digits", "refused with its line", 2),
        ),
        pytest.param(
            "train: {epochs: 1}\ntrain: {epochs: 2}",
            "the key 'train' is written twice",
            marks=case(SECTION, "a section written twice", "refused with its line", 2),
        ),
        pytest.param(
            "train:\n  epochs: 1\n  epochs: 2",
            "the key 'epochs' is written twice",
            marks=case(SECTION, "a key written twice in a section", "refused with its line", 2),
        ),
        pytest.param(
            "? [a, b]\n: 1",
            "a key is a list or a mapping",
            marks=case(SECTION, "a list as a key", "refused with its line", 2),
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [true]",
            "could not determine a constructor",
            marks=case(SECTION, "a YAML tag that would run code", "refused; no code runs", 2),
        ),
        pytest.param(
            "a: 2026-13-45",
            "month must be",
            marks=case(SECTION, "a date that does not exist", "refused", 2),
        ),
    ],
)  # fmt: skip
def test_a_trap_is_refused_in_one_sentence(text: str, message: str, tmp_path: Any) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(UserError, match=r"experiment\.yaml: not readable as YAML: ") as refused:
        load_experiment(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@case(SECTION, "an override with a trap in its value", "refused with the override", 2)
def test_a_trap_in_an_override_is_refused() -> None:
    for text in ("{a: 1, a: 2}", "&a [*a]", "[" * 100, "9" * 5_000, "!!python/name:os.system"):
        with pytest.raises(UserError, match="the value is not YAML"):
            parse_experiment({}, [f"tune.p={text}"])


@case(SECTION, "a binary file, or one of 4 million characters", "refused", 2)
def test_files_that_are_no_config_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "experiment.yaml"
    for content in (b"\xff\xfe\x00\x01", b"\x00\x01\x02", b"a: \xc3\x28"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not readable as YAML"):
            load_experiment(str(path))
    path.write_bytes(b"x" * (MAX_CHARACTERS + 1))
    with pytest.raises(UserError, match="not readable as YAML: more than 4,000,000 characters"):
        load_experiment(str(path))


def test_anchors_and_merge_keys_work() -> None:
    assert parse_yaml("a: &a {p: 1, q: 2}\nb: {<<: *a, q: 3}") == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Any) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + "data: {path: a}").encode())
    assert load_experiment(str(path)).name == "test"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values)
@example({"\x85": "\u2028 a\u2029"})
def test_dumped_values_are_read_back(value: Any) -> None:
    assert parse_yaml(dump_yaml(value)) == value
