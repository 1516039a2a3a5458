"""Read and write ELAN's annotations (.eaf, EAF 3.0).

A tier is a class, and an annotation on it a segment whose text is the label. Annotations on one tier must not overlap,
so a class with overlapping segments has further tiers. Scores are annotations of a tier below that of the class
(constraint Symbolic_Association). Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from runtime.annotations.activitynet import finite_number
from runtime.common.text import quote
from runtime.errors import AnnotationError
from runtime.exchange.document import Document, to_xml, xml_text
from runtime.exchange.record import (
    ReadOptions,
    Segment,
    VideoSegments,
    WriteOptions,
    file_name,
    from_url,
    require_single,
    stem_of,
)
from runtime.results.video_names import take_name

ACTIONS, SCORES = "actions", "scores"
"""Types of the tiers of classes and of scores."""
DATE = "1970-01-01T00:00:00+00:00"
"""Date of a file, which is always the same, so that the same annotations give the same file; ELAN replaces it."""
MS = 1000
"""Milliseconds per second."""
UNITS = {"milliseconds": 1 / MS, "NTSC-frames": 1001 / 30000, "PAL-frames": 1 / 25, "PAL-50-frames": 1 / 50}
"""Seconds per unit of time."""
MIME_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
}
"""Types that ELAN knows by suffix; it takes others for "unknown" and finds a player itself."""
CONSTRAINTS = {
    "Time_Subdivision": "Time subdivision of parent annotation's time interval, no time gaps allowed within this "
    "interval",
    "Symbolic_Subdivision": "Symbolic subdivision of a parent annotation. Annotations refering to the same parent are "
    "ordered",
    "Symbolic_Association": "1-1 association with a parent annotation",
    "Included_In": "Time alignable annotations within the parent annotation's time interval, gaps are allowed",
}
"""The four constraints that every file of ELAN declares, with ELAN's own descriptions."""


def recognise(document: Document) -> bool:
    """Return whether a file is XML with ELAN's root."""
    return document.xml is not None and document.xml.tag == "ANNOTATION_DOCUMENT"


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read the aligned annotations of all tiers that depend on no other; an empty text stands for the tier's name.

    Raises:
        AnnotationError: an annotation has no times, or the file has another form.
    """
    root, origin = document.xml, str(document.path)
    if root is None or root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{origin}: expected an ANNOTATION_DOCUMENT, which ELAN writes")
    header = root.find("HEADER")
    unit = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if unit not in UNITS:
        raise AnnotationError(f"{origin}: TIME_UNITS: got {quote(unit)}, expected one of {', '.join(UNITS)}")
    medium = None if header is None else header.find("MEDIA_DESCRIPTOR")
    shift = 0.0 if medium is None else finite_number(medium.get("TIME_ORIGIN", "0"), f"{origin}: TIME_ORIGIN") / MS
    times = {
        slot.get("TIME_SLOT_ID", ""): finite_number(slot.get("TIME_VALUE"), f"{origin}: TIME_VALUE") * UNITS[unit]
        for slot in root.findall("TIME_ORDER/TIME_SLOT")
        if slot.get("TIME_VALUE") is not None
    }
    scores = _read_scores(root, origin)
    segments, dependent = [], []
    for tier in root.findall("TIER"):
        if tier.get("PARENT_REF"):
            dependent += [tier.get("TIER_ID", "")] if not _is_scores(tier) else []
            continue
        for one in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
            where = f"{origin}: annotation {one.get('ANNOTATION_ID')}"
            bounds = [times.get(one.get(f"TIME_SLOT_REF{side}", "")) for side in (1, 2)]
            if bounds[0] is None or bounds[1] is None or bounds[1] < bounds[0]:
                raise AnnotationError(f"{where}: has no times, or ends before it begins; align it in ELAN")
            text = one.findtext("ANNOTATION_VALUE") or ""
            label = text if text.strip() else tier.get("TIER_ID", "")
            score = scores.get(one.get("ANNOTATION_ID", ""))
            segments.append(Segment(bounds[0] + shift, bounds[1] + shift, label, score))
    if dependent:
        options.note(f"{origin}: tiers that depend on others are left out: {', '.join(dependent)}")
    path = "" if medium is None else _path(medium)
    name = stem_of(path) or document.stem
    ordered = sorted(segments, key=lambda one: (one.start_s, one.end_s))
    return [VideoSegments(name, tuple(ordered), path, fps=options.rate(name))]


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return the file of a video (InputError: several videos)."""
    video = require_single(videos, "ELAN")
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "afsd",
            "DATE": DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    _add_medium(header, options.media_of(video))
    count = len(video.segments) + sum(one.score is not None for one in video.segments)
    SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(count)
    order = SubElement(root, "TIME_ORDER")
    ordered = video.in_time_order()
    bounds = [(round(max(one.start_s, 0) * MS), round(max(one.end_s, 0) * MS)) for one in ordered]
    bounds = [(start, max(end, start + 1)) for start, end in bounds]  # ELAN draws no annotation without length
    moments = sorted((moment, index, side) for index, pair in enumerate(bounds) for side, moment in enumerate(pair))
    slots: dict[tuple[int, int], str] = {}  # of each annotation its own, since ELAN moves all that share one
    for number, (moment, index, side) in enumerate(moments, 1):
        slots[index, side] = f"ts{number}"
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{number}", "TIME_VALUE": str(moment)})
    names: set[str] = set()
    next_id = 1
    for label, lane in _lanes(ordered, bounds):
        tier_name = take_name(xml_text(label) or "unnamed", names)
        tier = SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": ACTIONS, "TIER_ID": tier_name})
        below: list[tuple[str, float]] = []
        for index in lane:
            attributes = {
                "ANNOTATION_ID": f"a{next_id}",
                "TIME_SLOT_REF1": slots[index, 0],
                "TIME_SLOT_REF2": slots[index, 1],
            }
            holder = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", attributes)
            SubElement(holder, "ANNOTATION_VALUE").text = xml_text(label)
            score = ordered[index].score
            below += [] if score is None else [(f"a{next_id}", score)]
            next_id += 1
        if below:
            scores = take_name(f"{tier_name} score", names)
            attributes = {"LINGUISTIC_TYPE_REF": SCORES, "PARENT_REF": tier_name, "TIER_ID": scores}
            next_id = _add_scores(SubElement(root, "TIER", attributes), below, next_id)
    _add_types(root)
    return to_xml(root)


