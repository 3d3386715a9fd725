"""The page as text: what stands in it, and what must not."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from benchmark_results import CASES, HIPPOCAMPUS, LESIONS, TRAINERS, benchmark_results, chosen_rule, in_unit, with_rules
from PIL import Image
from plotly.offline import get_plotlyjs

from nnunet_rw.benchmark.report.answer import answers
from nnunet_rw.benchmark.report.figures import COLOURS, DARK
from nnunet_rw.benchmark.report.leaderboard import leaderboard_table
from nnunet_rw.benchmark.report.methods import methods_text
from nnunet_rw.benchmark.report.page import embed_picture, html_report, write_html_report
from nnunet_rw.benchmark.results import Unfinished
from nnunet_rw.datasets.msd import published_sentence
from nnunet_rw.evaluation.comparison.tables import comparison_tables

VOID = {"meta", "img", "path", "link", "br", "input", "wbr"}


class Outline(HTMLParser):
    """Tags with their attributes, texts of headings, and whether every tag is closed by its own end."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.open, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and re.fullmatch(r"h[1-6]", self.open[-1]):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8").replace(get_plotlyjs(), "")


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


def shown(text):
    return " ".join(" ".join(Outline(text).texts).split())


def figures(text):
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)

    def refuse(constant):
        raise AssertionError(constant)

    return [json.loads(script, parse_constant=refuse) for script in scripts]


def contrast(first, second):
    """Of two colours #rrggbb, as WCAG 2 has it."""
    light = []
    for colour in (first, second):
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_plotly_is_there_once(page):
    assert page.read_text(encoding="utf-8").count(get_plotlyjs()) == 1


def test_cases_are_not_named(page, text):
    whole = page.read_bytes()
    assert not [case for case in CASES if re.search(rf"\b{case}\b".encode(), whole)]
    assert "case 12" in text
    assert "evaluate/Task11_MSLesion/RWTrainer/seed1: failed" in text
    assert "No maps" not in text


def test_cases_are_named_on_request(results, tmp_path):
    failed = replace(results, unfinished=(Unfinished("train/x", "failed", "No maps for case 'case_3'"),))
    text = write_html_report(failed, tmp_path / "report.html", show_case_ids=True).read_text(encoding="utf-8")
    # A line may break behind "_".
    assert all(f'<th scope="row">{case}</th>' in text.replace("<wbr>", "") for case in CASES)
    assert "No maps for case &#39;case_3&#39;" in text
    hovers = [point for figure in figures(text) for trace in figure["data"] for point in trace.get("text") or []]
    assert any(hover.startswith("case_3<br>") for hover in hovers)


def test_answer(text):
    words = shown(text)
    # The third trainer finds 28 of 33; its price are two false positives per case instead of one in twelve.
    found = (
        "RWTrainer_IWDiceCE found more lesions than nnUNetTrainer, 28 instead of 17 of 33 (84.8 % instead of 51.5 %)"
    )
    assert f"{found}, at the price of 1.92 more false positives per case (2.00 instead of 0.08)." in words
    assert "RWTrainer found as many lesions as nnUNetTrainer, 12 of 12, with no difference shown in false" in words
    assert (
        "At no threshold RWTrainer_IWDiceCE keeps within the 0.08 false positives per case that nnUNetTrainer" in words
    )


def test_answer_at_equal_false_positives(tmp_path):
    words = shown(html_report(benchmark_results(tmp_path, trainers=TRAINERS[:2])).replace(get_plotlyjs(), ""))
    found = (
        "With no more than the 0.08 false positives per case that nnUNetTrainer has, at a threshold of 0.4 that was "
        "chosen on these same cases, RWTrainer"
    )
    assert f"{found} finds 75.0 % instead of 51.5 %." in words


