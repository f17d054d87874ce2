"""Errors of running the service.

::

    PacsightError
    └── OperationError
        ├── SettingsError          pacsight.yaml or PACSIGHT_* is wrong
        ├── AlreadyRunningError    another process holds this role
        ├── NeverRanError          a role of `pacsight serve` fails at each start
        ├── DataFolderError        data_dir can't be made or written
        ├── NotFoundError          no such study, model, delivery or file
        ├── CollectorError         audit messages can't be sent now
        ├── AuditError             the event log isn't what was written
        ├── SelfTestError          a destination did not take the self-test
        ├── NotReadyError          a probe finds that work can't be done now
        └── StageError             a stage of the workflow can't go on
"""

from ledger.errors import PacsightError


class OperationError(PacsightError):
    """Base of the errors of running the service."""

    code = "OPERATION_FAILED"


class SettingsError(OperationError):
    """A setting is unknown or has a wrong value."""

    code = "SETTINGS_INVALID"


class AlreadyRunningError(OperationError):
    """Another process of this installation has the same role and name."""

    code = "ALREADY_RUNNING"


class NeverRanError(OperationError):
    """A role ends by itself whenever it is started."""

    code = "ROLE_NEVER_RAN"


class DataFolderError(OperationError):
    """The data folder can't be made or written."""

    code = "DATA_FOLDER_UNUSABLE"


class NotFoundError(OperationError):
    """What the command names does not exist."""

    code = "NOT_FOUND"


class SelfTestError(OperationError):
    """A destination did not take everything that it is meant to get."""

    code = "SELFTEST_REFUSED"


class StageError(OperationError):
    """A stage can't go on: what it needs is missing from the ledger or the disk."""

    code = "STAGE_INPUT_MISSING"


class CollectorError(OperationError):
    """The audit collector can't be reached, or isn't who it should be."""

    code = "AUDIT_COLLECTOR_UNAVAILABLE"
    retryable = True


class AuditError(OperationError):
    """The event log isn't what was written."""

    code = "AUDIT_BROKEN"


class NotReadyError(OperationError):
    """Work can't be done now."""

    code = "NOT_READY"
    retryable = True
