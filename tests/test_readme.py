"""Every command of the README's bash blocks runs, in the README's order, on six real cases."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
HIPPOCAMPUS = Path(__file__).parent / "data" / "Task04_Hippocampus"
# Run where they cost least.
ELSEWHERE = {
    "nnunet-rw compare -d 4 -c 3d_fullres -tr nnUNetTrainer RWTrainer": "cli/test_evaluate.py",
}

# The commands as they stand, but for less of everything.
PRELUDE = r"""
set -euo pipefail
# Planning needs several processes, training on a CPU is fastest with one.
nnUNetv2_train() { nnUNet_n_proc_DA=0 command nnUNetv2_train "$@" -device cpu; }
nnUNetv2_predict() { command nnUNetv2_predict "$@" -device cpu --disable_tta -npp 1 -nps 1; }
nnunet-rw() {
    if [ "$1" = demo ]; then set -- "$@" --epochs 1 --iterations 1; fi
    if [ "$1 ${2-}" = "benchmark --tasks" ]; then
        set -- "$@" --epochs 1 --iterations 1 -f 0 --jobs 2 --plans small --device cpu
    fi
    command nnunet-rw "$@"
    if [ "$1" = preprocess ]; then "$PYTHON" "$SHRINK"; fi
}
"""
SHRINK = """
import json, os
from pathlib import Path
from nnunet_rw.datasets.planning import small_plans
path = Path(os.environ["nnUNet_preprocessed"], "Dataset004_Hippocampus", "nnUNetPlans.json")
plans = small_plans(json.loads(path.read_text()), max_patch=24, features=(4, 8, 16))
path.write_text(json.dumps({**plans, "plans_name": "nnUNetPlans"}))
"""


def bash_blocks():
    return re.findall(r"```bash\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)


def commands():
    return [line for block in bash_blocks() for line in block.strip().splitlines() if line not in ELSEWHERE]


def first_screen():
    text, _, _ = (CHECKOUT / "README.md").read_text().partition("## Which trainer")
    assert len(text.splitlines()) < 30
    return text


def test_make_targets_of_the_first_screen_exist():
    makefile = (CHECKOUT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"    make {target} " in first_screen()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_commands_of_the_first_screen_are_run():
    lines = re.findall(r"^    (.*?)(?:  +#.*)?$", first_screen(), re.MULTILINE)
    # The wheel is installed by test_install.py.
    assert [line for line in lines if not line.startswith(("make ", "pip install ")) and line not in commands()] == []


def test_every_page_of_the_documentation_is_listed():
    text = (CHECKOUT / "README.md").read_text()
    pages = sorted((CHECKOUT / "docs").glob("*.md"))
    assert [page.name for page in pages if f"| [{page.stem}](docs/{page.name}) |" not in text] == []


def test_relative_links_lead_somewhere():
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "benchmarks").glob("*.md")]
    for page in pages:
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        assert [to for to in targets if "://" not in to and not (page.parent / to).exists()] == [], page.name


def test_citations_are_those_of_the_report():
    from nnunet_rw import __version__

    (block,) = re.findall(r"```bibtex\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    references = CHECKOUT / "nnunet_rw" / "benchmark" / "report" / "references.bib"
    known = references.read_text().replace("@VERSION@", __version__)
    entries = block.strip().split("\n\n")
    assert len(entries) == 4
    assert [entry for entry in entries if entry not in known] == []

    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert str(citation["version"]) == __version__
    for reference in citation["references"]:
        assert f"doi = {{{reference['doi']}}}" in block


def test_commands_run_elsewhere_are():
    for test_file in ELSEWHERE.values():
        assert (Path(__file__).parent / test_file).is_file()


def test_python_blocks_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_table_of_trainers_is_complete():
    from nnunet_rw.training.catalogue import trainer_classes

    _, _, chapter = (CHECKOUT / "README.md").read_text().partition("## Choose a trainer")
    rows = re.findall(r"^\| (`RWTrainer[^|]*)\|", chapter, re.MULTILINE)
    listed = [name.replace("...", "RWTrainer") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert sorted(listed) == sorted(trainer_classes())


def test_table_of_trainers_tells_optimisers():
    from nnunet_rw.training.catalogue import trainer_rows

    text = (CHECKOUT / "README.md").read_text()
    for row in trainer_rows():
        _, _, optimizer = row.loss.partition("; Adam ")
        if optimizer:
            assert re.search(rf"^\| `{row.name}` \| .*; Adam {optimizer} \|", text, re.MULTILINE)


def test_losses_are_all_named():
    from nnunet_rw.losses import LOSSES

    text = (CHECKOUT / "README.md").read_text()
    assert [name for name in LOSSES if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_every_command_runs(tmp_path):
    task = tmp_path / HIPPOCAMPUS.name
    shutil.copytree(HIPPOCAMPUS, task)
    (task / "imagesTs").mkdir()
    case = json.loads((task / "dataset.json").read_text())["training"][0]["image"]
    shutil.copy(task / case, task / "imagesTs")
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir()
    (tmp_path / "shrink.py").write_text(SHRINK)
    script = tmp_path / "readme.sh"
    lines = [re.sub(r"(-tr RWTrainer)(_\w+)?", r"\1_1epochs_1iterations", line) for line in commands()]
    assert len(lines) > 10
    script.write_text(PRELUDE + "set -x\n" + "\n".join(lines) + "\n")

    environment = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet_")}
    environment |= folders | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SHRINK": str(tmp_path / "shrink.py"),
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 1
    assert (tmp_path / "hippocampus_004.png").is_file()
    assert (tmp_path / "my_benchmark" / "report.html").is_file()
    assert (tmp_path / "my_benchmark" / "report").is_dir()
    assert list((tmp_path / "shared_models").glob("nnUNetTrainer__*/fold_0/checkpoint_final.pth"))