def test_answer_with_a_rule_that_was_chosen_out_of_fold(results):
    (answer,) = answers(with_rules(results.tasks[1], chosen_rule("RWTrainer_IWDiceCE"), chosen_rule("RWTrainer")))
    assert (
        "With a rule chosen for no more than the 1.00 false positives per case that nnUNetTrainer has (above 0.6, peak "
        "above 0.95, from 12 mm3) and measured out of fold with one-to-one matching, RWTrainer_IWDiceCE finds 62.5 % "
        "instead of 50.0 %, +12.5 [+6.2, +25.0] points, with 0.88 false positives per case; as segmented it finds "
        "75.0 % with 2.00."
    ) in answer.details
    # Not what was chosen on the same cases beside it.
    assert "same cases" not in answer.details


def test_answer_beside_the_baseline_by_its_own_rule(results):
    """The baseline at its best is what a trainer is told beside, in the unit of its sizes."""
    row = chosen_rule("RWTrainer_IWDiceCE", recall_gain=0.025, recall_gain_low=-0.05, recall_gain_high=0.125)
    half = {"half_false_positives": 1.0, "half_recall": 0.5}
    own = chosen_rule("nnUNetTrainer", min_volume_mm3=5.0, false_positives=0.9, recall=0.6, **half)
    task = in_unit(results.tasks[1], "pixels")
    (answer,) = answers(with_rules(task, own, row))
    assert (
        "With rules chosen for no more than the 1.00 false positives per case that nnUNetTrainer has (above 0.6, peak "
        "above 0.95, from 12 pixels; of nnUNetTrainer above 0.6, peak above 0.95, from 5 pixels) and measured out of "
        "fold with one-to-one matching, RWTrainer_IWDiceCE finds 62.5 % instead of 60.0 %, +2.5 [-5.0, +12.5] points, "
        "with 0.88 instead of 0.90 false positives per case; as segmented it finds 75.0 % with 2.00, "
        "nnUNetTrainer 50.0 %."
    ) in answer.details
    # As it was segmented it finds more than by its rule.
    (answer,) = answers(with_rules(task, replace(own, recall=0.45), row))
    assert "finds 62.5 % instead of 50.0 %, +12.5 [+6.2, +25.0] points" in answer.details


def test_answer_without_a_rule(results):
    (answer,) = answers(with_rules(results.tasks[1], chosen_rule("RWTrainer_IWDiceCE", family="")))
    assert "no rule of RWTrainer_IWDiceCE keeps within the 1.00 false positives per case" in answer.details


def test_six_columns_are_shown_and_others_can_be_switched_on(text):
    boxes = re.findall(r'<input type="checkbox" value="([^"]*)"( checked)?>', text)
    # The first task has no small lesions and no FROC.
    others = ["F1", "FP per case", "against the baseline"]
    assert [name for name, checked in boxes if checked] == [
        *("Dice", "lesion recall", *others),
        *("Dice", "lesion recall", "small lesion recall", *others),
    ]
    assert [name for name, _ in boxes].count("FROC average") == 1
    assert not {"trainer", "label"} & {name for name, _ in boxes}


def test_cells_are_sorted_by_their_numbers(results):
    epochs = tuple(replace(epoch, seconds=900.0) for epoch in results.tasks[0].runs[0].record.epochs)
    first, *runs = results.tasks[0].runs
    slow = replace(results.tasks[0], runs=(replace(first, record=replace(first.record, epochs=epochs)), *runs))
    text = html_report(replace(results, tasks=(slow,)))
    # Of trainings of 2700, 34, 34 and 34 s the median.
    assert '<td data-value="34">34 s</td>' in text
    alone = replace(slow, runs=(slow.runs[0],))
    assert '<td data-value="2700">45.0 min</td>' in html_report(replace(results, tasks=(alone,)))


def test_other_numbers_of_seeds_are_told_above(results):
    specification = results.specification.model_copy(update={"seeds": 1, "seeds_of": {"nnUNetTrainer": 3}})
    text = html_report(replace(results, specification=specification))
    assert "2 folds · 1 seed (nnUNetTrainer 3) · 3d_fullres" in text


