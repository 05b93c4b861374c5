import errno
import json
import os

import pytest
import yaml
from recipes import tiny_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from imitate.config import CaptionOptions
from imitate.errors import UserError
from imitate.training.run_folder import Journal, check_changes, claimed, compare_start, note_start, room, settle

RANK = "objective.negatives=rank"
DATA = {"path": "/data/a", "fingerprint": "f"}


def test_another_recipe_in_the_folder_is_reported_with_its_difference(tmp_path):
    settle(tmp_path, tiny_recipe(), DATA)
    settle(tmp_path, tiny_recipe(), {**DATA, "path": "/moved"})
    settle(tmp_path, tiny_recipe(log_every=7, checkpoint_every=3), DATA)
    free = {"devices": 2, "nodes": 3, "accelerator": "cpu", "log_every": 2, "checkpoint_every": 4}
    settle(tmp_path, tiny_recipe(**free, snapshot_every=5, keep_best=6), DATA)
    assert next(iter(yaml.safe_load((tmp_path / "config.yaml").read_text()))) == "model"
    settle(tmp_path, tiny_recipe(), DATA)
    with pytest.raises(UserError, match=r"training.epochs is 2 there and 5 here"):
        settle(tmp_path, tiny_recipe(epochs=5), DATA)
    with pytest.raises(UserError, match=r"data.fingerprints is \['f'\] there and \['g'\] here"):
        settle(tmp_path, tiny_recipe(), {**DATA, "fingerprint": "g"})


def test_a_run_continues_with_what_is_said_to_have_changed(tmp_path):
    settle(tmp_path, tiny_recipe(), DATA)
    other = tiny_recipe(learning_rate=1e-5, precision="bf16-mixed", log_every=7)
    way = "--continue-with training.learning_rate=1e-05 training.precision=bf16-mixed$"
    with pytest.raises(UserError, match=f"training.precision is '32-true' there .* or continue with .*: {way}"):
        settle(tmp_path, other, DATA)
    with pytest.raises(UserError, match="training.precision is '32-true' there"):
        settle(tmp_path, other, DATA, {"training.learning_rate"})
    differ = settle(tmp_path, other, DATA, {"training.learning_rate", "training.precision"})
    assert differ == [
        "training.learning_rate is 0.001 there and 1e-05 here",
        "training.log_every is 1 there and 7 here",
        "training.precision is '32-true' there and 'bf16-mixed' here",
    ]
    assert settle(tmp_path, other, DATA) == []
    with pytest.raises(UserError, match=r"training.learning_rate is 1e-05 there and 0.001 here"):
        settle(tmp_path, tiny_recipe(), DATA)
    with pytest.raises(UserError) as error:
        settle(tmp_path, other, {**DATA, "fingerprint": "g"})
    reported = (
        "holds a run with different settings: data.fingerprints is ['f'] there and ['g'] here. Choose another --out"
    )
    assert str(error.value) == f"{tmp_path} {reported}"
    with pytest.raises(UserError, match=r"here\. Choose another --out, or continue with the new values: --continue"):
        settle(tmp_path, tiny_recipe(), DATA)


@pytest.mark.parametrize(
    "key", ["training.batch_size", "training.seed", "training.freeze", "training.layer_decay", "model.heads", "init"]
)
def test_what_decides_the_samples_or_the_model_cannot_change(key):
    with pytest.raises(
        UserError, match=f"--continue-with {key}: only settings of training can change when a run continues"
    ):
        check_changes(["training.learning_rate", key])


def test_a_start_that_is_not_like_the_last_is_reported_and_refused_where_it_changes_the_objective(tmp_path, caplog):
    facts = {"time": "now", "step": 0, "processes": 2, "torch": "2.14.1"}
    compare_start(tmp_path, facts, contrasts_within=RANK, normalises=True)
    note_start(tmp_path, facts)
    assert (tmp_path / "starts.jsonl").read_text() == json.dumps(facts) + "\n"
    compare_start(tmp_path, facts, contrasts_within=RANK, normalises=True)
    note_start(tmp_path, facts := {**facts, "changed": ["a"]})
    compare_start(tmp_path, {**facts, "time": "then", "step": 7, "changed": []}, contrasts_within=RANK, normalises=True)
    assert not caplog.text
    compare_start(tmp_path, {**facts, "torch": "2.15"}, contrasts_within=RANK, normalises=True)
    assert (
        caplog.messages == ["this run continues under different conditions: torch was 2.14.1 and is 2.15"]
        and "BatchNorm" not in caplog.text
    )
    compare_start(tmp_path, {**facts, "processes": 4}, contrasts_within="", normalises=True)
    assert caplog.messages[1:] == [
        "this run continues under different conditions: processes was 2 and is 4",
        "BatchNorm now sees a different part of the batch; training.sync_batchnorm=true prevents this",
    ]
    with pytest.raises(UserError, match="trained by 2 processes, not 4; with objective.negatives=rank"):
        compare_start(tmp_path, {**facts, "processes": 4}, contrasts_within=RANK, normalises=True)


