"""Whatever the names in the data, the config's text is read back as the data section that was found."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig, parse_experiment
from laclip_ray.config.yaml_text import parse_yaml
from laclip_ray.survey.captions import CaptionCounts, PictureSizes
from laclip_ray.survey.columns import Choice, Kind
from laclip_ray.survey.config_text import config_text, name_of_data
from laclip_ray.survey.facts import EvaluatedSplit, Facts, Rows, Sampled
from laclip_ray.survey.settings import settings_for
from laclip_ray.tally import Tally

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: "${" not in text)


def facts_of(data: DataConfig, with_images: bool = True) -> Facts:
    captions = CaptionCounts()
    captions.add("a cat")
    sampled = Sampled(1, captions, PictureSizes(), Tally())
    image = Choice("image", Kind.PATHS, "") if with_images else None
    return Facts(
        data, "csv", 1, 1, None, Rows(1_000, True, "counted"), Choice("a", Kind.TEXTS, ""), image, None, sampled
    )


@given(NAMES, NAMES, NAMES, st.lists(NAMES, min_size=1, max_size=3), st.integers(0, 8))
def test_the_text_is_read_back(path: str, caption: str, image: str, columns: list[str], gpus: int) -> None:
    data = DataConfig(path=path, caption_column=caption, image_column=image, columns=columns)
    settings = settings_for(1_000, gpus)
    text = config_text("mine", facts_of(data), settings, gpus)
    experiment = parse_experiment(parse_yaml(text))
    assert experiment.data == data.model_copy(update={"held_out": settings.held_out})
    assert experiment.train.batch_size == settings.batch_size


@given(NAMES, NAMES, NAMES, st.lists(NAMES, min_size=1, max_size=3), st.booleans())
def test_a_split_to_measure_is_read_back(path: str, caption: str, image: str, paths: list[str], is_list: bool) -> None:
    data = DataConfig(path=path, caption_column=caption, image_column=image)
    measured = data.model_copy(update={"path": paths if is_list else path})
    facts = replace(facts_of(data), evaluated=EvaluatedSplit("test", measured, Rows(10_000, True, "counted")))
    experiment = parse_experiment(parse_yaml(config_text("mine", facts, settings_for(1_000, 1, has_split=True), 1)))
    assert experiment.data == data
    (of_test,) = experiment.evaluate.retrieval
    assert of_test.data is not None
    assert of_test.data.model_dump(exclude={"captions"}) == measured.model_dump(exclude={"captions"})
    assert (of_test.name, of_test.max_samples) == ("test", 5_000)


@given(st.integers(0, 8))
def test_the_text_has_about_ten_lines_and_a_comment_at_most_of_them(gpus: int) -> None:
    text = config_text("mine", facts_of(DataConfig(path="tars")), settings_for(10**6, gpus), gpus)
    lines = text.splitlines()
    assert len(lines) <= 13
    assert sum("#" in line for line in lines) >= 7
    assert max(map(len, lines)) <= 120


def test_captions_alone_are_not_trained_on() -> None:
    facts = facts_of(DataConfig(path="a.csv"), with_images=False)
    text = config_text("mine", replace(facts), settings_for(1_000, 0), 0)
    assert {*parse_yaml(text)} == {"name", "output", "data", "rewrite"}


@given(st.text(max_size=30))
def test_a_name_is_always_valid(path: str) -> None:
    parse_experiment({"name": name_of_data(path), "output": "o", "data": {"path": "d"}})
