"""Stacks of slices whose voxels' places and values are known, as classic and enhanced MR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

UID_ROOT = "1.2.826.0.1.3680043.10.1"


def _values() -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-900, 3000, (5, 6, 7)).astype(np.int16)


@dataclass(frozen=True)
class StackMade:
    """A block of voxels; `axes` has the directions of columns, rows and slices as its columns."""

    axes: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0)
    corner_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    values: NDArray[np.int16] = field(default_factory=_values)
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(slice, row, column, 1) to mm, LPS."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes[:, ::-1] * self.spacing_mm
        affine[:3, 3] = self.corner_mm
        return affine

    @property
    def places(self) -> list[list[float]]:
        """Image Position (Patient) of each slice."""
        return [
            [float(value) for value in (self.affine @ [index, 0, 0, 1])[:3]]
            for index in range(len(self.values))
        ]

    @property
    def _orientation(self) -> list[float]:
        return [float(f"{value:.12f}") for value in (*self.axes[:, 0], *self.axes[:, 1])]

    def slices(self, order: Iterable[int]) -> list[FileDataset]:
        """Return single slices, numbered in the given order."""
        return [self._slice(index, number) for number, index in enumerate(order, 1)]

    def _slice(self, index: int, number: int) -> FileDataset:
        ds = self._object(MRImageStorage, f"{UID_ROOT}.2.{index + 1}", self.values[index])
        ds.InstanceNumber = number
        ds.ImagePositionPatient = [f"{value:.9g}" for value in self.places[index]]
        ds.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in self._orientation]
        ds.PixelSpacing = list(self.spacing_mm[1:])
        ds.SliceThickness = self.spacing_mm[0]
        return ds

    def enhanced(self, order: Iterable[int], times: Sequence[int] = ()) -> FileDataset:
        """Return one Enhanced MR object with the slices as its frames in the given order."""
        order = list(order)
        ds = self._object(EnhancedMRImageStorage, f"{UID_ROOT}.3", self.values[order])
        ds.NumberOfFrames = len(order)
        measures, orientation, shared = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = list(self.spacing_mm[1:])
        measures.SliceThickness = self.spacing_mm[0]
        orientation.ImageOrientationPatient = self._orientation
        shared.PixelMeasuresSequence = [measures]
        shared.PlaneOrientationSequence = [orientation]
        ds.SharedFunctionalGroupsSequence = [shared]
        ds.PerFrameFunctionalGroupsSequence = [
            self._group(index, times[place] if times else None) for place, index in enumerate(order)
        ]
        return ds

    def _group(self, index: int, time: int | None) -> Dataset:
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = self.places[index]
        content.StackID, content.InStackPositionNumber = "1", index + 1
        if time is not None:
            content.TemporalPositionIndex = time
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        return group

    def _object(self, sop_class: str, uid: str, values: NDArray[np.int16]) -> FileDataset:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID_ROOT}.1", f"{UID_ROOT}.1.1"
        ds.FrameOfReferenceUID, ds.Modality = f"{UID_ROOT}.9", "MR"
        ds.PatientID, ds.PatientName = "42", "Test^Anna"
        ds.BodyPartExamined, ds.ImageType = "HEART", ["ORIGINAL", "PRIMARY", "M"]
        ds.Rows, ds.Columns = values.shape[-2:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelRepresentation = 1
        ds.PixelData = values.astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        for keyword, value in self.changes.items():
            setattr(ds, keyword, value)
        return ds
