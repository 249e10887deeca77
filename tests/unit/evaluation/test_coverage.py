"""Too much that is missing is no result; a little is counted and named."""

from collections.abc import Iterator

import pytest

from laclip_ray.data.records import SHARD_TRUNCATED, SHARD_UNREADABLE, ShardUnreadableError
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from tests.cases import case


def read(coverage: Coverage, name: str, count: int, error: Exception | None = None, expected: int | None = None) -> int:
    """Read a shard of `count` usable samples, which then raises `error`; the number of samples."""

    def samples() -> Iterator[int]:
        yield from range(count)
        if error is not None:
            raise error

    seen = 0
    for _ in coverage.read_shard(name, samples(), expected):
        coverage.used += 1
        seen += 1
    return seen


@case("Evaluation", "a set without a usable sample", "no result and no number; the reasons are named", exit_code=3)
def test_nothing_used_is_no_result() -> None:
    coverage = Coverage()
    for number in range(5):
        coverage.skip("image_missing", f"id{number}")
    message = r"^no sample could be used \(image_missing 5: id0, id1, id2\); set the column$"
    with pytest.raises(NoResultError, match=message):
        coverage.check(1.0, "set the column")
    with pytest.raises(NoResultError, match=r"^no sample could be used$"):
        Coverage().check(1.0)


@case(
    "Evaluation",
    "more than 1 % of a set cannot be used (`evaluate.max_skipped`)",
    "this set has no result, the others have; the results name it",
    exit_code=3,
)
def test_more_skipped_than_allowed_is_no_result() -> None:
    coverage = Coverage(used=99)
    coverage.skip("image_unreadable", "a")
    coverage.check(0.01)
    coverage.skip("label_unusable", "b")
    with pytest.raises(
        NoResultError, match=r"^2\.0% of the samples cannot be used .*max_skipped is 1\.0%; repair them"
    ):
        coverage.check(0.01)
    coverage.check(0.02)


def test_skipped_units_count_with_their_number() -> None:
    coverage = Coverage(used=97)
    coverage.skip("image_missing", "a", 3)
    assert (coverage.skipped_units, coverage.skipped.names) == (3, {"image_missing": ["a"]})
    coverage.check(0.03)
    with pytest.raises(NoResultError):
        coverage.check(0.02)


@pytest.mark.parametrize("error", [EOFError(), ValueError("bad"), FileNotFoundError("gone"), MemoryError()])
def test_a_damaged_shard_ends_early_and_is_named(error: Exception) -> None:
    coverage = Coverage()
    assert read(coverage, "a", 3, error) == 3
    assert read(coverage, "b", 5) == 5
    assert sum(coverage.skipped.counts.values()) == 1
    assert [name for names in coverage.skipped.names.values() for name in names] == ["a"]
    assert (coverage.used, coverage.skipped_units) == (8, 0)


def test_a_shard_without_any_sample_is_unreadable_and_one_with_some_is_truncated() -> None:
    coverage = Coverage()
    read(coverage, "none", 0, ShardUnreadableError("a web page"))
    read(coverage, "some", 1, ShardUnreadableError("ends early"))
    assert coverage.skipped.names == {SHARD_UNREADABLE: ["none"], SHARD_TRUNCATED: ["some"]}


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), TimeoutError("slow"), OSError(5, "disk")])
def test_a_storage_that_refuses_is_no_result(error: Exception) -> None:
    with pytest.raises(NoResultError, match=r"^the storage refuses a: "):
        read(Coverage(), "a", 3, error)


@pytest.mark.parametrize(
    ("whole", "damaged", "expected", "share"),
    [
        ([100, 100], 90, None, 10 / 300),  # as many as the others have
        ([100, 100], 100, None, 1 / 301),  # at least one
        ([100], 20, 40, 20 / 140),  # as many as it should have
        ([], 99, 100, 1 / 100),
    ],
)
def test_the_samples_missing_from_a_damaged_shard_are_estimated(
    whole: list[int], damaged: int, expected: int | None, share: float
) -> None:
    coverage = Coverage()
    for number, count in enumerate(whole):
        read(coverage, f"whole{number}", count)
    read(coverage, "damaged", damaged, EOFError(), expected)
    coverage.check(share + 1e-9)
    with pytest.raises(NoResultError):
        coverage.check(share - 1e-4)


@case(
    "Evaluation", "a set whose only tar ends early", "no result: the number of missing samples is unknown", exit_code=3
)
def test_an_unknown_number_of_missing_samples_is_no_result() -> None:
    coverage = Coverage()
    read(coverage, "0.tar", 1_000, EOFError())
    with pytest.raises(NoResultError, match=r"unknown number of samples \(0\.tar\); replace .*max_skipped=1"):
        coverage.check(0.5)
    coverage.check(1.0)
