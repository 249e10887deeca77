"""Each reason refuses one text and accepts a similar one, and each check can be switched off."""

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import GateConfig
from laclip_ray.rewriting.judging.gate import Gate, Rejection
from laclip_ray.rewriting.prompting.prompts import (
    INSTRUCTION,
    SEPARATOR,
    ExamplePair,
    built_in_prompt_sets,
    load_prompt_set,
)

HEADS = (
    (ExamplePair("two cats asleep", "Cats are sleeping."),),
    (ExamplePair("IMG_1 red car!", "A red car stands in the street."),),
    (
        ExamplePair("25 guests at Leo birthday cake", "A birthday cake for 25 guests in Oslo."),
        ExamplePair("Adopt Biscuit today", "Biscuit is up for adoption."),
    ),
)
ON = GateConfig(drop_near_copies=True)
"""Every check of the text."""
OFF = GateConfig(
    min_words=0,
    max_context_tokens=None,
    drop_truncated=False,
    drop_copies=False,
    drop_near_copies=False,
    drop_prompt_echo=False,
    drop_from_example=False,
    drop_repeats=False,
    drop_chat_phrases=False,
    drop_broken_characters=False,
    drop_markup=False,
    drop_wordless_captions=False,
    drop_wrong_script=False,
    drop_lost_numbers=False,
    drop_changed_placeholders=False,
    max_repeated_phrases=0,
    min_shared_words=0,
)


def count(text: str) -> int:
    """One token per word and two special tokens."""
    return len(text.split()) + 2


@dataclass(frozen=True)
class Case:
    """The arguments of a verdict."""

    text: str
    caption: str = "a dog, in snow"
    truncated: bool = False
    others: tuple[str, ...] = ()
    head: int = 1

    def judge(self, config: GateConfig | None = None) -> Rejection | None:
        gate = Gate(config or ON, HEADS, count)
        return gate.judge(self.text, self.caption, self.truncated, self.head, self.others)


