import pytest

from nnunet_rw.benchmark.report.tables.pictures import (
    draw_differences,
    draw_froc,
    draw_recall_by_size,
    draw_speed,
    draw_training,
    looks_of,
)


@pytest.fixture
def looks(results):
    return looks_of(results.specification.trainers)


def test_looks_repeat():
    looks = looks_of([f"trainer_{number}" for number in range(30)])
    assert len(looks) == 30
    # Seven colours and eight markers: as many pairs as trainers.
    assert len(set(looks.values())) == 30


def test_recall_by_size(results, looks, drawn):
    figure = draw_recall_by_size(results.tasks[1], looks)
    drawn.append(figure)
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [
        "below 10\nn = 11",
        "10 to 100\nn = 11",
        "100 to 1000\nn = 11",
    ]
    recalls = [container.lines[0].get_ydata().tolist() for container in axis.containers]
    assert recalls == [
        pytest.approx([0, 6 / 11, 1]),
        pytest.approx([2 / 11, 1, 1]),
        pytest.approx([6 / 11, 1, 1]),
    ]


def test_froc(results, looks, drawn):
    figure = draw_froc(results.tasks[1], looks)
    drawn.append(figure)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == list(looks)
    assert axis.lines[0].get_ydata().tolist() == [0, 0.25, 0.5, 0.75, 0.75]
    assert draw_froc(results.tasks[0], looks) is None


def test_differences(results, looks, drawn):
    figure = draw_differences(results.tasks[0], looks)
    drawn.append(figure)
    # Seven metrics and two labels.
    assert len(figure.axes) == 14
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert points == pytest.approx([0.05, -0.03])
    assert figure.axes[0].get_title() == "Dice\nbetter →"
    assert figure.axes[1].get_title() == "HD95 in mm\n← better"


def test_training(results, looks, drawn):
    figure = draw_training(results.tasks[1], looks)
    drawn.append(figure)
    pseudo_dice = figure.axes[2]
    # Four trainings of each trainer and their median.
    assert len(pseudo_dice.lines) == 3 * 5
    medians = [line for line in pseudo_dice.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in medians] == list(looks)
    assert medians[0].get_ydata() == pytest.approx([0.205, 0.405, 0.605])


def test_speed(results, looks, drawn):
    figure = draw_speed(results.tasks[1], looks)
    drawn.append(figure)
    (axis,) = figure.axes
    points = [tuple(container.lines[0].get_xydata()[0]) for container in axis.containers]
    assert points[1] == pytest.approx((10, 0.65))


def test_nothing_to_show(unevaluated, looks):
    task = unevaluated.tasks[0]
    assert [draw(task, looks) for draw in (draw_recall_by_size, draw_froc, draw_differences, draw_speed)] == [None] * 4