def test_a_start_whose_line_was_cut_short_is_compared_with_the_one_before(tmp_path, caplog):
    note_start(tmp_path, {"torch": "2.14.1"})
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"torch": "2.1')  # the disk was full
    compare_start(tmp_path, {"torch": "2.15"}, contrasts_within="", normalises=True)
    assert caplog.messages == ["this run continues under different conditions: torch was 2.14.1 and is 2.15"]
    note_start(tmp_path, {"torch": "2.15"})
    assert (tmp_path / "starts.jsonl").read_text().splitlines()[2] == '{"torch": "2.15"}'


def test_a_setting_that_an_older_run_does_not_record_is_at_its_default(tmp_path):
    settle(tmp_path, tiny_recipe(), DATA)
    path = tmp_path / "config.yaml"
    older = yaml.safe_load(path.read_text())
    del older["objective"]["name"]
    path.write_text(yaml.safe_dump(older))
    settle(tmp_path, tiny_recipe(), DATA)
    baseline = tiny_recipe().model_copy(update={"objective": CaptionOptions(name="clip")})
    with pytest.raises(UserError, match="objective.name is 'imitate' there and 'clip' here"):
        settle(tmp_path, baseline, DATA)


def test_two_runs_cannot_hold_one_folder(tmp_path):
    with claimed(tmp_path), pytest.raises(UserError, match=r"in use by process \d+ on"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_a_folder_whose_holder_has_not_said_who_it_is_is_in_use(tmp_path):
    with claimed(tmp_path):
        (tmp_path / "holder").rename(tmp_path / "away")
        with pytest.raises(UserError, match="is in use by another process: wait for it"), claimed(tmp_path):
            pass


def test_a_run_that_wrote_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "run"):
        assert (tmp_path / "run" / "holder").is_file()
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()
    with claimed(tmp_path / "run"):
        (tmp_path / "run" / "config.yaml").touch()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "lock"]


def test_the_journal_takes_back_rows_past_the_checkpoint(tmp_path):
    journal = Journal(tmp_path, step=0)
    for step in (1, 2, 3):
        journal.write(step, {"loss": step / 2})
    journal.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    for step in (1_000, 2):  # a line that was cut short is of no step
        Journal(tmp_path, step=step).close()
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == min(step, 3)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_the_journal_knows_what_was_validated(tmp_path):
    journal = Journal(tmp_path, step=0)
    journal.write(1, {"loss": 0.5}, {"samples_per_second": 3.0})
    journal.write(2, {"val/recall": 0.5, "val/loss": 2.0})
    journal.write(3, {"val/loss": 1.0})
    journal.close()
    assert "samples_per_second" not in (tmp_path / "metrics.jsonl").read_text()
    for step in (3, 2):
        journal = Journal(tmp_path, step=step)
        assert journal.validated == {2: 0.5} and not journal.has_validated(1) and journal.has_validated(2)
        assert journal.has_validated(3) == (step == 3)
        journal.close()


def test_tensorboard_has_what_the_file_has_and_what_is_measured(tmp_path):
    journal = Journal(tmp_path, step=0)
    journal.write(4, {"loss": 0.5}, {"samples_per_second": 3.0})
    journal.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {name: [(each.step, each.value) for each in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert found == {"loss": [(4, 0.5)], "samples_per_second": [(4, 3.0)]}
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 4, "loss": 0.5}


def test_a_full_disk_is_reported_and_another_error_is_not(tmp_path):
    for number in (errno.ENOSPC, errno.EROFS):
        with pytest.raises(UserError, match="make room and run the same command again"), room(tmp_path):
            raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="Permission denied"), room(tmp_path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_folder_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write into .*: choose another --out"), claimed(tmp_path / "file/run"):
        pass
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run/holder").read_text().startswith(f"process {os.getpid()} on")