LONG = [f"w{n}" for n in range(76)]
CASES = [
    (Rejection.TRUNCATED, Case("a dog plays in", truncated=True), Case("a dog plays in"), "drop_truncated"),
    (Rejection.REFUSAL, Case("I'm sorry, but I can't see a dog."), Case("A dog looks sorry."), "drop_chat_phrases"),
    (Rejection.REFUSAL, Case("As an AI model, I see no dog."), Case("As an aid, a dog helps."), "drop_chat_phrases"),
    (Rejection.REFUSAL, Case("I cannot describe this dog."), Case("I cannot believe this dog."), "drop_chat_phrases"),
    (Rejection.REFUSAL, Case("“I can’t help with a dog”"), Case("“I love my dog”"), "drop_chat_phrases"),
    (Rejection.CHAT_PHRASE, Case("Sure, here is a dog"), Case("Here is a dog"), "drop_chat_phrases"),
    (Rejection.CHAT_PHRASE, Case("Here is my version of a dog"), Case("Here is my old dog"), "drop_chat_phrases"),
    (Rejection.CHAT_PHRASE, Case("(Rewritten caption:) a dog"), Case("Caption on a dog"), "drop_chat_phrases"),
    (Rejection.CHAT_PHRASE, Case("A dog. Let me know!"), Case("A dog. Let me in!"), "drop_chat_phrases"),
    (Rejection.CHAT_PHRASE, Case("A dog (rewritten) lies"), Case("A dog (brown) lies"), "drop_chat_phrases"),
    (Rejection.PROMPT_ECHO, Case("a dog => a cat"), Case("a dog = a cat"), "drop_prompt_echo"),
    (
        Rejection.PROMPT_ECHO,
        Case(f"So: {INSTRUCTION.upper()}", "an image"),
        Case("So: rewrite each image caption", "an image caption"),
        "drop_prompt_echo",
    ),
    (Rejection.PROMPT_ECHO, Case("a dog <|im_end|>"), Case("a dog <3"), "drop_prompt_echo"),
    (Rejection.TOO_SHORT, Case("dog"), Case("dog plays"), "min_words"),
    (Rejection.TOO_SHORT, Case("dog-"), Case("dog - sled"), "min_words"),
    (
        Rejection.TOO_LONG,
        Case(" ".join(LONG), "word w10"),
        Case(" ".join(LONG[1:]), "word w10"),
        "max_context_tokens",
    ),
    (Rejection.COPY_OF_CAPTION, Case("A Dog in snow!"), Case("a dog in deep snow"), "drop_copies"),
    (Rejection.NEAR_COPY, Case("The dog in the snow."), Case("The dog in their snow."), "drop_near_copies"),
    (
        Rejection.NEAR_COPY,
        Case("Women posed with the dog's sled", "a woman poses with dogs sled"),
        Case("Women posed by the dog's sled", "a woman poses with dogs sled"),
        "drop_near_copies",
    ),
    (
        Rejection.NEAR_COPY,
        Case("Dogs don't walk.", "the dog do n't walk"),
        Case("Dogs won't walk.", "the dog do n't walk"),
        "drop_near_copies",
    ),
    (Rejection.BROKEN_CHARACTERS, Case("a dog\ufffds life"), Case("a dog’s life"), "drop_broken_characters"),
    (Rejection.BROKEN_CHARACTERS, Case("a dogâ€™s life"), Case("un pâté de dog"), "drop_broken_characters"),
    (Rejection.BROKEN_CHARACTERS, Case("a cafÃ© for a dog"), Case("um CÃO, a dog"), "drop_broken_characters"),
    (Rejection.BROKEN_CHARACTERS, Case("a dog plays<0x0A>"), Case("a dog plays <3"), "drop_broken_characters"),
    (
        Rejection.BROKEN_CHARACTERS,
        Case("aĠdogĠplays and eats"),
        Case("a dog in Ħaż-Żebbuġ, Ġgantija"),
        "drop_broken_characters",
    ),
    (Rejection.BROKEN_CHARACTERS, Case("▁a▁dog plays"), Case("_a dog plays"), "drop_broken_characters"),
    (
        Rejection.BROKEN_CHARACTERS,
        Case("a dogâ€™s life", "a dog\ufffds life"),
        Case("a dogâ€™s life", "the dogâ€™s lives are good"),
        "drop_broken_characters",
    ),
    (Rejection.MARKUP_LEFT, Case("a **dog plays"), Case("a 5* dog plays"), "drop_markup"),
    (Rejection.MARKUP_LEFT, Case("a dog <i>plays"), Case("a dog <3 plays"), "drop_markup"),
    (Rejection.MARKUP_LEFT, Case("<think>a dog plays"), Case("I think a dog plays"), "drop_markup"),
    (Rejection.MARKUP_LEFT, Case('{"a": "dog", "b": "cat"}'), Case("a dog [and a cat]"), "drop_markup"),
    (Rejection.MARKUP_LEFT, Case("a dog `plays`"), Case("a dog 'plays'"), "drop_markup"),
    (Rejection.MARKUP_LEFT, Case("a dog at https://dogs.example"), Case("a dog at dogs. example"), "drop_markup"),
    (
        Rejection.MARKUP_LEFT,
        Case("a dog of dogs.com", "a dog plays"),
        Case("a dog of dogs.com", "dogs.com : dog"),
        "drop_markup",
    ),
    (Rejection.NOTHING_TO_REWRITE, Case("a dog plays", "###"), Case("a dog plays", "dog"), "drop_wordless_captions"),
    (
        Rejection.NOTHING_TO_REWRITE,
        Case("a dog plays", "IMG_2034.JPG"),
        Case("a dog plays", "IMG_2034_dog.JPG"),
        "drop_wordless_captions",
    ),
    (
        Rejection.FROM_EXAMPLE,
        Case("a dog sleeps with cats", head=0),
        Case("a dog sleeps with a friend", head=0),
        "drop_from_example",
    ),
    (
        Rejection.FROM_EXAMPLE,
        Case("a dog with 25 cakes", head=2),
        Case("a dog with 24 cakes", head=2),
        "drop_from_example",
    ),
    (Rejection.FROM_EXAMPLE, Case("a dog in Oslo", head=2), Case("a dog in the oslo", head=2), "drop_from_example"),
    (
        Rejection.FROM_EXAMPLE,
        Case("a dog is up for adoption", head=2),
        Case("a dog on an adoption day", head=2),
        "drop_from_example",
    ),
    (
        Rejection.FROM_EXAMPLE,
        Case("a dog and its birthday cake", head=2),
        Case("a dog and its cake", head=2),
        "drop_from_example",
    ),
    (
        Rejection.COPY_OF_REWRITE,
        Case("A dog plays.", others=("The dog.", "a DOG plays")),
        Case("A dog plays.", others=("The dog.", "a DOG played")),
        "drop_repeats",
    ),
    (
        Rejection.COPY_OF_EXAMPLE,
        Case("a red car stands in the street", "a car"),
        Case("a red car stands in a street", "a car"),
        "drop_prompt_echo",
    ),
    (Rejection.COPY_OF_EXAMPLE, Case("IMG_1 Red Car", "a car"), Case("IMG_2 Red Car", "a car"), "drop_prompt_echo"),
    (
        Rejection.COPY_OF_EXAMPLE,
        Case("cats are sleeping", "cats", head=0),
        Case("cats are sleeping", "cats"),
        "drop_prompt_echo",
    ),
    (Rejection.LOOPING, Case("a dog dog, Dog dog dog"), Case("a dog dog dog dog"), "max_repeated_phrases"),
    (Rejection.LOOPING, Case("a dog, a dog, a dog"), Case("a dog, a dog, the dog"), "max_repeated_phrases"),
    (
        Rejection.LOOPING,
        Case("see " + 3 * "a dog in some snow with the sled "),
        Case("see " + 2 * "a dog in some snow with the sled "),
        "max_repeated_phrases",
    ),
    (Rejection.WRONG_SCRIPT, Case("собака в снегу dog"), Case("a dog (пёс) plays in white snow"), "drop_wrong_script"),
    (Rejection.WRONG_SCRIPT, Case("a dog plays 在雪地里奔跑"), Case("a dog (犬) plays"), "drop_wrong_script"),
    (
        Rejection.WRONG_SCRIPT,
        Case("a dog in the snow", "собака в снегу"),
        Case("снежная собака", "собака в снегу"),
        "drop_wrong_script",
    ),
    (
        Rejection.NUMBERS_LOST,
        Case("dogs in snow", "3 dogs in snow"),
        Case("three dogs, snow", "3 dogs in snow"),
        "drop_lost_numbers",
    ),
    (
        Rejection.PLACEHOLDERS_CHANGED,
        Case("one person and a dog", "<PERSON> with a dog"),
        Case("a dog with <PERSON>", "<PERSON> with a dog"),
        "drop_changed_placeholders",
    ),
    (
        Rejection.PLACEHOLDERS_CHANGED,
        Case("[NAME] has a dog"),
        Case("[SOLD] a dog"),
        "drop_changed_placeholders",
    ),
    (Rejection.UNRELATED, Case("a red umbrella"), Case("many dogs"), "min_shared_words"),
]


