"""Fifty known ways for attack code to go wrong, each with the test that would notice, or with what must exist first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# Number, what must not happen, the test that would notice ("later: X" where the part X does not exist yet,
# "elsewhere: X" where the tests of that part cover it).
TRAPS = {
    1: ("a resumed run differs from an uninterrupted one", "elsewhere: evaluation and training"),
    2: ("the point after the last step is not judged", "test_k_steps_judge_k_plus_1_points_the_last_included"),
    3: ("k steps judge fewer than k + 1 points", "test_k_steps_judge_k_plus_1_points_the_last_included"),
    4: ("the clean image, of size 0, wins as smallest", "test_smallest_keeps_the_smallest_success_and_goes_on"),
    5: ("a step depends on the other images of the batch", "test_company_changes_nothing"),
    6: ("a gradient is estimated from a loss summed over the batch", "test_an_estimate_does_not_depend_on_the_company"),
    7: ("(B, 1) times (B,) becomes (B, B)", "test_one_number_an_image_and_rows_apart"),
    8: ("saturated pixels cannot move", "test_saturated_pixels_can_move"),
    9: ("the margin is wrong for negative logits", "test_margin_by_hand_with_negative_logits"),
    10: ("one image stops the whole batch", "test_company_changes_nothing"),
    11: ("flags, buffers or gradients of the model change", "test_an_attack_leaves_no_trace"),
    12: ("momentum accumulates signs", "test_momentum_by_hand"),
    13: ("a rescale is taken for a projection", "test_l1_projection_is_a_threshold_not_a_rescale"),
    14: ("two or three classes break a loss or a target rule", "test_tiny_images_and_few_classes"),
    15: ("tiny images break an attack", "test_tiny_images_and_few_classes"),
    16: ("something accumulates from call to call", "test_twice_is_the_same"),
    17: ("ties let more than k values through", "test_l0_keeps_exactly_k_of_ties"),
    18: ("a ragged last batch crashes or differs", "test_every_row_is_answered_once_in_order_by_full_calls"),
    19: ("images outside [0, 1] are taken", "test_bad_images_are_refused"),
    20: ("a point inside the ball is inflated", "test_points_inside_stay_bit_for_bit"),
    21: ("the size of x instead of that of the change", "test_result_holds_when_derived_again"),
    22: (
        "the ball is left by way of a guarded division",
        "test_the_ball_and_the_box_hold_and_repeating_changes_nothing",
    ),
    23: (
        "a variable that is used again destroys a step schedule",
        "test_the_schedule_halves_after_the_published_numbers_of_queries",
    ),
    24: ("the image is clipped to the radius instead of the noise", "test_result_holds_when_derived_again"),
    25: ("decision attacks scale gradients wrongly or divide by zero", "test_the_distance_to_a_plane_is_found"),
    26: ("an aliased copy removes the overshoot", "later: DeepFool"),
    27: ("kappa or a distance term changes sign with the goal", "test_margin_and_kappa"),
    28: ("targeted progress is judged with the untargeted sign", "test_lower_is_nearer_to_the_goal"),
    29: ("targets are ignored", "test_targeted_attacks_walk_to_the_target"),
    30: ("a class that does not exist is indexed", "test_tiny_images_and_few_classes"),
    31: ("normalising twice, or never", "test_normalisation_inside_leaves_radii_in_pixel_units"),
    32: ("a number of the wrong kind crashes late", "test_impossible_settings_are_refused_at_construction"),
    33: ("writing in place changes what was given", "test_given_images_are_not_written_to"),
    34: ("NaN spreads from one value or image", "test_broken_gradients_are_counted_and_left_out"),
    35: ("the radius is compared without tolerance", "test_within_allows_a_millionth_and_no_more"),
    36: ("smoothing noise is drawn once for all", "later: smoothing"),
    37: ("checks of success are not counted", "test_counts_are_true_and_within_the_budget"),
    38: ("a phase changes a setting", "test_twice_is_the_same"),
    39: ("a setting changed for a call stays changed", "test_attacks_are_plain_frozen_values"),
    40: ("probabilities pass for logits; the scale of logits decides", "test_softmax_inside_the_model"),
    41: ("missing labels are replaced by predictions", "test_labels_must_be_given"),
    42: (
        "images that were wrong before are attacked",
        "test_an_image_that_is_wrong_before_is_settled_by_the_first_query",
    ),
    43: ("a target equals the label", "test_targets_are_never_the_label"),
    44: ("a verdict changes in another batch size", "test_result_holds_when_derived_again"),
    45: ("something moves the image after the projection", "test_result_holds_when_derived_again"),
    46: ("more radius, steps or restarts fool fewer images", "test_a_longer_search_keeps_every_success"),
    47: ("the radius depends on mean and std", "test_normalisation_inside_leaves_radii_in_pixel_units"),
    48: ("a success holds in reduced precision only", "test_a_success_of_bfloat16_alone_is_none"),
    49: ("shards differ from a single process", "elsewhere: evaluation"),
    50: ("options that do not apply are ignored", "test_unknown_options_are_refused"),
}

FOLDER = Path(__file__).parent.parent
WRITTEN = "\n".join(path.read_text() for kind in ("core", "laws") for path in sorted((FOLDER / kind).glob("test_*.py")))


def test_all_fifty_are_listed() -> None:
    assert list(TRAPS) == list(range(1, 51))


@pytest.mark.parametrize("number", TRAPS)
def test_the_test_that_would_notice_exists(number: int) -> None:
    test = TRAPS[number][1]
    assert test.startswith(("later: ", "elsewhere: ")) or re.search(rf"^def {test}\(", WRITTEN, re.MULTILINE)
