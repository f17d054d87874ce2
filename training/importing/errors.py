"""Errors of importing weights.

::

    TrainingError
    └── ImportingError
        ├── DraftError           the description of the model can't be used
        ├── SourceError          the file of weights is missing, unknown or damaged
        ├── UnsafeSourceError    reading it would mean running what it says
        ├── ForeignNetworkError  no network on the list is the one that it belongs to
        ├── WeightsDontFitError  its tensors are not those of the network
        └── RejectedError        the finished folder doesn't pass its checks
"""

from training.errors import TrainingError


class ImportingError(TrainingError):
    """Base of the errors of importing weights."""

    code = "IMPORT_FAILED"


class DraftError(ImportingError):
    """The description of the model is missing, or a value is wrong."""

    code = "IMPORT_DRAFT"


class SourceError(ImportingError):
    """The file of weights is missing, of an unknown kind, or damaged."""

    code = "IMPORT_FILE"


class UnsafeSourceError(ImportingError):
    """The file holds code or expressions; it is not read."""

    code = "IMPORT_UNSAFE"


class ForeignNetworkError(ImportingError):
    """The weights belong to a network that is not on the list."""

    code = "IMPORT_NETWORK"


class WeightsDontFitError(ImportingError):
    """Tensors are missing, too many, of another shape, or no numbers."""

    code = "IMPORT_MISMATCH"


class RejectedError(ImportingError):
    """The finished folder doesn't pass ``pacsight models verify``."""

    code = "IMPORT_REJECTED"