@pytest.mark.parametrize(("reason", "bad", "good", "check"), CASES)
def test_a_text_is_refused_for_its_reason_and_its_neighbour_passes(
    reason: Rejection, bad: Case, good: Case, check: str
) -> None:
    assert bad.judge() == reason
    assert good.judge() is None


@pytest.mark.parametrize(("reason", "bad", "good", "check"), CASES)
def test_a_check_that_is_off_refuses_nothing_and_one_that_is_alone_does(
    reason: Rejection, bad: Case, good: Case, check: str
) -> None:
    others = {"min_shared_words": 0, "drop_markup": False, "drop_from_example": False}
    switched_off = ON.model_copy(update={**others, check: getattr(OFF, check)})
    assert bad.judge(switched_off) is None
    alone = OFF.model_copy(update={check: getattr(ON, check)})
    assert bad.judge(alone) == reason
    assert good.judge(alone) is None


def test_every_reason_and_every_switch_has_a_case() -> None:
    assert {reason for reason, *_ in CASES} | {Rejection.EMPTY} == set(Rejection)
    assert {check for *_, check in CASES} == set(GateConfig.model_fields) - {
        "meaning",
        "picture",
        "preset",
        "word_count",
    }


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_text_is_refused_by_every_gate(text: str) -> None:
    assert Case(text).judge() == Case(text).judge(OFF) == Rejection.EMPTY


