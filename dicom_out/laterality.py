"""What part of the body a picture shows, and of which side (PS3.3 C.7.3.1)."""

from __future__ import annotations

from pydicom import Dataset

from dicom_out.patient import read_valid

_UNPAIRED = {
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX",
    "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON",
    "CORONARYARTERY", "CSPINE", "CTSPINE", "DUODENUM", "ESOPHAGUS", "FACE", "GALLBLADDER", "HEAD",
    "HEADNECK", "HEART", "ILEUM", "ILIUM", "JAW", "JEJUNUM", "LARYNX", "LIVER", "LSPINE", "LSSPINE",
    "MAXILLA", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV",
    "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM", "SCALP", "SKULL",
    "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE", "TONGUE",
    "TRACHEA", "TSPINE", "URETER", "URETHRA", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY",
}  # fmt: skip
"""Body Part Examined of what has no sides (PS3.16 Annex L)."""


def copy_laterality(source: Dataset, ds: Dataset) -> None:
    """Put body part and side of a source into a picture.

    Laterality is required, if only empty, unless the body part is known to have no sides; then it
    must not be there (type 2C). Where the source has both, the side stays and the body part goes.
    """
    part = read_valid(source, "BodyPartExamined")
    image_side, side = (read_valid(source, word) for word in ("ImageLaterality", "Laterality"))
    if image_side is not None:  # then the series has none
        ds.add(image_side)
    elif side is not None:
        ds.add(side)
    elif part is None or part.value not in _UNPAIRED:
        ds.Laterality = ""
    if part is not None and (side is None or image_side is not None or part.value not in _UNPAIRED):
        ds.add(part)
