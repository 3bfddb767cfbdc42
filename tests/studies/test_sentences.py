"""What was written in English is read in another language, whatever it was filled in with."""

import ast
import inspect
import re
from types import ModuleType

import pytest
from django.utils import translation

import ml.dicom
import ml.images
from ml.errors import ImageError
from studies.imports import archives, manifest, sorting, steps
from studies.sentences import KINDS, OF_FILES, _pattern, in_the_readers_language

# The developers' own: caught at once, where a damaged file is told about.
NOT_FOR_PEOPLE = {"The stream names no size."}


def sentences_of(module: ModuleType) -> list[str]:
    """Every full sentence that is written in a module's code, each value that is filled in as a 7."""
    tree = ast.parse(inspect.getsource(module))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    said = []
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=parts):
                text = "".join(_text_of(part, module=module) for part in parts)
            case ast.Constant(value=str(text)) if id(node) not in inside:
                pass
            case _:
                continue
        said.append(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            said = [text for text in said if text != ast.get_docstring(node, clean=False)]
    return [text for text in said if re.fullmatch(r"[A-Z][^\n]+ [^\n]+\. [^\n]+\.", text)]


def _text_of(part: ast.expr, *, module: ModuleType) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = ast.unparse(part)[2:-1].strip("{}'\"")
    value = getattr(module, name, None)
    return value if isinstance(value, str) else "7"


@pytest.mark.parametrize("module", [ml.images, ml.dicom])
def test_every_sentence_with_which_a_file_is_refused_is_known(module: ModuleType) -> None:
    said = [text for text in sentences_of(module) if text not in NOT_FOR_PEOPLE]
    assert len(said) > 8
    patterns = [_pattern(template.replace("JPEG file", "%(kind)s file")) for template in OF_FILES]
    assert [text for text in said if not any(pattern.fullmatch(text) for pattern in patterns)] == []


@pytest.mark.parametrize(
    "template",
    [*OF_FILES, *archives.SENTENCES, *manifest.SENTENCES, *sorting.SENTENCES, *steps.SENTENCES],
)
def test_each_is_said_in_german_whatever_it_was_filled_in_with(template: str) -> None:
    english = re.sub(r"%\(\w+\)s", "Xyz", re.sub(r"%\(\w+\)d", "7", template))
    with translation.override("de"):
        german = in_the_readers_language(english)
    assert german != english
    assert "%(" not in german
    assert german.count("7") == english.count("7")
    assert german.count("Xyz") == english.count("Xyz")


def test_every_kind_of_wrong_file_has_its_german_name() -> None:
    assert {kind for _, kind in ml.images._OTHER_KINDS} < set(KINDS)
    with translation.override("de"):
        said = {in_the_readers_language(ml.images._name_the_kind(magic + b" " * 20)) for magic in (b"%PDF", b"GIF8")}
    assert said == {
        "Dies ist ein PDF-Dokument und kann nicht als CT-Schicht gelesen werden. Bitte laden Sie die Schicht als PNG, "
        "JPEG oder DICOM hoch.",
        "Dies ist ein GIF-Bild und kann nicht als CT-Schicht gelesen werden. Bitte laden Sie die Schicht als PNG, JPEG "
        "oder DICOM hoch.",
    }


def test_what_is_wrong_with_a_line_of_a_manifest_is_listed_in_german() -> None:
    (row,) = manifest.read_manifest(b"file,record number,birth date\na.png,,yesterday\n")
    assert row.refusal == (
        "Line 2 of the manifest is wrong: the record number is missing, and the birth date is not written as "
        "year-month-day, such as 1957-04-05. Please correct it and send the file again."
    )
    with translation.override("de"):
        assert in_the_readers_language(row.refusal) == (
            "Zeile 2 des Manifests ist falsch: die Aktennummer fehlt und das Geburtsdatum ist nicht als "
            "Jahr-Monat-Tag geschrieben, etwa 1957-04-05. Bitte berichtigen Sie sie und senden Sie die Datei noch "
            "einmal."
        )


def test_several_on_one_line_are_each_translated_and_an_unknown_one_stays() -> None:
    line = f"{archives.DAMAGED} Nobody has translated this. {steps.SURPRISE}"
    with translation.override("de"):
        said = in_the_readers_language(line)
        assert said == (
            f"{in_the_readers_language(archives.DAMAGED)} Nobody has translated this. "
            f"{in_the_readers_language(steps.SURPRISE)}"
        )


@pytest.mark.parametrize("odd", ["", " ", "%", "%(name)s", "100 % {x}", ". . .", "The archive holds x files", "Ü\n?"])
def test_what_nobody_wrote_stays_as_it_is(odd: str) -> None:
    for language in ("de", "en-gb"):
        with translation.override(language):
            assert in_the_readers_language(odd) == odd


def test_english_readers_get_the_very_same_words() -> None:
    with pytest.raises(ImageError) as refused:
        ml.images.read_slice(b"")
    with translation.override("en-gb"):
        assert in_the_readers_language(str(refused.value)) == str(refused.value)


def test_what_a_worker_stores_is_english_whatever_language_is_active() -> None:
    with translation.override("de"), pytest.raises(manifest.ManifestError) as refused:
        manifest.read_manifest(b"")
    assert str(refused.value) == "The manifest is empty. Please fill it in, or leave it out."