def test_the_first_check_that_fails_gives_the_reason() -> None:
    everything = Case("=> " * 80, truncated=True)
    assert everything.judge() == Rejection.TRUNCATED
    assert everything.judge(GateConfig(drop_truncated=False)) == Rejection.PROMPT_ECHO
    assert Case("dog", "dog").judge() == Rejection.TOO_SHORT


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("Sorry, we're closed, says a sign.", "sorry we 're closed sign"),
        ("I can't do this without my dog!", "i ca n't do without my dog"),
        ("Sure, a happy dog!", "sure , that is a happy dog"),
        ("Caption: a man with a dog", "caption : man and dog"),
        ("A dog (or wolf)", "dog ( or is it a wolf ? )"),
    ],
)
def test_phrases_that_the_caption_has_too_are_no_talk(text: str, caption: str) -> None:
    assert Case(text, caption).judge() is None
    assert Case(text, "a photo").judge(GateConfig(min_shared_words=0)) in (Rejection.REFUSAL, Rejection.CHAT_PHRASE)


@pytest.mark.parametrize(
    ("caption", "keeps", "loses"),
    [
        ("3 dogs", "three dogs", "some dogs"),
        ("three dogs", "3 dogs", "dogs, 2 of them"),
        ("two dogs", "a pair of dogs", "the dogs"),
        ("a dog and 2 cats", "two cats and a dog", "three cats and a dog"),
        ("dog number 25", "dog number twenty-five", "dog number twenty six"),
        ("two hundred dogs", "200 dogs", "2 dogs"),
        ("a dozen dogs", "12 dogs", "11 dogs"),
        ("dog for $1,500", "dog for 1500 dollars", "dog for 150 dollars"),
        ("dog for 5 million", "dog for 5,000,000", "dog for a lot"),
        ("dog for 5000", "dog for five thousand", "dog for five"),
        ("2.50 for a dog", "a dog for 2.5", "a dog for 2"),
        ("dogs in 1967", "dogs of 1967", "dogs of 1968"),
        ("the 2nd dog", "the second dog", "the next dog"),
        ("dogs of the 1950s", "dogs of the fifties", "dogs of yore"),
        ("10 km dog race", "dog race of 10km", "dog race of 1000m"),
        ("dog, ten years", "dog aged 10", "dog aged 100"),
    ],
)
def test_a_number_is_kept_in_digits_or_in_words(caption: str, keeps: str, loses: str) -> None:
    assert Case(keeps, caption).judge() is None
    assert Case(loses, caption).judge() == Rejection.NUMBERS_LOST


@pytest.mark.parametrize("caption", ["one dog", "1 dog", "hundreds of dogs", "dog at first"])
def test_the_number_one_and_vague_numbers_need_not_be_kept(caption: str) -> None:
    assert Case("some dog", caption).judge() is None


NAMES = ["dog IMG_2034.jpg", "dog 03.webp", "dog 1080p", "dog #12", "dog 183034", "dog 007", "dog mp3", "covid-19 dog"]
COMPOUNDS = ["dog 2019-08-14", "dog 3-1", "dog 10:30", "dog 1/500s"]


@pytest.mark.parametrize("caption", [*NAMES, *COMPOUNDS])
def test_digits_of_names_and_of_compounds_need_not_be_kept(caption: str) -> None:
    assert Case("some dog", caption).judge() is None


def test_no_number_is_too_large_to_judge() -> None:
    assert Case("dog " + "hundred " * 3_000, "dog " + "two hundred " * 3_000).judge(OFF) is None
    alone = OFF.model_copy(update={"drop_lost_numbers": True})
    assert Case("9" * 9_000, "two thousand " * 9_000).judge(alone) == Rejection.NUMBERS_LOST


def test_a_placeholder_may_be_said_once_or_twice() -> None:
    assert Case("<PERSON> and a dog", "<PERSON> and <PERSON> with dog").judge() is None
    assert Case("<LOCATION> dog", "<PERSON> with dog").judge() == Rejection.PLACEHOLDERS_CHANGED


def test_texts_that_must_be_short_enough_are_not_counted() -> None:
    counted: list[str] = []

    def remember(text: str) -> int:
        counted.append(text)
        return count(text)

    gate = Gate(GateConfig(), HEADS, remember)
    assert gate.judge("a dog plays in the snow", "a dog", False, 0) is None
    assert counted == []
    text = "a dog plays in the deep snow of the mountains while many people watch it from afar, laughing"
    assert gate.judge(text, "a dog", False, 0) is None
    assert text not in counted
    assert len(counted) == len({*text.split(), ""})