def uncompared(task, *trainers, seeds=(0, 1)):
    """The task of which these trainers and seeds alone are evaluated."""
    evaluations = {
        trainer: {seed: found for seed, found in task.evaluations[trainer].items() if seed in seeds}
        for trainer in trainers
    }
    return replace(task, comparison=None, evaluations=evaluations)


def test_answer_without_comparison(results):
    alone = uncompared(results.tasks[1], "RWTrainer")
    words = shown(html_report(replace(results, tasks=(alone,))).replace(get_plotlyjs(), ""))
    assert (
        "RWTrainer found 24 of 33 lesions (72.7 % with each of 2 seeds), with 0.00 false positives per case. Nothing "
        "is compared: the baseline, nnUNetTrainer, is not evaluated yet." in words
    )


def test_why_nothing_is_compared(results):
    task = results.tasks[1]
    baseline, first, second = TRAINERS

    def why(task):
        (sentence,) = [answer.sentence for answer in answers(task)]
        told, reason = sentence.split(" Nothing is compared: ")
        assert f"Trainers were not compared: {reason}" in methods_text(replace(results, tasks=(task,)))
        return told, reason

    others, reason = why(uncompared(task, first, second))
    # 24 and 28 of 33 lesions.
    assert others.startswith(f"{first} found 24 of 33 lesions (72.7 % ")
    assert f"; {second} found 28 of 33 lesions (84.8 %), with 2.00 false" in others
    assert reason == f"the baseline, {baseline}, is not evaluated yet."
    assert why(uncompared(task, baseline))[1] == f"no trainer but the baseline, {baseline}, is evaluated yet."
    lone = replace(uncompared(task, baseline), runs=tuple(run for run in task.runs if run.trainer == baseline))
    assert why(lone)[1] == "the benchmark has one trainer."
    late = uncompared(task, baseline, first, seeds=(1,))
    assert why(late)[1] == f"seed 0 of {baseline} is not evaluated yet."


def test_all_seeds_of_a_trainer_alone_are_told(results):
    task = uncompared(results.tasks[1], "nnUNetTrainer")
    first, second = task.evaluations["nnUNetTrainer"].values()
    hit = second.lesions.hit.copy()
    hit[:] = 0
    columns = {label: {**of, "n_hit": 0 * of["n_hit"]} for label, of in second.columns.items()}
    second = replace(second, lesions=replace(second.lesions, hit=hit), columns=columns)
    task = replace(task, evaluations={"nnUNetTrainer": {0: first, 1: second}})
    # 17 and none of 33.
    assert answers(task)[0].sentence.startswith(
        "nnUNetTrainer found 8.5 of 33 lesions (25.8 %, of 2 seeds 0.0 % to 51.5 %), with "
    )


def test_published_figures_stand_beside_a_task_of_the_decathlon_alone(results):
    task = replace(results.tasks[0], dataset="Dataset004_Hippocampus")
    words = shown(html_report(replace(results, tasks=(task,))).replace(get_plotlyjs(), ""))
    assert words.count(published_sentence("Dataset004_Hippocampus")) == 1
    other = replace(task, dataset="Dataset904_Hippocampus")
    assert "Published for" not in html_report(replace(results, tasks=(other,))).replace(get_plotlyjs(), "")


def changed(task, metric="lesion_recall", tested=None, trainers=TRAINERS, **sizes):
    """The task whose rows of lesions, and of a metric, are changed, with these trainers alone."""
    comparison = replace(
        task.comparison,
        challengers=trainers[1:],
        sizes=tuple(replace(row, **sizes) for row in task.comparison.sizes if row.challenger in trainers),
        metrics=tuple(
            replace(row, **(tested or {})) if row.metric == metric else row for row in task.comparison.metrics
        ),
    )
    return replace(task, comparison=comparison)


