"""What the image viewer of a results page needs: series, their images, and what lies over them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.domain import InstanceFacts, ObjectState
from ledger.slices import along_normal, are_parallel
from ledger.tables import (
    Decision,
    Instance,
    PredictionRow,
    ReceivedObject,
    Revision,
    Series,
    Study,
)
from viewer_api.study_view import labels_of


def viewer_data(session: Session, study: Study) -> dict[str, Any]:
    """Return what the image viewer needs: series with their images, and what lies over them."""
    rows = session.execute(
        select(Series, Instance, ReceivedObject)
        .join(Instance, Instance.series_id == Series.id)
        .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
        .where(Series.study_id == study.id, Instance.is_current)
        .where(ReceivedObject.state != ObjectState.EXPIRED)
        .order_by(Series.series_number, Series.id, Instance.id)
    )
    series: dict[int, dict[str, Any]] = {}
    held: dict[int, list[tuple[InstanceFacts, int]]] = {}
    for one, instance, _ in rows:
        facts = InstanceFacts.from_json(instance.facts)
        if facts.has_pixel_data:
            about = {"modality": one.modality, "description": one.series_description}
            series.setdefault(one.id, about)
            held.setdefault(one.id, []).append((facts, instance.id))
    for key, images in held.items():
        series[key]["images"] = [
            {"id": id_, "uid": facts.sop_instance_uid, "frame": frame}
            for facts, id_ in in_place(images)
            for frame in range(1, max(1, facts.number_of_frames) + 1)
        ]
    revision = session.scalar(
        select(Revision)
        .where(Revision.study_id == study.id)
        .order_by(Revision.number.desc())
        .limit(1)
    )
    layers: list[dict[str, Any]] = []
    if revision is not None:
        layers = _layers(session, revision)
        sort_like_volumes(series, layers)
    return {"series": list(series.values()), "layers": layers}


def in_place(images: list[tuple[InstanceFacts, int]]) -> list[tuple[InstanceFacts, int]]:
    """Return the images of a series along the normal of its slices, as results number them.

    By Instance Number where they are no slices, not parallel, or several lie in one place.
    """
    images = sorted(images, key=lambda one: (one[0].instance_number, one[0].sop_instance_uid))
    orientation = images[0][0].image_orientation
    if not orientation or not all(
        facts.image_position and are_parallel(facts.image_orientation, orientation)
        for facts, _ in images
    ):
        return images
    places = [along_normal(facts.image_position, orientation) for facts, _ in images]
    if len({round(place, 3) for place in places}) < len(images):
        return images
    return [one for _, one in sorted(zip(places, images, strict=True), key=lambda pair: pair[0])]


def _layers(session: Session, revision: Revision) -> list[dict[str, Any]]:
    """Return heatmaps, masks and boxes: each names its images, and on which it shows most."""
    rows = session.execute(
        select(PredictionRow, Decision.model_id)
        .join(Decision, Decision.id == PredictionRow.decision_id)
        .where(Decision.revision_id == revision.id)
        .order_by(PredictionRow.decision_id, PredictionRow.id)
    ).all()
    layers = []
    for row, model_id in rows:
        summary = row.summary
        base = {"prediction": row.id, "model": model_id, "places": places_of(summary), "start": 0}
        if summary["heatmap"]:
            key, label = f"{row.id}-heatmap", summary["heatmap"]["label"]
            layers.append({**base, "kind": "heatmap", "key": key, "label": label})
        for number, segment in enumerate(summary["segments"]):
            if segment["voxels"]:
                key = f"{row.id}-mask-{number}"
                layers.append(
                    {
                        **base,
                        "kind": "mask",
                        "key": key,
                        "number": number,
                        "label": segment["label"],
                        "start": _largest(segment),
                    }
                )
        for number, label in enumerate(labels_of(summary["boxes"])):
            boxes = [box for box in summary["boxes"] if box["label"] == label]
            layers.append(
                {
                    **base,
                    "kind": "boxes",
                    "key": f"{row.id}-boxes-{number}",
                    "number": number,
                    "label": label,
                    "boxes": [
                        [box["x_min"], box["y_min"], box["x_max"], box["y_max"], box["score"]]
                        for box in boxes
                    ],
                }
            )
    return layers


def _largest(segment: dict[str, Any]) -> int:
    """Return the number of the slice on which a segment is largest; 0 of an image."""
    areas = segment.get("slice_areas_mm2") or [0.0]
    return int(areas.index(max(areas)))


def places_of(summary: dict[str, Any]) -> list[tuple[str, int]]:
    """Return SOP Instance UID and frame of each slice that a prediction is about.

    None if they aren't known: of several frames their numbers were not always kept.
    """
    uids = summary["sop_instance_uids"]
    frames = summary.get("frame_numbers") or [1] * len(uids)
    places = list(zip(uids, frames, strict=True))
    return places if len(set(places)) == len(places) else []


def sort_like_volumes(series: dict[int, dict[str, Any]], layers: list[dict[str, Any]]) -> None:
    """Show slices in the order in which a model of series took them: by their place in space."""
    for layer in layers:
        places = {place: number for number, place in enumerate(layer["places"])}
        if len(places) < 2:
            continue
        for one in series.values():
            if all((image["uid"], image["frame"]) in places for image in one["images"]):
                one["images"].sort(key=lambda image: places[image["uid"], image["frame"]])
