"""What a destination is sent, and how: by the viewer or PACS that stands there."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGLSLossless,
    RLELossless,
)

TRANSFER_SYNTAXES = {
    "uncompressed": str(ExplicitVRLittleEndian),
    "rle": str(RLELossless),
    "jpeg-ls": str(JPEGLSLossless),
    "htj2k": str(HTJ2KLossless),
}
"""All lossless. Without acceptance by the peer an object goes uncompressed."""


KINDS = ("sr", "seg", "sc", "pdf", "refusal")
"""Kinds of result objects that a profile decides about."""


class Profile(BaseModel):
    """Which objects a destination gets, and in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=64, pattern=r"^[\w.-]+$")
    """how destinations call it"""
    sr: bool = True
    """the structured report"""
    seg: Literal["binary", "labelmap", "none"] = "binary"
    """segmentations of series, and of which type"""
    empty_frames: Literal["omit", "keep"] = "omit"
    """frames of a segmentation without any voxel"""
    sc: bool = True
    """pictures: Secondary Captures"""
    pdf: bool = False
    """the report as an Encapsulated PDF"""
    refusals: bool = False
    """a small structured report when a study was not analysed, with the reason"""
    transfer_syntax: Literal["uncompressed", "rle", "jpeg-ls", "htj2k"] = "uncompressed"
    """of pictures and label maps, where the peer takes it"""
    character_set: Literal["source", "utf-8"] = "source"
    """the source's own, or Unicode for all"""

    def sends(self, kind: str) -> bool:
        """Whether objects of one of :data:`KINDS` belong to the bundle."""
        return {
            "sr": self.sr,
            "seg": self.seg != "none",
            "sc": self.sc,
            "pdf": self.pdf,
            "refusal": self.refusals,
        }[kind]

    def takes(self, kind: str, variant: str) -> bool:
        """Whether an object of that kind and variant is one of the bundle's."""
        return self.sends(kind) and variant == self.variant(kind)

    def variant(self, kind: str) -> str:
        """Return what sets an object of a kind apart from the standard one; ``""`` for that one.

        Objects with the same variant are the same whichever profile they were written for. A report
        names the other objects of its bundle, so it differs wherever one of them does.
        """
        words: list[str] = []
        if kind in ("seg", "sr"):
            words += [] if self.seg == "binary" else [self.seg]
            keeps = self.empty_frames == "keep" and self.seg != "none"
            words += ["empty-frames"] if keeps else []
        if kind == "sr":
            words += [] if self.sc else ["no-sc"]
        words += [self.character_set] if self.character_set != "source" else []
        return "+".join(words)


STANDARD = Profile(name="generic-pacs")
"""The one of a destination that names none."""

PROFILES = {
    profile.name: profile
    for profile in (
        STANDARD,
        Profile(name="ohif", pdf=True),
        Profile(name="weasis", pdf=True),
        Profile(name="orthanc-stone", pdf=True, empty_frames="keep"),
    )
}
"""Known by name; settings add their own."""
