"""Every coded concept that results use, with its place in PS3.16.

Findings and their codes come from the model's manifest; what is here belongs to the report itself.
"""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99PACSIGHT"
"""Coding Scheme Designator of the few concepts that PS3.16 has no code for (PS3.3 section 8.2)."""

# --- TID 1500 Measurement Report
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
COMMENT = Code("121106", "DCM", "Comment")  # CID 12101
CONCLUSION = Code("121077", "DCM", "Conclusion")  # CID 7002

DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic imaging report")  # CID 7000
PROCESSING_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
NO_ALGORITHM_SUCCEEDED = Code(
    "111245", "DCM", "No algorithms succeeded; without findings"
)  # CID 6047

PROCEDURES = {
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
}
"""Procedure Reported (121058, DCM) by Modality, CID 100."""
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")  # CID 100

# --- TID 1600 Image Library
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
ILLUSTRATION = Code("125201", "DCM", "Illustration of Finding")
SOURCE = Code("260753009", "SCT", "Source")
MODALITY = Code("121139", "DCM", "Modality")
PIXEL_DATA_ROWS = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
ROW_ORIENTATION = Code("111044", "DCM", "Patient Orientation Row")
COLUMN_ORIENTATION = Code("111043", "DCM", "Patient Orientation Column")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
PIXELS = Code("{pixels}", "UCUM", "Pixels")
MILLIMETRE = Code("mm", "UCUM", "mm")

# --- Measurement group, TID 1410
PROBABILITY = Code("122157", "DCM", "Probability")
THRESHOLD = Code("THRESHOLD", PRIVATE_SCHEME, "Operating threshold")
PERCENT = Code("%", "UCUM", "Percent")  # CID 83
RESULT_AT_THRESHOLD = Code("RESULT-THRESHOLD", PRIVATE_SCHEME, "Result at threshold")
POSITIVE = Code("10828004", "SCT", "Positive")  # CID 250
NEGATIVE = Code("260385009", "SCT", "Negative")  # CID 250

AREA = Code("42798000", "SCT", "Area")  # CID 7470
LONG_AXIS = Code("103339001", "SCT", "Long axis")  # CID 7470
VOLUME = Code("118565006", "SCT", "Volume")  # CID 7471
SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")  # CID 7461
MILLILITRE = Code("ml", "UCUM", "milliliter")  # CID 7461

# --- TID 4019 Algorithm Identification
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162

# --- References between objects
SOURCE_FOR_PROCESSING = Code(
    "121322", "DCM", "Source image for image processing operation"
)  # CID 7202
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005

OTHER_MODALITY = Code("OT", "DCM", "Other Modality")  # CID 29


def modality_code(modality: str) -> Code:
    """Return the code of a value of Modality (0008,0060), CID 29."""
    for candidate in codes.cid29.concepts.values():
        if candidate.value == modality:
            return Code(candidate.value, "DCM", candidate.meaning)
    return OTHER_MODALITY


def private_scheme() -> CodingSchemeIdentificationItem:
    """Return the item that explains the private designator (PS3.3 section C.12.1)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME, name="Pacsight concepts", responsible_organization="Pacsight"
    )
