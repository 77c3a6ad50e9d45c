"""One tiny detector, trained once for all tests of the scripts that use one."""

from pathlib import Path

import pytest

from public.recipes.detection import train
from tests.recipes.runs import ONE_PROCESS
from tests.test_scripts.trained import OWN, TRAIN, TrainedRun, row_on, run_script, write_squares


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Nothing may be changed in its folders but runs/tiny/test/."""
    folder = tmp_path_factory.mktemp("experiment")
    data = folder / "COCO2017"
    write_squares(data)
    row = row_on(data)
    assert train(row, folder / "runs" / row.name, ONE_PROCESS) == 0
    (folder / "config.py").write_text(
        "from pathlib import Path\n"
        "from tests.test_scripts.trained import row_on\n"
        f"CONFIGS = {{'tiny': row_on(Path({str(data)!r}))}}\n"
    )
    return TrainedRun(folder, row, data)


@pytest.fixture(scope="session")
def own_folder(trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a transform of its own, trained for an epoch."""
    folder = tmp_path_factory.mktemp("own_experiment")
    (folder / "own.py").write_text(OWN)
    (folder / "config.py").write_text(
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from own import Darker\n"
        "from public.config.calls import Call\n"
        "from tests.test_scripts.trained import row_on\n"
        f"row = row_on(Path({str(trained_run.data)!r})).with_epochs(1)\n"
        "darker = (Call(Darker, share=0.5), *row.data.val_transforms)\n"
        "data = replace(row.data, train_transforms=darker, val_transforms=darker)\n"
        "CONFIGS = {'dark': replace(row, name='dark', data=data)}\n"
    )
    (folder / "train.py").write_text(TRAIN)
    trained = run_script(folder / "train.py")
    assert trained.returncode == 0, trained.stderr[-3000:]
    return folder
