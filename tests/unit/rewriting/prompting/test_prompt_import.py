"""Lists of captions in Python files become prompt sets, and such a file is never executed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laclip_ray.cli import main
from laclip_ray.errors import UserError
from laclip_ray.rewriting.prompting.prompt_import import Selection, import_prompt_set, prompt_set_yaml, read_prompt_set
from laclip_ray.rewriting.prompting.prompts import ExamplePair, PromptSet, load_prompt_set
from tests.unit.rewriting.heads_of import completion_heads

SOURCES = ["a red mug", "two dogs ", "it's <PERSON>'s  boat"]
TARGETS = ["A mug is red.", "A pair of dogs.", 'The boat is "hers".']
GROUPS = [["one", "two", "three"], ["four", "five"], ["six", "seven", "eight", "nine"]]
AUTHORS_LAYOUT = f"""
coco_caption_list = {GROUPS!r}



chatgpt_source_caption_list = {SOURCES!r}

chatgpt_target_caption_list = {TARGETS!r}
bard_source_caption_list = {SOURCES[::-1]!r}
bard_target_caption_list = {TARGETS[::-1]!r}
"""
CHATGPT = Selection(source="chatgpt_source_caption_list", target="chatgpt_target_caption_list")
COCO = Selection(groups="coco_caption_list")

caption = st.text(min_size=1).filter(lambda text: text.strip() and "=>" not in text and text.splitlines() == [text])
in_temporary_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(directory: Path, text: str, name: str = "utils.py") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def texts_of(prompt_set: PromptSet) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in prompt_set.pairs]


@given(pairs=st.lists(st.tuples(caption, caption), min_size=3, max_size=6), layout=st.integers(0, 2))
@in_temporary_directory
def test_literals_come_back_from_the_yaml_as_they_were(
    pairs: list[tuple[str, str]], layout: int, tmp_path: Path
) -> None:
    layouts = (
        f"source = {[pair[0] for pair in pairs]!r}\ntarget = {tuple(pair[1] for pair in pairs)!r}",
        f"examples = {pairs!r}",
        f"examples: list = {[dict(zip(('source', 'target'), pair, strict=True)) for pair in pairs]!r}",
    )
    output = tmp_path / "set.yaml"
    imported, _ = import_prompt_set(write(tmp_path, layouts[layout]), Selection(), str(output), "set", force=True)
    assert load_prompt_set(str(output)) == imported.prompt_set
    assert texts_of(imported.prompt_set) == pairs
    assert imported.joined_texts == 0


@given(
    groups=st.lists(
        st.lists(caption, min_size=2, max_size=5, unique_by=lambda text: " ".join(text.split())), min_size=3
    ),
    seed=st.integers(0, 9),
)
@in_temporary_directory
def test_each_group_gives_one_pair_of_its_captions_by_seed_and_place(
    groups: list[list[str]], seed: int, tmp_path: Path
) -> None:
    read = read_prompt_set(write(tmp_path, f"groups = {groups!r}"), Selection(), seed=seed).prompt_set
    again = read_prompt_set(write(tmp_path, f"other = {[*groups, ['a', 'b']]!r}"), Selection(), seed=seed).prompt_set
    assert again.pairs[:-1] == read.pairs
    for pair, group in zip(read.pairs, groups, strict=True):
        assert {pair.source, pair.target} <= set(group)
        assert pair.source != pair.target


def test_every_ordered_pair_of_a_group_is_drawn_as_often(tmp_path: Path) -> None:
    path = write(tmp_path, f"groups = {[['a', 'b', 'c']] * 3_000!r}")
    drawn = Counter(read_prompt_set(path, Selection()).prompt_set.pairs)
    assert set(drawn) == {ExamplePair(first, second) for first in "abc" for second in "abc" if first != second}
    # Binomial(3000, 1/6): five standard deviations are 102.
    assert all(abs(count - 500) < 102 for count in drawn.values())
    assert (
        read_prompt_set(path, Selection(), seed=1).prompt_set.pairs
        != read_prompt_set(path, Selection()).prompt_set.pairs
    )


def test_all_ordered_pairs_of_each_group_can_be_taken_and_know_their_group(tmp_path: Path) -> None:
    output = tmp_path / "coco.yaml"
    imported, _ = import_prompt_set(write(tmp_path, AUTHORS_LAYOUT), COCO, str(output), all_pairs=True)
    assert [(pair.source, pair.target, pair.group) for pair in imported.prompt_set.pairs] == [
        (source, target, number)
        for number, group in enumerate(GROUPS)
        for source in group
        for target in group
        if source != target
    ]
    assert load_prompt_set(str(output)) == imported.prompt_set
    with pytest.raises(UserError, match="choose a list by --groups NAME"):
        import_prompt_set(write(tmp_path, AUTHORS_LAYOUT), CHATGPT, str(output), all_pairs=True)


def test_lists_are_named_after_what_tells_them_apart(tmp_path: Path) -> None:
    path = write(tmp_path, AUTHORS_LAYOUT)
    chatgpt, coco = (read_prompt_set(path, selection).prompt_set for selection in (CHATGPT, COCO))
    assert (chatgpt.name, coco.name) == ("chatgpt", "coco")
    assert texts_of(chatgpt) == list(zip(SOURCES, TARGETS, strict=True))
    assert "chatgpt_source_caption_list, chatgpt_target_caption_list" in chatgpt.description
    assert "seed 0" in coco.description
    assert read_prompt_set(path, COCO, name="mine").prompt_set.name == "mine"
    plain = write(tmp_path, f"source_captions = {SOURCES!r}\ntarget_captions = {TARGETS!r}", "holiday.py")
    assert read_prompt_set(plain, Selection()).prompt_set.name == "holiday"


def test_an_imported_set_gives_the_reference_prompt_of_its_texts_to_the_byte(tmp_path: Path) -> None:
    output = tmp_path / "set.yaml"
    import_prompt_set(write(tmp_path, AUTHORS_LAYOUT), CHATGPT, str(output))
    (head,) = completion_heads(load_prompt_set(str(output)), 1, 0, "reference")
    order = [SOURCES.index(pair.source) for pair in head.pairs]
    lines = ["write image captions differently,", *(f"{SOURCES[number]} => {TARGETS[number]}" for number in order)]
    assert head.prompt("a boat") == "\n\n            ".join([*lines, "a boat =>"])


def test_several_sets_in_a_file_are_listed_with_the_options_that_choose_them(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_prompt_set(write(tmp_path, AUTHORS_LAYOUT), Selection())
    assert str(refused.value).endswith(
        "utils.py: holds 3 prompt sets; choose one: --groups coco_caption_list; "
        "--source chatgpt_source_caption_list --target chatgpt_target_caption_list; "
        "--source bard_source_caption_list --target bard_target_caption_list"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"SOURCE = {SOURCES!r}\nTARGET = {TARGETS!r}",
        f"my_sources = {SOURCES!r}\nthe_target = {TARGETS!r}\nnumbers = [1, 2]\nother = 'text'",
        f"A_Source: list[str]\nA_Source: list[str] = {SOURCES!r}\nA_Target = {TARGETS!r}\nassert len(A_Source) == 3",
        f"x = [{{'source': s, 'target': t}}]\nsource = {SOURCES!r}\ntarget = {TARGETS!r}",
    ],
)
def test_the_only_set_in_a_file_needs_no_options(text: str, tmp_path: Path) -> None:
    read = read_prompt_set(write(tmp_path, text), Selection())
    assert texts_of(read.prompt_set) == list(zip(SOURCES, TARGETS, strict=True))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    touch = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    path = write(
        tmp_path,
        f"import no_such_module_anywhere\n{touch}\nsource = {SOURCES!r}\ntarget = {TARGETS!r}\n"
        f"made = [{touch}]\n@{touch}\ndef f(x={touch}):\n    source.append({touch})\n"
        f"class C:\n    {touch}\nif __name__ == '__main__':\n    f()\n    print(source)\nraise SystemExit(1)\n",
    )
    assert texts_of(read_prompt_set(path, Selection()).prompt_set) == list(zip(SOURCES, TARGETS, strict=True))
    with pytest.raises(UserError, match=r"line 5: `made`: not a literal.*code is not run"):
        read_prompt_set(path, Selection(pairs="made"))
    assert not mark.exists()


@pytest.mark.parametrize(
    "value",
    ["open('x')", "['a', 'b'] + ['c']", "[f'{1}']", "[text for text in 'abc']", "['a'.upper()]", "['a'] * 3", "other"],
)
def test_what_is_not_a_literal_is_named_as_that(value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"source = {value}\ntarget = {TARGETS!r}\n")
    with pytest.raises(
        UserError, match=r"found `source` \(line 1: not a literal\), `target` \(line 2: list of texts\)"
    ):
        read_prompt_set(path, Selection())
    with pytest.raises(UserError, match=r"line 1: `source`: not a literal"):
        read_prompt_set(path, Selection(source="source", target="target"))


@pytest.mark.parametrize(
    "change",
    [
        "source.append('late')",
        "source += ['late']",
        "source[0] = 'late'",
        "source = ['a', 'b', 'c']",
        "del source[0]",
        "(source, x) = ([], 1)",
        "for source in []: pass",
        "alias = source",
        "from elsewhere import source",
        "import random; random.shuffle(source)",
        "def source(): pass",
        "if True:\n    source = []",
    ],
)
def test_a_list_that_code_may_change_is_refused(change: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"source = {SOURCES!r}\ntarget = {TARGETS!r}\n{change}\n")
    with pytest.raises(UserError, match=r"line 1: `source`: line [34] uses or changes it"):
        read_prompt_set(path, Selection())


def test_texts_of_several_lines_become_one_and_are_counted(tmp_path: Path) -> None:
    sources = ["one\n  two\r\n\nthree\u2028", "four ", " five"]
    read = read_prompt_set(write(tmp_path, f"source = {sources!r}\ntarget = {TARGETS!r}"), Selection())
    assert [pair.source for pair in read.prompt_set.pairs] == ["one two three", "four ", " five"]
    assert read.joined_texts == 1


@pytest.mark.parametrize(
    ("text", "selection", "message"),
    [
        ("source = [", Selection(), "not readable as Python"),
        ("\0", Selection(), "not readable as Python"),
        ("", Selection(), "has no lists named source and target.*found no assignments"),
        ("x = 3\na = ['b']", Selection(), r"found `x` \(line 1: int\), `a` \(line 2: list of texts\). Choose with"),
        (AUTHORS_LAYOUT, Selection(source="x"), "--source and --target belong together"),
        (AUTHORS_LAYOUT, Selection(groups="x", pairs="y"), "choose one of"),
        (AUTHORS_LAYOUT, Selection(source="x", target="y", groups="z"), "choose one of"),
        (AUTHORS_LAYOUT, Selection(groups="nosuch"), "the top level assigns no `nosuch`.*`coco_caption_list`"),
        (
            "a_source = ['x', 'y', 'z']\na_target = ['x']",
            Selection(),
            "`a_source` has 3 captions and `a_target` has 1;",
        ),
        ("source = ['a', 3, 'b']\ntarget = ['a', 'b', 'c']", Selection(), r"source\[1\] is not a text.*3"),
        ("source = ['a', ' ', 'b']\ntarget = ['a', 'b', 'c']", Selection(), r"source\[1\] is not a text, or is empty"),
        ("source = ['a', 'b', 'c']\ntarget = ['a', 'b => d', 'c']", Selection(), r"target\[1\] holds '=>'"),
        ("source = ['a', 'b', 'c']\ntarget = ['a', 'b', '\\ud800']", Selection(), r"target\[2\] holds half"),
        ("source = ['a', 'b']\ntarget = ['c', 'd']", Selection(), "2 pairs, at least 3 are needed"),
        ("source = 'abc'\ntarget = ['c']", Selection(source="source", target="target"), "`source` is not a list"),
        ("x = [('a', 'b'), ('c', 'd', 'e')]", Selection(), r"x\[1\] is neither \(source, target\) nor a dict"),
        ("x = [{'source': 'a', 'target': 'b'}, {'source': 'c'}]", Selection(), r"x\[1\] is neither"),
        ("x = [('a', 'b'), ('c', 4)]", Selection(), r"x\[1\] target is not a text"),
        ("x = 3", Selection(pairs="x"), "`x` is not a list of pairs"),
        ("x = 3", Selection(groups="x"), "`x` is not a list of groups"),
        ("x = [['a', 'b'], 3]", Selection(), r"`x\[1\]` is not a list"),
        ("x = [['a', 'b'], ['c', 'd']]", Selection(), "2 pairs, at least 3 are needed"),
        ("x = [['a', 'b'], ['c']]", Selection(), r"x\[1\] needs two captions that differ"),
        ("x = [['a', 'b'], ['c  d', 'c d ']]", Selection(), r"x\[1\] needs two captions that differ"),
        (AUTHORS_LAYOUT.replace("bard", "crowd"), Selection("crowd_source_caption_list", "crowd_target_caption_list"),
         "'crowd' is the name of a built-in prompt set; choose another with --name"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_clear_set_is_refused_with_the_place(
    text: str, selection: Selection, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_prompt_set(write(tmp_path, text), selection, str(tmp_path / "set.yaml"))
    assert not (tmp_path / "set.yaml").exists()


def test_a_name_that_no_set_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`name` must be"):
        read_prompt_set(write(tmp_path, AUTHORS_LAYOUT), COCO, name="a/b")


@pytest.mark.parametrize("name", ["nosuch.py", "."])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_prompt_set(str(tmp_path / name), Selection())


def test_a_file_that_is_there_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    path, output = write(tmp_path, AUTHORS_LAYOUT), tmp_path / "set.yml"
    output.write_text("mine")
    with pytest.raises(UserError, match=r"set.yml exists; .*--force"):
        import_prompt_set(path, COCO, str(output))
    assert output.read_text() == "mine"
    imported, written = import_prompt_set(path, COCO, str(output), force=True)
    assert written == output
    assert output.read_text(encoding="utf-8") == prompt_set_yaml(imported.prompt_set)
    with pytest.raises(UserError, match=r"ends with .yaml or .yml"):
        import_prompt_set(path, COCO, path, force=True)
    (tmp_path / "directory.yaml").mkdir()
    with pytest.raises(UserError, match=r"directory.yaml exists"):
        import_prompt_set(path, COCO, str(tmp_path / "directory.yaml"), force=True)
    with pytest.raises(UserError, match=r"cannot be written"):
        import_prompt_set(path, COCO, str(output / "below.yaml"))


def test_the_command_writes_a_set_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, AUTHORS_LAYOUT.replace("a red mug", r"a red\nmug"))
    monkeypatch.chdir(tmp_path)
    main(["prompts", "import", "utils.py", "--groups", "coco_caption_list"])
    first, _, following = capsys.readouterr().out.splitlines()
    assert first == "coco.yaml: 3 pairs; use it with 'rewrite.prompt_sets=[coco.yaml]'"
    assert following.startswith("  laclip rewrites preview CONFIG 'rewrite.prompt_sets=[coco.yaml]'  #")
    assert load_prompt_set("coco.yaml") == read_prompt_set("utils.py", COCO).prompt_set
    main(["prompts", "import", "utils.py", "--groups", "coco_caption_list", "--all-pairs", "--name", "mscoco"])
    assert capsys.readouterr().out.startswith("mscoco.yaml: 20 pairs")
    names = ["--source", CHATGPT.source or "", "--target", CHATGPT.target or ""]
    main(["prompts", "import", "utils.py", *names, "--name", "mine", "--output", "sets/a.yaml"])
    assert capsys.readouterr().out.startswith(
        "1 texts had several lines; line breaks became spaces\nsets/a.yaml: 3 pairs"
    )
    assert load_prompt_set("sets/a.yaml").name == "mine"
    with pytest.raises(SystemExit) as stopped:
        main(["prompts", "import", "utils.py"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[1].startswith("error: utils.py: holds 3 prompt sets; choose one:")