def headline(task, **changes):
    """The sentence on the second task, whose rows of all lesions and of recall are changed."""
    sizes = {name: value for name, value in changes.items() if name.startswith("simultaneous")}
    tested = {name: value for name, value in changes.items() if name not in sizes}
    (answer,) = answers(changed(task, tested=tested, **sizes))
    return answer.sentence


def test_labels_go_by_their_names(results):
    texts = {"1": "anterior (1)", "2": "posterior (2)"}
    task = results.tasks[0]
    named = replace(
        task,
        evaluations={
            trainer: {seed: replace(found, label_texts=texts) for seed, found in seeds.items()}
            for trainer, seeds in task.evaluations.items()
        },
    )
    assert [answer.label for answer in answers(named)] == list(texts.values())
    assert {row["label"] for row in leaderboard_table(named).records} == set(texts.values())
    tables = comparison_tables(replace(task.comparison, label_texts=texts))
    assert {row["label"] for row in tables[0].records} == set(texts.values())
    assert "anterior (1)</option>" in html_report(replace(results, tasks=(named,)))


def test_answer_needs_the_adjusted_test_and_the_interval_for_all(results):
    task = results.tasks[1]
    more, not_shown = "RWTrainer_IWDiceCE found more lesions", "No trainer was shown to find more lesions than"
    assert headline(task).startswith(more)
    # Not adjusted, interval and test still say so.
    assert headline(task, verdict="no difference shown", p_holm=0.2).startswith(not_shown)
    assert headline(task, simultaneous_low=-0.01).startswith(not_shown)
    assert "adjusted for all that was tried, no difference is shown" in headline(task, simultaneous_low=-0.01)
    assert "fewer" not in headline(task, verdict="worse")
    worse = headline(task, verdict="worse", simultaneous_low=-0.2, simultaneous_high=-0.1)
    assert worse.startswith("All others found fewer lesions than nnUNetTrainer; the best of them, RWTrainer_IWDiceCE")


def test_answer_about_fewer_lesions(results):
    task, fewer = results.tasks[1], {"simultaneous_low": -0.2, "simultaneous_high": -0.1}
    (answer,) = answers(changed(task, tested={"verdict": "worse"}, trainers=TRAINERS[:2], **fewer))
    assert answer.sentence.startswith("RWTrainer found fewer lesions than nnUNetTrainer, 24 instead of 17 of 33")
    # Not all are worse.
    task = changed(task, tested={"verdict": "worse"}, **fewer)
    metrics = tuple(
        replace(row, verdict="no difference shown") if row.challenger == "RWTrainer" else row
        for row in task.comparison.metrics
    )
    (answer,) = answers(replace(task, comparison=replace(task.comparison, metrics=metrics)))
    assert answer.sentence.startswith("No trainer was shown to find more lesions than nnUNetTrainer: RWTrainer_IWDice")
    assert "(84.8 % instead of 51.5 %), but that is fewer; " in answer.sentence


def test_answer_with_fewer_false_positives(results):
    cheaper = {"baseline_false_positives": 12.34, "challenger_false_positives": 9.99}
    task = changed(
        results.tasks[1], "false_positives", {"verdict": "better"}, false_positives_difference=-2.35, **cheaper
    )
    (answer,) = answers(task)
    # Three digits of either.
    assert answer.sentence.endswith(", with 2.35 fewer false positives per case (9.99 instead of 12.3).")


def test_details_tell_what_intervals_are_adjusted_for(results):
    (answer,) = answers(results.tasks[1])
    assert "over cases: recall, adjusted for all trainers and labels, +33.3 points, " in answer.details
    (answer,) = answers(changed(results.tasks[1], trainers=TRAINERS[:2]))
    assert "over cases: recall +21.2 " in answer.details


def test_equal_dice_is_within_no_noise(results):
    (answer,) = answers(changed(results.tasks[1], "dice", {"difference": 0.0, "verdict": "within noise"}))
    assert answer.details.endswith(", no difference shown.")


