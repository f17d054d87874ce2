"""Errors of the result path.

They grow so::

    ResultError                     results can't be written
    ├── ResultInputError            what was handed in can't become results
    ├── ResultCheckError            a written object failed its check and is never sent
    └── PictureError                a picture can't become a DICOM object

Delivery raises nothing for what a peer or a network does: it returns one coded
:class:`dicom_out.delivery.DeliveryReceipt` per object.
"""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import PacsightError


class ResultError(PacsightError):
    """Base of everything that can go wrong while results are written."""

    code: ClassVar[str] = "RESULT_FAILED"


class ResultInputError(ResultError):
    """Predictions and source images don't belong together, or there are none."""

    code = "RESULT_INPUT_INVALID"


class ResultCheckError(ResultError):
    """A result was read again and is not what it must be.

    Attributes
    ----------
    problem
        Which check failed, as a stable code such as ``ATTRIBUTE_MISSING``.
    """

    code = "RESULT_CHECK_FAILED"

    def __init__(self, problem: str, what: str) -> None:
        super().__init__(f"A result was not sent ({problem}): {what} Please report this defect.")
        self.problem = problem


class PictureError(ResultError):
    """A picture has a shape or type that no DICOM image can hold."""

    code = "PICTURE_INVALID"