def test_what_is_too_long_is_decided_by_the_tokeniser_of_the_whole_text() -> None:
    def one_for_each_character(text: str) -> int:
        return len(text)

    gate = Gate(GateConfig(min_shared_words=0), HEADS, one_for_each_character)
    assert gate.judge("ab " * 25 + "ab", "see", False, 0) == Rejection.LOOPING
    assert gate.judge("ab " * 25 + "abc", "see", False, 0) == Rejection.TOO_LONG


def test_copies_are_found_beyond_case_and_encoding_in_every_script() -> None:
    assert Case("STRASSE, NACH Köln", "Straße nach köln").judge() == Rejection.COPY_OF_CAPTION
    assert Case("cafe\u0301 au lait", "Café au lait").judge() == Rejection.COPY_OF_CAPTION
    assert Case("一只狗在雪地里!", "一只狗，在雪地里").judge() == Rejection.COPY_OF_CAPTION


def test_scripts_without_spaces_are_compared_by_pairs_of_characters() -> None:
    caption = "一只狗在雪地里奔跑"
    assert Case("雪地上有一只奔跑的狗", caption).judge() is None
    assert Case("一个人在海滩上", caption).judge() == Rejection.UNRELATED
    assert Case("雪中犬只", caption).judge() == Rejection.UNRELATED
    assert Case("一只狗在雪地里奔跑着", caption).judge() == Rejection.NEAR_COPY
    assert Case("公園で子供が遊ぶ", "子供が公園にいます").judge() is None
    assert Case("猫が寝ています", "子供が公園にいます").judge() == Rejection.UNRELATED
    gate = Gate(GateConfig(), ((ExamplePair("生日蛋糕", "为奶奶庆祝生日的大蛋糕。"),),), count)
    assert gate.judge("一只狗在雪地里庆祝生日蛋糕", caption, False, 0) == Rejection.FROM_EXAMPLE
    assert gate.judge("雪地里的狗和蛋糕", caption, False, 0) is None


@pytest.mark.parametrize(
    "caption",
    [
        *("###", "12.5", "🎂", "DSC_0087", "img-001.jpg", "000000039769.jpg", "3f2a9c8b-11d2.png", "20190814_1234"),
        *("image 1.png", "X", "...", "№ 5", "2019-08-14", "photo_12.jpeg", "deadbeef0123"),
    ],
)
def test_a_caption_without_a_word_has_no_rewrite(caption: str) -> None:
    assert Case("a dog plays", caption).judge(GateConfig(min_shared_words=0)) == Rejection.NOTHING_TO_REWRITE


@pytest.mark.parametrize(
    "caption",
    [
        "dog",
        "IMG_1 dog",
        "facade.jpg",
        "狗",
        "12 mm",
        "दो",
        "سگ",
        "sunset.jpg",
        "image of a dog",
        "added",
        "p 12 dog",
        "ok",
    ],
)
def test_a_caption_with_a_word_has_rewrites(caption: str) -> None:
    assert Case("a dog plays", caption).judge(OFF.model_copy(update={"drop_wordless_captions": True})) is None


@pytest.mark.parametrize(
    "text",
    ["cakes for 25 guests", "the cakes with 25 candles", "Oslo and its cakes", "a cake by oslo", "an adoption day"],
)
def test_words_that_the_caption_has_too_are_not_from_an_example(text: str) -> None:
    assert Case(text, "25 cakes, adopted oslo guest, birthdays", head=2).judge(GateConfig(min_shared_words=0)) in (
        None,
        Rejection.NUMBERS_LOST,
    )


def test_scripts_without_spaces_have_words() -> None:
    assert Case("雪地里的狗", "一只狗在雪地里").judge() is None
    assert Case("狗", "一只狗在雪地里").judge() == Rejection.TOO_SHORT


def test_a_caption_without_content_words_has_no_unrelated_rewrites() -> None:
    assert Case("a red umbrella", "on to it").judge() is None


