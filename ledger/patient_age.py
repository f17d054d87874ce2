"""How old a patient was, as far as a header says. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime

_AGE = re.compile(r"(\d{1,3})([DWMY])")  # AS, PS3.5 table 6.2-1
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_OLDEST = 150.0


def years_of(patient_age: str, birth_date: str, study_date: str) -> float | None:
    """Return the age in years, or None if it can't be told.

    Parameters
    ----------
    patient_age
        Patient's Age (0010,1010), which counts first.
    birth_date, study_date
        Patient's Birth Date (0010,0030) and Study Date (0008,0020).
    """
    match = _AGE.fullmatch(patient_age.strip().upper())
    if match:
        return int(match[1]) / _PER_YEAR[match[2]]
    born, studied = _date(birth_date), _date(study_date)
    if born is None or studied is None:
        return None
    years = (studied - born).days / 365.25
    return years if 0.0 <= years <= _OLDEST else None


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip()[:8], "%Y%m%d").date()  # noqa: DTZ007 - a date only
    except ValueError:
        return None