def test_answer_of_too_few_cases(results):
    task = results.tasks[1]
    for untested in ({"p_holm": math.nan, "verdict": "too few cases"}, {"simultaneous_low": math.nan}):
        assert headline(task, **untested).startswith("Too few cases to test: RWTrainer_IWDiceCE found 28 instead of 17")
        assert "confirm" not in headline(task, **untested)


def test_who_was_shown_to_find_more_goes_before_who_found_most(results):
    task = results.tasks[1]
    metrics = tuple(
        replace(row, verdict="better" if row.challenger == "RWTrainer" else "no difference shown")
        if row.metric == "lesion_recall"
        else row
        for row in task.comparison.metrics
    )
    sizes = tuple(replace(row, simultaneous_low=0.1) for row in task.comparison.sizes)
    (answer,) = answers(replace(task, comparison=replace(task.comparison, metrics=metrics, sizes=sizes)))
    assert answer.sentence.startswith("RWTrainer found more lesions than nnUNetTrainer, 24 instead of 17 of 33")


def test_answer_within_noise(results):
    task = results.tasks[1]
    rows = tuple(
        replace(row, verdict="within noise") if row.metric == "lesion_recall" else row
        for row in task.comparison.metrics
    )
    noisy = replace(task, comparison=replace(task.comparison, metrics=rows))
    words = shown(html_report(replace(results, tasks=(noisy,))).replace(get_plotlyjs(), ""))
    assert "No trainer was shown to find more lesions than nnUNetTrainer: RWTrainer_IWDiceCE found 28" in words
    assert "but the difference is no larger than between seeds" in words


def test_headings_descend_by_one(outline):
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(words.strip() for _, words in outline.headings)
    titles = [words for _, words in outline.headings]
    for wanted in (
        "Leaderboard",
        "Recall at any price",
        "Training",
        "Pictures",
        "Methods",
        "Provenance",
        "Not finished",
    ):
        assert wanted in titles


def test_landmarks_and_references(outline):
    assert not outline.open
    assert outline.all("html")[0]["lang"] == "en"
    assert [len(outline.all(tag)) for tag in ("header", "nav", "main")] == [1, 1, 1]
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    for _, attributes in outline.tags:
        for name in ("aria-labelledby", "aria-describedby", "for", "data-copies"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    links = [attributes["href"] for attributes in outline.all("a")]
    assert "#main" in links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_every_figure_has_a_caption_and_a_table(outline, text):
    assert len(outline.all("figure")) == len(outline.all("figcaption"))
    plots = [attributes for attributes in outline.all("div") if attributes.get("role") == "img"]
    assert len(plots) == len(figures(text)) > 20
    assert all(attributes["aria-label"] for attributes in plots)
    blocks = text.split('class="block"')[1:]
    assert all("<table>" in block for block in blocks)


def test_sortable_headers_are_buttons(outline, text):
    headers = re.findall(r'<th scope="col"( aria-sort="none")?>(.*?)</th>', text)
    sortable = [inside for sort, inside in headers if sort]
    assert len(sortable) > 30
    assert all(inside.startswith('<button type="button">') for inside in sortable)


def test_nothing_from_a_network(outline, text):
    for tag, attributes in outline.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, value)
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_pictures_are_embedded_without_their_metadata(outline, page):
    images = outline.all("img")
    assert len(images) == 2
    assert [image["width"] for image in images] == ["60", "61"]
    assert images[0]["alt"].startswith("Missed lesions by size, class lesion, RWTrainer.")
    assert all(image["src"].startswith("data:image/") for image in images)
    assert b"the clinic" not in page.read_bytes()


def test_pictures_of_other_names(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "mri_7.png")
    assert embed_picture(tmp_path / "mri_7.png", "RWTrainer").title == "Picture"
    with pytest.raises(FileNotFoundError, match="absent"):
        embed_picture(tmp_path / "absent.png", "RWTrainer")


