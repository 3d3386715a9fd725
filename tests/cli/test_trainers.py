"""`nnunet-rw trainers`: the table of trainers, against the files that define them."""

import ast
import re
from importlib import import_module
from pathlib import Path

from nnunet_rw.losses import Term
from nnunet_rw.training import catalogue
from nnunet_rw.training.trainer import MapTrainer

TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


def defined_trainers():
    """Names of the classes that the files of the folder define, read without importing them."""
    trees = [ast.parse(path.read_text()) for path in TRAINERS.glob("*.py")]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def test_trainers_lists_every_class_of_the_folder_and_the_base(succeeds):
    header, line, *rows = succeeds("trainers").split("\n\n")[0].splitlines()
    assert header.split() == ["trainer", "loss", "maps", "paper"]
    assert set(line) == {"-", " "}
    names = [row.split()[0] for row in rows]
    assert len(names) > 9
    assert sorted(names) == sorted({"RWTrainer", *defined_trainers()})


def test_recommended_trainers_are_there_and_may_be_recommended_by_an_audit(succeeds):
    from nnunet_rw.audit.audit import REASONS

    assert set(catalogue.RECOMMENDED) <= set(catalogue.trainer_classes())
    assert set(REASONS) == {*catalogue.RECOMMENDED, "nnUNetTrainer"}
    assert "Recommended for many small lesions: RWTrainer_SmallLesions" in succeeds("trainers")


def test_trainers_table_tells_loss_maps_and_paper():
    rows = {row.name: row for row in catalogue.trainer_rows()}
    assert (rows["RWTrainer"].loss, rows["RWTrainer"].maps) == (
        "nnunet + 4 * ramp_up * rrw(sum_classes=True)",
        "interior_distance",
    )
    assert rows["RWTrainer_IWDiceCE_RRW"].loss.startswith("IW-dice(power=0.5, normalise=True) + IW-ce(power")
    assert rows["RWTrainer_IWDiceCE_RRW"].maps == "interior_distance, lesion_ids"
    assert rows["RWTrainer_Boundary"].loss == "falling * nnunet + rising * boundary"
    assert rows["RWTrainer_Boundary"].maps == "boundary_distance"
    assert rows["RWTrainer_ActiveContour"].maps == "none"
    assert rows["RWTrainer_SmallLesions"].loss == f"{rows['RWTrainer_IWDiceCE'].loss}; lesions drawn alike"
    assert rows["RWTrainer_RRW"].loss == "rrw; Adam 1e-3, betas 0.9 and 0.95"
    assert rows["RWTrainer_SmallLesionsAdam"].loss == f"{rows['RWTrainer_SmallLesions'].loss}; Adam 1e-3"
    with_adam = {"RWTrainer_RRW", "RWTrainer_SmallLesionsAdam"}
    assert {name for name, row in rows.items() if "Adam" in row.loss} == with_adam
    assert all(re.search(r"\b(19|20)\d\d\b", row.paper) and row.summary for row in rows.values())


def test_trainers_table_tells_what_else_is_not_nnunets(monkeypatch):
    class Other(MapTrainer):
        """Of a test."""

        loss_terms = (Term("ce"),)
        oversample_by, cases_by = "lesion", "lesion"
        weight_decay = 1e-4

    class Slow(Other):
        """Of a test."""

        optimizer_name = "adamw"
        adam_betas = (0.9, 0.95)  # of no account in the next, which has SGD
        oversample_by = cases_by = None
        weight_decay = None

    class Fast(Slow):
        """Of a test."""

        optimizer_name = None
        initial_lr = 2e-2
        weight_decay = 0.0

    monkeypatch.setattr(catalogue, "trainer_classes", lambda: {one.__name__: one for one in (Other, Slow, Fast)})
    assert [row.loss for row in catalogue.trainer_rows()] == [
        "ce; lesions drawn alike; cases drawn by their lesions; weight decay 1e-4",
        "ce; AdamW 1e-2, betas 0.9 and 0.95",
        "ce; SGD 2e-2; weight decay 0",
    ]


def test_trainers_of_a_length_are_not_listed_once_used():
    before = sorted(catalogue.trainer_classes())
    module = import_module("nnunet_rw.trainers.rw_region_wise")
    try:
        assert module.RWTrainer_RRW_7epochs.__name__ == "RWTrainer_RRW_7epochs"
        assert sorted(catalogue.trainer_classes()) == before
    finally:
        vars(module).pop("RWTrainer_RRW_7epochs", None)
