"""What statuses mean and when to try again: tables."""

import pytest
from pydantic import ValidationError

from dicom_out.destination import (
    DeliveryConfig,
    Destination,
    Outcome,
    judge_status,
    next_delay_s,
)


@pytest.mark.parametrize(
    ("status", "outcome", "code", "is_retryable"),
    [
        (0x0000, Outcome.ACCEPTED, "STORED", False),
        (0xB000, Outcome.WARNING, "STORED_WITH_WARNING", False),
        (0xB006, Outcome.WARNING, "STORED_WITH_WARNING", False),
        (0xB007, Outcome.WARNING, "STORED_WITH_WARNING", False),
        (0x0107, Outcome.WARNING, "STORED_WITH_WARNING", False),
        (0x0111, Outcome.WARNING, "STORED_BEFORE", False),
        (0xA700, Outcome.REFUSED, "OUT_OF_RESOURCES", True),
        (0xA7FF, Outcome.REFUSED, "OUT_OF_RESOURCES", True),
        (0x0110, Outcome.REFUSED, "TRY_LATER", True),
        (0x0124, Outcome.REFUSED, "TRY_LATER", True),
        (0xA900, Outcome.REFUSED, "NOT_SUPPORTED", False),
        (0x0122, Outcome.REFUSED, "NOT_SUPPORTED", False),
        (0xC000, Outcome.REFUSED, "REFUSED", False),
        (0x0117, Outcome.REFUSED, "REFUSED", False),
        (0xFF00, Outcome.REFUSED, "REFUSED", False),
    ],
)
def test_a_status_means(status: int, outcome: Outcome, code: str, is_retryable: bool) -> None:
    verdict = judge_status(status)
    assert (verdict.outcome, verdict.code, verdict.is_retryable) == (outcome, code, is_retryable)


def test_the_delay_doubles_up_to_its_limit() -> None:
    rules = DeliveryConfig(first_retry_s=10, longest_retry_s=70)
    assert [next_delay_s(attempt, rules) for attempt in range(1, 7)] == [10, 20, 40, 70, 70, 70]
    assert next_delay_s(100_000, rules) == 70


def test_the_defaults_try_for_three_days() -> None:
    rules = DeliveryConfig()
    total, attempt = 0.0, 0
    while total < rules.give_up_after_s:
        attempt += 1
        total += next_delay_s(attempt, rules)
    assert 100 < attempt < 300


@pytest.mark.parametrize(
    "wrong",
    [
        {"ae_title": "SEVENTEEN_LETTERS"},
        {"ae_title": "  "},
        {"ae_title": "BACK\\SLASH"},
        {"ae_title": "ÜMLAUT"},
        {"port": 0},
        {"port": 65536},
        {"host": ""},
        {"timeout_s": 0},
        {"calling_ae_title": "SEVENTEEN_LETTERS"},
        {"nmae": "x"},
    ],
)
def test_wrong_destinations_are_refused(wrong: dict[str, object]) -> None:
    good = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}
    Destination.model_validate(good)
    with pytest.raises(ValidationError):
        Destination.model_validate(good | wrong)