def test_names_cannot_run(results):
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    task = results.tasks[1]
    evaluations = {hostile: {0: replace(task.evaluations["RWTrainer"][0], name=hostile)}}
    runs = tuple(replace(run, trainer=hostile, seed=0) for run in task.runs[:1])
    task = replace(
        task, task=hostile, dataset=hostile, description=hostile, runs=runs, evaluations=evaluations, comparison=None
    )
    specification = results.specification.model_copy(update={"trainers": (hostile,), "tasks": (hostile,)})
    changed = replace(results, tasks=(task,), specification=specification, unfinished=(Unfinished(hostile, hostile),))
    text = html_report(changed, show_case_ids=True).replace(get_plotlyjs(), "")
    outline = Outline(text)
    assert not outline.all("img")
    assert not outline.open
    # Those of the page: figures, colours, methods, plotly and its own.
    assert len(outline.all("script")) == len(figures(text)) + 4
    assert "alert(1)" in shown(text)
    names = {trace["name"] for figure in figures(text) for trace in figure["data"] if "name" in trace}
    assert names == {hostile.replace("<", "&lt;").replace(">", "&gt;")}


@pytest.mark.parametrize("change", ["unevaluated", "no comparison", "no froc", "one trainer"])
def test_pages_of_what_is_there(tmp_path, change):
    options = {
        "unevaluated": {"evaluated": False},
        "no comparison": {"compared": False},
        "no froc": {"froc": False},
        "one trainer": {"trainers": ("nnUNetTrainer",)},
    }[change]
    text = html_report(benchmark_results(tmp_path, **options)).replace(get_plotlyjs(), "")
    titles = [words for _, words in Outline(text).headings]
    assert ("Recall at any price" in titles) == (change in ("no comparison", "one trainer"))
    assert ("Case by case" in titles) == (change == "no froc")
    assert ("No trainer is evaluated yet." in text) == (change == "unevaluated")
    assert "Training" in titles
    assert "nan" not in re.findall(r">([^<]*)<", text)


def test_labels_can_be_chosen(text):
    assert text.count("<select") == 1
    assert [f'value="task-1-label-{number}"' in text for number in (1, 2, 3)] == [True, True, False]


def test_the_same_results_give_the_same_page(results):
    results = replace(results, tasks=results.tasks[1:])
    assert html_report(results) == html_report(results)


def test_a_task_of_no_description(results):
    task = replace(results.tasks[0], description="")
    assert HIPPOCAMPUS in html_report(replace(results, tasks=(task,)))


@pytest.mark.parametrize("content", [slice(0, -400), slice(0, 40), slice(200, None), slice(0, 0)])
def test_a_damaged_picture_is_named(tmp_path, content):
    path = tmp_path / "worst_cases_1.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[content])
    with pytest.raises(ValueError, match=r"\S+/worst_cases_1\.png is no whole picture \(.*\)\. Delete it and run"):
        embed_picture(path, "RWTrainer")


def test_a_missing_picture(results):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        html_report(results, galleries={(LESIONS, "RWTrainer"): ["gone.png"]})


@pytest.mark.parametrize(("selector", "series"), [(":root {", COLOURS), (':root[data-theme="dark"] {', None)])
def test_contrast(text, selector, series):
    css = text.split("*, *::before")[0]
    block = css.split(f"\n{selector}\n")[1].split("}")[0]
    colours = dict(re.findall(r"--(\w+): (#\w{6});", block))
    for words in ("ink", "muted", "accent", "notice"):
        assert contrast(colours[words], colours["ground"]) >= 4.5
        assert contrast(colours[words], colours["raised"]) >= 4.5
    for colour in series or [DARK.get(colour, colour) for colour in COLOURS]:
        assert contrast(colour, colours["ground"]) >= 3
