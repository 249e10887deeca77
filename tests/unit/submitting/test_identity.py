"""Equal submissions get equal ids; a job that waits or runs is found again, and an ended one gets a successor."""

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.submitting.identity import choose_attempt, fingerprint_of, first_id

FIRST = "laclip-train-mine-01234567"
STATUSES = st.sampled_from(["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"])
CONTENT = {"name": "mine", "train": {"epochs": 3, "batch_size": 8}}


def test_the_fingerprint_knows_the_verb_the_content_and_the_files() -> None:
    base = fingerprint_of("train", CONTENT, {"a.yaml": b"1"})
    assert base == fingerprint_of("train", dict(reversed(CONTENT.items())), {"a.yaml": b"1"})
    others = [
        fingerprint_of("run", CONTENT, {"a.yaml": b"1"}),
        fingerprint_of("train", {**CONTENT, "seed": 1}, {"a.yaml": b"1"}),
        fingerprint_of("train", CONTENT, {"a.yaml": b"2"}),
        fingerprint_of("train", CONTENT, {"b.yaml": b"1"}),
    ]
    assert len({base, *others}) == 5


def test_an_id_names_the_verb_and_the_run_and_is_short() -> None:
    assert first_id("train", "mine", "0123456789abcdef") == FIRST
    assert len(first_id("train", "x" * 500, "0123456789abcdef")) < 120


@given(st.lists(STATUSES, max_size=6))
def test_an_attempt_attaches_to_the_newest_active_job_or_gets_a_new_id(statuses: list[str]) -> None:
    ids = [FIRST, *(f"{FIRST}-{number}" for number in range(2, len(statuses) + 1))]
    jobs = dict(zip(ids, statuses, strict=False))
    attempt = choose_attempt(FIRST, jobs)
    active = [submission_id for submission_id in ids if jobs.get(submission_id) in ("PENDING", "RUNNING")]
    if active:
        assert (attempt.submission_id, attempt.attaches) == (active[-1], True)
    else:
        assert attempt.submission_id not in jobs
        assert not attempt.attaches
        assert attempt.before == ((ids[len(jobs) - 1], statuses[-1]) if jobs else None)


def test_jobs_of_other_runs_do_not_count() -> None:
    others = {f"{FIRST}x": "RUNNING", f"{FIRST}-02": "RUNNING", f"{FIRST}-2-2": "RUNNING", f"x{FIRST}": "RUNNING"}
    assert choose_attempt(FIRST, others).submission_id == FIRST


def test_a_deleted_job_leaves_its_number_unused() -> None:
    attempt = choose_attempt(FIRST, {f"{FIRST}-3": "FAILED"})
    assert (attempt.submission_id, attempt.before) == (f"{FIRST}-4", (f"{FIRST}-3", "FAILED"))