def test_further_prompt_texts_must_not_be_echoed() -> None:
    text = "You are a helpful captioner of dogs. a dog"
    assert Case(text).judge() is None
    gate = Gate(GateConfig(), HEADS, count, instructions=("You are a helpful captioner of dogs.\nBe brief.",))
    assert gate.judge(text, "a dog", False, 0) == Rejection.PROMPT_ECHO
    assert gate.judge("Be brief, dog", "a dog", False, 0) is None
    one_word = Gate(GateConfig(), HEADS, count, instructions=("Dog:",))
    assert one_word.judge("a sleeping dog", "a dog", False, 0) is None


def test_no_pair_written_by_people_is_refused() -> None:
    gate = Gate(GateConfig(), HEADS, count)
    pairs = [pair for name in built_in_prompt_sets() for pair in load_prompt_set(name).pairs]
    assert len(pairs) >= 64
    assert [pair for pair in pairs if gate.judge(pair.target, pair.source, False, 0)] == []


def test_a_gate_can_be_sent_to_another_process() -> None:
    gate = pickle.loads(pickle.dumps(Gate(GateConfig(), HEADS, count)))  # noqa: S301
    assert gate.judge("a red umbrella", "a dog", False, 0) == Rejection.UNRELATED


def test_heads_without_examples_have_no_copies() -> None:
    assert Gate(GateConfig(), (), count).judge("a red car stands in the street", "a car", False, 5) is None


NUMBERS = ["a", "dog", "3", "two", "hundred", "million", "1,000", "1.5", "²", "٣", "#", "/"]
PHRASES = ["I'm", "sorry", "sure,", ":", "here is", "caption", "<PERSON>", "[", "=>"]
LETTERS = ["狗", "снег", "ا", "\u0301", "ﷺ", "\ud800", "\n", "ß", "İ"]
TEXTS = st.text() | st.lists(st.sampled_from([*NUMBERS, *PHRASES, *LETTERS])).map(" ".join)


@given(text=TEXTS, caption=TEXTS, truncated=st.booleans(), others=st.lists(TEXTS, max_size=2))
def test_the_verdict_is_a_function_of_its_arguments(
    text: str, caption: str, truncated: bool, others: list[str]
) -> None:
    gate = Gate(GateConfig(), HEADS, count)
    first = gate.judge(text, caption, truncated, 0, others)
    gate.judge(caption, text, False, 1)
    assert gate.judge(text, caption, truncated, 0, others) == first
    assert Gate(GateConfig(), HEADS, count).judge(text, caption, truncated, 0, others) == first


@given(text=TEXTS, caption=TEXTS, truncated=st.booleans(), others=st.lists(TEXTS, max_size=2))
def test_only_empty_texts_fail_a_gate_that_is_off(text: str, caption: str, truncated: bool, others: list[str]) -> None:
    verdict = Case(text, caption, truncated, tuple(others)).judge(OFF)
    assert verdict == (None if text.split() else Rejection.EMPTY)


@given(before=TEXTS, after=TEXTS, caption=TEXTS)
def test_a_text_with_the_separator_is_always_refused(before: str, after: str, caption: str) -> None:
    text = f"{before}{SEPARATOR}{after}"
    assert Case(text, caption).judge() is not None
    assert Case(text, caption).judge(OFF.model_copy(update={"drop_prompt_echo": True})) == Rejection.PROMPT_ECHO


@given(caption=TEXTS)
def test_the_caption_itself_is_always_refused(caption: str) -> None:
    assert Case(caption, caption).judge() is not None


@given(caption=TEXTS)
def test_a_caption_keeps_its_own_numbers_and_placeholders(caption: str) -> None:
    config = OFF.model_copy(update={"drop_lost_numbers": True, "drop_changed_placeholders": True})
    assert Case(caption, caption).judge(config) in (None, Rejection.EMPTY)


@given(text=TEXTS, caption=TEXTS, limit=st.integers(1, 6), more=st.integers(0, 6))
def test_what_passes_a_limit_passes_a_larger_one(text: str, caption: str, limit: int, more: int) -> None:
    def passes(field: str, value: int) -> bool:
        return Case(text, caption).judge(OFF.model_copy(update={field: value})) is None

    assert passes("max_context_tokens", limit) <= passes("max_context_tokens", limit + more)
    assert passes("max_repeated_phrases", limit) <= passes("max_repeated_phrases", limit + more)
    assert passes("min_words", limit + more) <= passes("min_words", limit)
    assert passes("min_shared_words", limit + more) <= passes("min_shared_words", limit)
