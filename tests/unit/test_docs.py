"""Pages: links and named files exist, tables of names are complete, and examples of configs load."""

import re
from pathlib import Path

import pytest
import yaml

from laclip_ray.config import GateConfig, parse_experiment
from laclip_ray.config.fields import Format
from laclip_ray.data import records
from laclip_ray.evaluation import tasks
from laclip_ray.rewriting.judging.gate import Gate, Rejection
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from tests import documentation
from tests.documentation import PAGES, REPOSITORY, Block

IDS = [str(page.relative_to(REPOSITORY)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in documentation.links(page):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in documentation.anchors(path), link


def test_the_index_names_every_page() -> None:
    index = REPOSITORY / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in documentation.links(index)}
    assert {*PAGES} - linked == {index, REPOSITORY / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(
        r"[`\s(]((?:laclip_ray|tests|docs|configs|cluster|jobs|requirements)/[\w./*-]+)", page.read_text()
    )
    assert [name for name in named if "NAME" not in name and not [*REPOSITORY.glob(name.rstrip("./"))]] == []


def words_in_code(name: str) -> set[str]:
    """What a page of `docs` has between backticks."""
    text = re.sub(r"^```[\s\S]*?^```$", "", (REPOSITORY / "docs" / name).read_text(), flags=re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", text))


def test_the_page_of_the_gate_has_every_reason() -> None:
    assert {str(reason) for reason in Rejection} <= words_in_code("gate.md")


def test_the_page_of_data_has_every_format_and_every_problem_of_a_row() -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text()
    names = {"webdataset": "WebDataset", "jsonl": "JSONL"}
    assert [each for each in Format.__args__ if names.get(each, each).lower() not in text.lower()] == []  # type: ignore[attr-defined]
    problems = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert problems <= words_in_code("data.md")


def test_the_page_of_evaluation_has_every_task() -> None:
    names = {value for name, value in vars(tasks).items() if name.isupper() and isinstance(value, str)}
    assert names <= words_in_code("evaluation.md")


def test_the_first_change_that_contributing_leads_to_is_one() -> None:
    case, pattern = (
        block.text.strip(",") for block in documentation.blocks(REPOSITORY / "CONTRIBUTING.md") if '"' in block.text
    )
    refused = re.findall(r'Case\("([^"]+)"\)', case)[0]
    gate = Gate(GateConfig(), [], len)
    assert gate.judge(refused, "a dog", truncated=False, head=0) is None, "the gate refuses it already"
    assert re.match(pattern[2:-1], refused.lower())


FRAGMENTS = [block for page in PAGES for block in documentation.blocks(page) if block.language == "yaml"]


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: f"{block.page.name}:{block.line}")
def test_every_example_of_a_file_loads(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if "pairs" in content:
        path = tmp_path / "set.yaml"
        path.write_text(block.text)
        assert load_prompt_set(str(path)).name == content["name"]
    else:
        parse_experiment({"name": "x", "output": "x", "data": {"path": "x"}, **content})