def _lanes(ordered: Sequence[Segment], bounds: Sequence[tuple[int, int]]) -> list[tuple[str, list[int]]]:
    """Return, for each class, lanes of segments that do not overlap, as indices; classes by name."""
    lanes: list[tuple[str, list[int]]] = []
    for label in sorted({one.label for one in ordered}):
        of_class: list[list[int]] = []
        for index, one in enumerate(ordered):
            if one.label != label:
                continue
            free = next((lane for lane in of_class if bounds[lane[-1]][1] <= bounds[index][0]), None)
            if free is None:
                of_class.append([index])
            else:
                free.append(index)
        lanes += [(label, lane) for lane in of_class]
    return lanes


def _add_medium(header: Element, media: str) -> None:
    """Add the video's path, absolute if it is known, and as the file's neighbour, where ELAN looks next."""
    path = Path(media)
    address = media if "://" in media else path.as_uri() if path.is_absolute() else f"file:///{media}"
    suffix = f".{file_name(media).rpartition('.')[2].lower()}"
    attributes = {
        "MEDIA_URL": xml_text(address),
        "MIME_TYPE": MIME_TYPES.get(suffix, "unknown"),
        "RELATIVE_MEDIA_URL": f"./{xml_text(file_name(media))}",
    }
    SubElement(header, "MEDIA_DESCRIPTOR", attributes)


def _path(medium: Element) -> str:
    """Return the path or address of the video of a file."""
    relative = medium.get("RELATIVE_MEDIA_URL")  # a path, whatever it is called
    return relative.removeprefix("file:").removeprefix("./") if relative else from_url(medium.get("MEDIA_URL", ""))


def _add_scores(tier: Element, below: Sequence[tuple[str, float]], next_id: int) -> int:
    """Add an annotation with the score below each of a class; return the next free number."""
    for above, score in below:
        attributes = {"ANNOTATION_ID": f"a{next_id}", "ANNOTATION_REF": above}
        holder = SubElement(SubElement(tier, "ANNOTATION"), "REF_ANNOTATION", attributes)
        SubElement(holder, "ANNOTATION_VALUE").text = repr(score)
        next_id += 1
    return next_id


def _add_types(root: Element) -> None:
    """Add the types of the tiers and the constraints."""
    common = {"GRAPHIC_REFERENCES": "false"}
    SubElement(root, "LINGUISTIC_TYPE", common | {"LINGUISTIC_TYPE_ID": ACTIONS, "TIME_ALIGNABLE": "true"})
    scores = {"CONSTRAINTS": "Symbolic_Association", "LINGUISTIC_TYPE_ID": SCORES, "TIME_ALIGNABLE": "false"}
    SubElement(root, "LINGUISTIC_TYPE", common | scores)
    for name, description in CONSTRAINTS.items():
        SubElement(root, "CONSTRAINT", {"DESCRIPTION": description, "STEREOTYPE": name})


def _is_scores(tier: Element) -> bool:
    return tier.get("LINGUISTIC_TYPE_REF") == SCORES


def _read_scores(root: ElementTree.Element, origin: str) -> Mapping[str, float]:
    """Return the scores of annotations by their identifiers."""
    return {
        one.get("ANNOTATION_REF", ""): finite_number(one.findtext("ANNOTATION_VALUE"), f"{origin}: score")
        for tier in root.findall("TIER")
        if _is_scores(tier)
        for one in tier.findall("ANNOTATION/REF_ANNOTATION")
    }
