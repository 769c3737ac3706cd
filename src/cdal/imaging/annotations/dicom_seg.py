"""Writing masks as DICOM-SEG with highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes

from cdal.imaging.formats.dicom import Source
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing
from cdal.runtime.version import __version__


def write_segmentation(
    path: Path, label: np.ndarray, like: Image, names: Sequence[str], algorithm: str
) -> None:
    """Write classes `[*S]` as a DICOM-SEG that refers to its source images.

    Args:
        path: path of the file.
        label: classes `[*S]`.
        like: image returned by `read_series`.
        names: names of the classes, the background first.
        algorithm: name of the algorithm that made the segmentation.

    Raises:
        UserError: the image did not come from DICOM, lacks attributes that a segmentation requires,
            or the file cannot be written.
    """
    source = like.header
    if not isinstance(source, Source):
        raise UserError(
            f"{path}: a DICOM segmentation refers to DICOM images; this image is not DICOM."
        )
    method = hd.AlgorithmIdentificationSequence(
        name=algorithm[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=method,
        )
        for k, name in enumerate(names[1:], start=1)
    ]
    label = label.astype(np.uint8)
    pixels = label[None] if source.volume is None else source.volume.with_array(label)
    try:
        with warnings.catch_warnings():
            # highdicom warns about empty masks; it writes them with all frames.
            warnings.simplefilter("ignore")
            segmentation = hd.seg.Segmentation(
                source_images=source.datasets,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=hd.UID(),
                series_number=9000,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="cDAL",
                manufacturer_model_name="cDAL",
                software_versions=__version__,
                device_serial_number="0",
                series_description=f"cDAL {algorithm}"[:64],
            )
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no DICOM segmentation can be made from this series: {error}. Convert it to "
            "NIfTI, and segment that."
        ) from error
    with replacing(path) as temporary:
        segmentation.save_as(temporary)
