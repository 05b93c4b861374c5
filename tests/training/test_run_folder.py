import json

import pytest
import yaml
from recipes import tiny_recipe

from imitate.config import ObjectiveConfig
from imitate.errors import UserError
from imitate.training.run_folder import Journal, claimed, settle

DATA = {"path": "/data/a", "fingerprint": "f"}


def test_another_recipe_in_the_folder_is_told_with_its_difference(tmp_path):
    settle(tmp_path, tiny_recipe(), DATA)
    settle(tmp_path, tiny_recipe(), {**DATA, "path": "/moved"})
    settle(tmp_path, tiny_recipe(log_every=7, checkpoint_every=3), DATA)
    with pytest.raises(UserError, match=r"training.epochs is 2 there and 5 here"):
        settle(tmp_path, tiny_recipe(epochs=5), DATA)
    with pytest.raises(UserError, match=r"data.fingerprints is \['f'\] there and \['g'\] here"):
        settle(tmp_path, tiny_recipe(), {**DATA, "fingerprint": "g"})


def test_a_setting_that_an_older_run_does_not_tell_is_at_its_default(tmp_path):
    settle(tmp_path, tiny_recipe(), DATA)
    path = tmp_path / "config.yaml"
    older = yaml.safe_load(path.read_text())
    del older["objective"]["name"]
    path.write_text(yaml.safe_dump(older))
    settle(tmp_path, tiny_recipe(), DATA)
    baseline = tiny_recipe().model_copy(update={"objective": ObjectiveConfig(name="clip")})
    with pytest.raises(UserError, match="objective.name is 'imitate' there and 'clip' here"):
        settle(tmp_path, baseline, DATA)


def test_two_runs_cannot_hold_one_folder(tmp_path):
    with claimed(tmp_path), pytest.raises(UserError, match=r"in use by process \d+ on"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_the_journal_takes_back_rows_past_the_checkpoint(tmp_path):
    journal = Journal(tmp_path, step=0)
    for step in (1, 2, 3):
        journal.write(step, {"loss": step / 2})
    journal.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    Journal(tmp_path, step=2).close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]
