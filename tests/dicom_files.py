"""DICOM files made for tests: a small axial CT slice, and everything that is not one."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

GREY = np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (80, 1))


def dicom(
    *, pixels: NDArray[Any] | None = None, compress: str = "", syntax: str = "", is_bare: bool = False, **changes: Any
) -> bytes:
    """Return the bytes of an axial CT slice of 96 x 80 pixels.

    ``pixels`` are stored values uint16 or int16 (H,W); ``compress`` the UID of the syntax to pack them in (JPEG
    lossless, JPEG-LS, JPEG 2000, run lengths); ``syntax`` one that is only claimed; ``is_bare`` leaves preamble and
    header out. Every other name is an element to set, or to leave out where it is None.
    """
    values = GREY.astype(np.uint16) * 8 if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["slice"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(np.issubdtype(values.dtype, np.signedinteger))
    if dataset.PixelRepresentation:
        dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelSpacing = [0.7, 0.8]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in changes.items():
        if value is None and name in dataset:
            delattr(dataset, name)
        elif value is not None:
            setattr(dataset, name, value)
    if compress == JPEG_LOSSLESS:
        return _jpeg_lossless(_written(dataset))
    if compress:
        dataset.compress(compress, generate_instance_uid=False)
    if syntax:
        dataset.file_meta.TransferSyntaxUID = syntax
    if is_bare:
        stream = io.BytesIO()
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(stream, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return stream.getvalue()
    return _written(dataset)


JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def _written(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _jpeg_lossless(plain: bytes) -> bytes:
    """Pack a plain file as JPEG lossless, which pydicom cannot write and GDCM can, from file to file."""
    import tempfile
    from pathlib import Path

    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plain", Path(folder) / "packed"
        source.write_bytes(plain)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()
