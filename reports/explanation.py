"""The patient's page: what a signed report, or an automatic one, means in plain words.

Made from the frozen content alone. Rules of this text: short sentences; no probability without saying what it is not
and how often the software errs; nothing that the doctor did not sign is told as a fact about the patient.
"""

from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from reports.content import AnalysisPart, FindingPart, ReportContent, SlicePart, class_label
from reports.glossary import Entry, entries_in
from studies.model_card import Figure, ModelPart


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One of a hundred pictures in a drawing; ``kind`` is counted, possible (within the interval) or other."""

    x: int
    y: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something happened in a test, as so many of 100, to be drawn as a hundred dots.

    ``low`` and ``high`` are the ends of the 95 % interval, None where it is not known; all lie in 0..100.
    """

    title: str
    count: int
    low: int | None
    high: int | None
    possible_label: str

    DOTS_A_ROW = 20
    STEP = 12

    @property
    def dots(self) -> tuple[Dot, ...]:
        """A hundred dots, the counted ones first, then those that the interval leaves open."""
        upper = self.count if self.high is None else max(self.count, self.high)
        kinds = ["counted"] * self.count + ["possible"] * (upper - self.count) + ["other"] * (100 - upper)
        half = self.STEP // 2
        return tuple(
            Dot(x=half + self.STEP * (n % self.DOTS_A_ROW), y=half + self.STEP * (n // self.DOTS_A_ROW), kind=kind)
            for n, kind in enumerate(kinds)
        )


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The parts of the page, each a few paragraphs; ``terms`` are the difficult words that occur in this report,
    ``rates`` the figures of ``certainty`` that can be drawn.
    """

    looked_at: tuple[str, ...]
    found: tuple[str, ...]
    certainty: tuple[str, ...]
    next_steps: tuple[str, ...]
    terms: tuple[Entry, ...]
    rates: tuple[Rate, ...] = ()


def explain(content: ReportContent) -> Explanation:
    """Return the explanation of a frozen content; one without a signature is an automatic report, and told as such."""
    return Explanation(
        looked_at=_looked_at(content),
        found=_found(content),
        certainty=_certainty(content),
        next_steps=_next_steps(content),
        terms=_terms(content),
        rates=tuple(rate for model in content.models for rate in _rates(model)),
    )


def _looked_at(content: ReportContent) -> tuple[str, ...]:
    count = len(content.slices)
    pictures = ngettext(
        "One picture of a CT of your chest, taken on %(date)s.",
        "%(count)d pictures of a CT of your chest, taken on %(date)s.",
        count,
    ) % {"count": count, "date": date_format(content.study.study_date, "j F Y")}
    sentences = [
        pictures,
        _(
            "Each one is a cross-section through the body, like one slice of a loaf of bread. The rest of the chest is "
            "not on these pictures."
        ),
    ]
    if content.study.is_synthetic:
        sentences.append(_("These pictures are synthetic: a computer made them, and they show no real person."))
    return (" ".join(sentences),)


def _found(content: ReportContent) -> tuple[str, ...]:
    if content.signature is None:
        paragraphs = [
            _(
                "No doctor has looked at this picture. What follows is what a computer program marked on it, and "
                "nobody has checked it."
            )
        ]
    else:
        paragraphs = [
            _(
                "%(name)s looked at the pictures and wrote the report on this page. The doctor's words count. What "
                "follows is what the computer marked before the doctor looked."
            )
            % {"name": content.signature.name}
        ]
    regions = [(finding, slice_) for slice_ in content.slices for finding in _findings(slice_)]
    if not regions:
        paragraphs.append(
            _(
                "The computer marked nothing. That is good to know, but it is no proof that everything is fine: it can "
                "miss small or faint spots."
            )
        )
        return tuple(paragraphs)
    marked = ngettext("The computer marked %(count)d place.", "The computer marked %(count)d places.", len(regions)) % {
        "count": len(regions)
    }
    lengths_mm = [finding.long_axis_mm for finding, _slice in regions if finding.long_axis_mm is not None]
    if len(lengths_mm) == len(regions):
        marked += " " + _size_sentence(max(lengths_mm), is_only=len(regions) == 1)
    elif lengths_mm:
        # The largest place may be one of those whose size is unknown, so none is called the largest.
        marked += " " + _("How large all of them are in millimetres cannot be told from these pictures.")
    else:
        marked += " " + _("How large it is in millimetres cannot be told from this kind of picture.")
    paragraphs.append(marked)
    paragraphs.append(
        _(
            "A marked place is a place the doctor should look at. It can be a tumour, but also a scar, an inflammation "
            "or a blood vessel. A picture alone often cannot tell which."
        )
    )
    return tuple(paragraphs)


def _findings(slice_: SlicePart) -> tuple[FindingPart, ...]:
    return slice_.findings


def _size_sentence(longest_mm: float, *, is_only: bool) -> str:
    things = (
        (5, _("a grain of rice")),
        (10, _("a pea")),
        (18, _("a hazelnut")),
        (28, _("a grape")),
        (45, _("a walnut")),
        (75, _("a lime")),
    )
    thing = next((thing for limit_mm, thing in things if longest_mm < limit_mm), None)
    values = {"size": round(longest_mm), "thing": thing}
    if thing is None:
        sentence = _("It is about %(size)d mm long.") if is_only else _("The largest is about %(size)d mm long.")
    elif is_only:
        sentence = _("It is about %(size)d mm long, roughly like %(thing)s.")
    else:
        sentence = _("The largest is about %(size)d mm long, roughly like %(thing)s.")
    return sentence % values


def _certainty(content: ReportContent) -> tuple[str, ...]:
    answers = [slice_.analysis for slice_ in content.analysed_slices if slice_.analysis is not None]
    if not answers:
        return (_("No computer estimate stands behind this report."),)
    answer = max(answers, key=lambda analysis: analysis.malignant_probability)
    paragraphs = [_estimate(answer)]
    for model in content.models:
        paragraphs += _track_record(model)
    paragraphs.append(
        _(
            "So the computer's answer is a hint, not a diagnosis. A doctor also knows your history, your complaints "
            "and other test results, which the computer does not."
        )
    )
    return tuple(paragraphs)


def _estimate(answer: AnalysisPart) -> str:
    in_hundred = min(99, max(1, round(answer.malignant_probability * 100)))
    threshold = answer.thresholds.get("malignant", 0.5)
    if answer.malignant_probability >= threshold:
        meaning = _("That is on the side where a doctor should look closely.")
    else:
        meaning = _("That is on the side where nothing stood out to the computer.")
    text = _(
        "The computer gives points from 0 to 100 for how much a picture resembles pictures with cancer. Yours got "
        "about %(points)d points. %(meaning)s These points are not your chance of having cancer."
    ) % {"points": in_hundred, "meaning": meaning}
    ranked = answer.ranked_probabilities
    if len(ranked) > 1 and ranked[0][0] != class_label("normal"):
        text += " " + _(
            "It also names the kind of tissue it is most reminded of: %(label)s. Telling such kinds apart from a "
            "picture is hard for computers and people alike; only a tissue sample can."
        ) % {"label": ranked[0][0]}
    return text


def _track_record(model: ModelPart) -> list[str]:
    sentences = []
    if (accuracy := model.accuracy) is not None:
        right = min(99, max(1, round(accuracy.value * 100)))
        sentence = _(
            "How often is it wrong? In a test with pictures whose answer was known, it named the right kind of picture "
            "in %(right)d of 100 and was wrong in %(wrong)d."
        ) % {"right": right, "wrong": 100 - right}
        if accuracy.low is not None and accuracy.high is not None:
            sentence += " " + _("With other pictures it might have been between %(low)d and %(high)d right.") % {
                "low": round(accuracy.low * 100),
                "high": round(accuracy.high * 100),
            }
        sentences.append(sentence)
    if (sensitivity := model.lesion_sensitivity) is not None:
        sentences.append(_missed(sensitivity))
    if (false_positives := model.false_positives) is not None:
        sentences.append(_marked_by_mistake(false_positives))
    if not sentences:
        sentences.append(
            _(
                "How often this version of the computer program is wrong is not known here. Take its answer as a "
                "hint only."
            )
        )
    return sentences


def _rates(model: ModelPart) -> list[Rate]:
    shares = (
        (model.accuracy, _("Of 100 test pictures it named the wrong kind in")),
        (model.lesion_sensitivity, _("Of 100 tumours on test pictures it missed")),
    )
    return [
        Rate(
            title=title,
            count=_in_hundred(1 - figure.value),
            low=_in_hundred(1 - figure.high) if figure.high is not None else None,
            high=_in_hundred(1 - figure.low) if figure.low is not None else None,
            possible_label=_("with other pictures it might have been these too"),
        )
        for figure, title in shares
        if figure is not None
    ]


def _in_hundred(share: float) -> int:
    return min(100, max(0, round(share * 100)))


def _missed(sensitivity: Figure) -> str:
    missed = min(99, max(1, round((1 - sensitivity.value) * 100)))
    text = _("Of 100 tumours on test pictures it missed about %(missed)d.") % {"missed": missed}
    if sensitivity.low is not None and sensitivity.high is not None:
        text += " " + _between(1 - sensitivity.high, 1 - sensitivity.low)
    return text


def _between(low: float, high: float) -> str:
    return _("With other pictures it might have been between %(low)d and %(high)d.") % {
        "low": round(low * 100),
        "high": round(high * 100),
    }


def _marked_by_mistake(false_positives: Figure) -> str:
    in_hundred = round(false_positives.value * 100)
    if in_hundred < 1:
        return _("On test pictures without a tumour it hardly ever marked a place.")
    text = _("On 100 test pictures without a tumour it marked about %(count)d places by mistake.") % {
        "count": in_hundred
    }
    if false_positives.low is not None and false_positives.high is not None:
        text += " " + _between(false_positives.low, false_positives.high)
    return text


def _next_steps(content: ReportContent) -> tuple[str, ...]:
    if content.signature is None:
        return (
            _("Show this to a doctor before you decide anything. You can hand the picture over to a hospital here."),
            _("Nothing marked is no all-clear. If you have complaints, see a doctor whatever the computer says."),
            _("Something marked is no reason to panic: computers mark many harmless places."),
            _emergency(),
        )
    steps = [
        _("Talk about this report with the doctor who sent you to the CT. They decide with you what comes next."),
        _("Write down your questions and take this page, or its PDF, with you."),
    ]
    if content.hospital.phone:
        steps.append(
            _("Questions about the examination itself are answered by %(hospital)s, telephone %(phone)s.")
            % {"hospital": content.hospital.name, "phone": content.hospital.phone}
        )
    steps.append(_emergency())
    return tuple(steps)


def _emergency() -> str:
    return _(
        "Do not wait for an appointment if you cough up blood, have trouble breathing or strong chest pain: call the "
        "emergency number at once."
    )


def _terms(content: ReportContent) -> tuple[Entry, ...]:
    names = " ".join(class_label(name) for name in content.class_names)
    return entries_in(" ".join((content.findings_text, content.impression, content.study.clinical_question, names)))
