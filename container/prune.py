"""Take out of a virtual environment what no serving process opens: ``python prune.py /venv``.

Each cut names its reason. What is imported, and every licence, stays. tests/container runs the main job afterwards,
with DICOM in each compression, so a cut that goes too far is found.
"""

import filecmp
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = {"en", "en_GB", "de"}  # portal.settings.base.LANGUAGES; English is what other texts fall back to
# botocore describes 400 services of Amazon; pictures need S3, and a role's credentials need these others.
AMAZON = {"s3", "sts", "sso", "sso-oidc"}
# The smallest pair of equal files worth a link, in bytes.
WORTH_A_LINK = 10_000


def unused(packages: Path) -> Iterator[tuple[str, Path]]:
    """Yield a reason and a path for everything to be deleted."""
    for name in ("pip", "setuptools", "pkg_resources", "_distutils_hack"):
        yield "installers", packages / name
    for pattern in ("pip-*.dist-info", "setuptools-*.dist-info", "distutils-precedence.pth"):
        for path in packages.glob(pattern):
            yield "installers", path
    for path in packages.rglob("tests"):
        # numpy.testing, which scipy imports, takes one module from there.
        if path.is_dir() and path != packages / "numpy/_core/tests":
            yield "tests of packages", path
    for path in (packages / "numpy/_core/tests").glob("*"):
        if path.name not in ("__init__.py", "_natype.py"):
            yield "tests of packages", path
    for locale in packages.rglob("locale"):
        for path in locale.iterdir():
            if (path / "LC_MESSAGES").is_dir() and path.name not in LANGUAGES:
                yield "languages that the portal does not speak", path
    for suffix in ("po", "pyi", "pyx", "pxd", "h", "hpp", "c", "cpp", "a"):
        for path in packages.rglob(f"*.{suffix}"):
            yield "sources and type hints", path
    for path in (packages / "botocore/data").iterdir():
        if path.is_dir() and path.name not in AMAZON:
            yield "services of Amazon that the portal does not use", path
    litert = packages / "ai_edge_litert"
    for path in (litert / "libLiteRtWebGpuAccelerator.so", litert / "vendors", litert / "tools", litert / "aot"):
        yield "LiteRT's compilers and graphics cards; the portal runs on processors", path
    for path in (packages / "_gdcm").iterdir():
        if path.name in ("XML", "pkgconfig", "scripts") or (path.name.startswith("gdcm") and not path.suffix):
            yield "GDCM's command line programs", path


def share_equal_files(folder: Path) -> int:
    """Replace copies of one file by links to it (wheels hold no links); return the bytes saved."""
    saved = 0
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size >= WORTH_A_LINK:
            by_size[path.stat().st_size].append(path)
    for size, paths in by_size.items():
        kept: list[Path] = []
        for path in paths:
            original = next((one for one in kept if filecmp.cmp(one, path, shallow=False)), None)
            if original is None:
                kept.append(path)
                continue
            path.unlink()
            path.symlink_to(os.path.relpath(original, path.parent))
            saved += size
    return saved


def size_of(path: Path) -> int:
    """Return the bytes of a file or folder, links not followed."""
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(inner.lstat().st_size for inner in path.rglob("*") if inner.is_symlink() or inner.is_file())


def main(root: Path) -> None:
    """Prune one environment and say what each reason saved."""
    (packages,) = root.glob("lib/python3.*/site-packages")
    before = size_of(root)
    saved: dict[str, int] = defaultdict(int)
    for reason, path in list(unused(packages)):
        if not path.exists():
            continue
        saved[reason] += size_of(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for program in (root / "bin").glob("pip*"):
        program.unlink()
    saved["copies of the same library"] = share_equal_files(packages)
    for reason, size in sorted(saved.items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{size / 1e6:7.1f} MB  {reason}\n")
    sys.stdout.write(f"{before / 1e6:7.1f} MB before, {size_of(root) / 1e6:.1f} MB after\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
