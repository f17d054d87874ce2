"""Errors of training and evaluation.

::

    PacsightError
    └── TrainingError
        ├── RecipeError              the recipe can't be read or a value is wrong
        ├── DataError                the data folder can't be used
        │   ├── LabelsError          labels.csv is missing, unreadable or lacks a column
        │   ├── PictureMissingError  labels.csv names a file that isn't there
        │   ├── PictureError         a picture can't be read
        │   ├── BoxesError           a box is no box, outside its picture or missing
        │   ├── MaskError            a mask of another size or place than its picture
        │   ├── UnknownClassError    a label is not one of the recipe's classes
        │   ├── OneClassError        a split lacks a class
        │   ├── GroupSplitError      pictures of one group are in several splits
        │   ├── GateDataError        too few pictures to fit or judge a gate
        │   └── SplitError           a split is unknown or empty
        ├── StartWeightsError        the start weights don't fit the network
        ├── OutputExistsError        the checkpoint folder is there already
        ├── LogFolderError           the log's folder can't be written
        ├── PageError                the page of an evaluation can't be written
        ├── RecordMismatchError      other pictures than those the recorded figures are of
        ├── TrainingDivergedError    the loss is no longer a number
        ├── ExplanationError         heatmaps that can't be checked
        ├── NoRecipeError            a model folder doesn't say how its classes are called
        └── GoldenCaseError          a model folder's golden case is missing or damaged
"""

from ledger.errors import PacsightError


class TrainingError(PacsightError):
    """Base of the errors of training and evaluation."""

    code = "TRAINING_FAILED"


class RecipeError(TrainingError):
    """The recipe can't be read, has an unknown key or a wrong value."""

    code = "RECIPE_INVALID"


class DataError(TrainingError):
    """The data folder can't be used."""

    code = "DATA_INVALID"


class LabelsError(DataError):
    """``labels.csv`` is missing, unreadable or lacks a column."""

    code = "DATA_LABELS"


class PictureMissingError(DataError):
    """``labels.csv`` names a file that isn't there."""

    code = "DATA_FILE_MISSING"


class PictureError(DataError):
    """A picture can't be read."""

    code = "DATA_FILE_UNREADABLE"


class BoxesError(DataError):
    """A box is not four numbers in order, lies outside its picture, or is missing."""

    code = "DATA_BOXES"


class MaskError(DataError):
    """A mask has another size than its picture or volume, or lies elsewhere."""

    code = "DATA_MASK"


class UnknownClassError(DataError):
    """A label is not one of the recipe's classes."""

    code = "DATA_CLASS_UNKNOWN"


class OneClassError(DataError):
    """A split lacks a class, so nothing can be learnt or measured."""

    code = "DATA_CLASS_MISSING"


class GroupSplitError(DataError):
    """Pictures of one group (patient) are in several splits."""

    code = "DATA_GROUP_SPLIT"


class SplitError(DataError):
    """A split is unknown or empty."""

    code = "DATA_SPLIT"


class GateDataError(DataError):
    """There are too few pictures to fit a gate on, or none to judge it by."""

    code = "DATA_GATE"


class StartWeightsError(TrainingError):
    """The start weights are missing, unreadable or don't fit the network."""

    code = "START_WEIGHTS"


class OutputExistsError(TrainingError):
    """The checkpoint folder is there already; nothing is overwritten."""

    code = "OUTPUT_EXISTS"


class LogFolderError(TrainingError):
    """The folder of the TensorBoard log can't be made or written."""

    code = "LOG_FOLDER"


class PageError(TrainingError):
    """The HTML page of an evaluation can't be written."""

    code = "PAGE"


class RecordMismatchError(TrainingError):
    """A fresh evaluation is of other pictures than those that ``metrics.json`` records."""

    code = "RECORD_MISMATCH"


class TrainingDivergedError(TrainingError):
    """The loss is no longer a number."""

    code = "TRAINING_DIVERGED"


class ExplanationError(TrainingError):
    """The model gives no heatmaps, or there is nothing that they could be checked with."""

    code = "EXPLANATION_UNCHECKED"


class NoRecipeError(TrainingError):
    """The model folder holds no recipe, so its classes can't be matched with labels."""

    code = "MODEL_NO_RECIPE"


class GoldenCaseError(TrainingError):
    """The golden case of a model folder is missing or damaged."""

    code = "MODEL_GOLDEN_CASE"
