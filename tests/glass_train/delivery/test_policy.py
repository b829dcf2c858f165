"""What a policy draws: the shares that it names, from the ranges that it names, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pytest
from glass_train.delivery.draw import draw_delivery
from glass_train.delivery.jpeg import Jpeg
from glass_train.delivery.noise import Noise
from glass_train.delivery.policy import UNCHANGED, Policy, policy_from
from glass_train.delivery.rescale import Rescale, Thumbnail
from glass_train.delivery.step import Step
from glass_train.delivery.webp import WebP

from glass_rt.errors import UsageError

DRAWS = 4000


def drawn(policy: Policy, seed: str = "s") -> list[tuple[Step, ...]]:
    return [draw_delivery(policy, f"{seed}/{number}") for number in range(DRAWS)]


def test_steps_come_as_often_as_the_policy_says() -> None:
    policy = Policy(webp=0.25)
    counts = Counter(type(step).__name__ for steps in drawn(policy) for step in steps)
    rounds = policy.jpeg * (1 + policy.second_jpeg)
    expected = {
        "Flip": policy.horizontal_flip,
        "Blur": policy.blur,
        "Thumbnail": policy.thumbnail,
        "Rescale": policy.rescale * (1 - policy.thumbnail),
        "Noise": policy.noise,
        "Jpeg": rounds * 0.75,
        "WebP": rounds * 0.25,
    }
    assert set(counts) == set(expected)
    for name, share in expected.items():
        assert counts[name] / DRAWS == pytest.approx(share, abs=0.035), name  # over four standard errors


def test_values_fill_their_ranges_and_do_not_leave_them() -> None:
    steps = [step for delivery in drawn(Policy()) for step in delivery]
    qualities = [step.quality for step in steps if isinstance(step, Jpeg)]
    factors = [step.factor for step in steps if isinstance(step, Rescale)]
    sides = [step.side for step in steps if isinstance(step, Thumbnail)]
    assert (min(qualities), max(qualities)) == (30, 95)
    assert (min(sides), max(sides)) == pytest.approx((180, 320), abs=2)
    assert min(factors) == pytest.approx(0.4, abs=0.01)
    assert max(factors) == pytest.approx(1.3, abs=0.01)
    assert {step.subsampling for step in steps if isinstance(step, Jpeg)} == {"4:4:4", "4:2:2", "4:2:0"}
    assert len({step.seed for step in steps if isinstance(step, Noise)}) == sum(isinstance(s, Noise) for s in steps)


def test_a_seed_draws_the_same_steps_again_and_another_seed_others() -> None:
    assert drawn(Policy()) == drawn(Policy())
    assert drawn(Policy()) != drawn(Policy(), "another")


def test_a_seed_draws_these_steps_in_every_version() -> None:
    assert draw_delivery(Policy(), "0/name/2") == (
        Thumbnail(side=318, kernel="bicubic"),
        Noise(sigma=1.4766061274725746, seed=16503085043874100469),
        Jpeg("4:2:0", 53),
        Jpeg("4:2:0", 58),
    )


def test_one_probability_changes_nothing_else() -> None:
    without = drawn(replace(Policy(), noise=0.0, blur=0.0))
    kept = [tuple(step for step in steps if type(step).__name__ not in ("Noise", "Blur")) for steps in drawn(Policy())]
    assert without == kept


def test_webp_is_off_and_no_step_is_taken_where_all_are_off() -> None:
    assert not any(isinstance(step, WebP) for steps in drawn(Policy()) for step in steps)
    assert not any(drawn(UNCHANGED))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"jpeg": 1.5}, "jpeg: got 1.5; expected a probability"),
        ({"blur": -0.1}, "blur: got -0.1"),
        ({"quality": [95, 30]}, "quality: got 95 to 30"),
        ({"quality": [0, 30]}, "quality: got 0 to 30; expected a range within 1 to 100"),
        ({"rescale_factor": [0.0, 1.0]}, "rescale_factor: got 0.0 to 1.0"),
        ({"subsamplings": ["4:1:0"]}, "subsamplings: got 4:1:0; choose among 4:4:4, 4:2:2, 4:2:0"),
        ({"filters": []}, "filters: got nothing; choose among box"),
        ({"jpg": 0.5}, "jpg is not known; choose among blur, blur_sigma"),
        ({"quality": 80}, "quality: got 80; expected two numbers"),
        ({"jpeg": "often"}, "jpeg: got 'often'; expected a probability"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_with_the_remedy(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        policy_from(values)
    assert said in str(refused.value)


def test_a_policy_comes_back_from_its_configuration() -> None:
    policy = Policy(jpeg=0.5, quality=(60, 90), filters=("lanczos",))
    as_json = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(policy).items()}
    assert policy_from(as_json) == policy
