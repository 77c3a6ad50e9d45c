"""One tiny detector, trained once for all tests of the scripts that use one."""

import pytest

from public.recipes.detection import train
from tests.recipes.runs import ONE_PROCESS
from tests.test_scripts.trained import TrainedRun, row_on, write_squares


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
