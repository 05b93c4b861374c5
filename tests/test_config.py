import re
from pathlib import Path
from typing import Any

import pytest

from imitate.config import (
    AugmentConfig,
    Config,
    ImitateConfig,
    ImitateOptions,
    Recipe,
    TrainingConfig,
    load_config,
    shipped,
    validate,
)
from imitate.errors import UserError


def write(tmp_path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, message",
    [
        ("training: {epoch: 3}", r"unknown key 'training.epoch'; known: accelerator, .*batch_size, .*epochs"),
        ("training: {epochs: many}", r"training.epochs = 'many': .*integer"),
        ("training: {epochs: 0}", r"training.epochs = 0: .*greater than or equal to 1"),
        ("objective: {kernel: cosine}", r"objective: imitate: kernel = 'cosine': .*'exp'"),
        ("model: {levels: [4], keep: [0.1, 0.2]}", r"one entry for each level"),
        ("model: {levels: [0], keep: [0.1]}", r"levels must be among 1, 2, 3, 4"),
        ("objective: {name: barlow}", r"there is no objective 'barlow'; there are imitate, clip"),
        (
            "objective: {name: clip, kernel: exp}",
            r"objective: clip has no kernel: remove what another objective reads, or .*",
        ),
        ("objective: {name: mflag, temperature_text: 0.1}", r"objective: mflag has no temperature_text: remove "),
        ("objective: {name: simclr, views: 1}", r"simclr compares two views, not 1"),
        ("objective: {kernel: none, kernel_lambda: 0.3}", "imitate: kernel_lambda has no effect where kernel is none"),
        ("objective: {kernel: none, normalise_targets: true}", "normalise_targets has no effect where kernel is none"),
        (
            "objective: {views: 1, temperature_views: 0.3}",
            "temperature_views has no effect where no views are compared",
        ),
        ("objective: {name: simclr}\nlabels_as_text: true", "labels_as_text has no effect: objective simclr reads no"),
        (
            "training: {warmup_steps: 5, warmup_fraction: 0.1}",
            "training: give warmup_steps or warmup_fraction",
        ),
        (
            "training: {chunk: 64, compile: default, precision: 16-mixed}",
            "training: chunk and compile cannot be combined in 16-mixed",
        ),
        ("training: {final_learning_rate: 0.1}", "final_learning_rate 0.1 must not exceed learning_rate 0.0002"),
        ("training: {freeze: image, layer_decay: 0.7}", "freeze: image leaves .*layer_decay.* without effect"),
        ("training: {freeze: image, gradient_checkpointing: true}", "freeze: image leaves .* without effect"),
        ("training: {freeze: text}", "training.freeze = 'text': Input should be 'image'"),
        (
            "training: {compile: default, gradient_checkpointing: true}",
            "gradient_checkpointing and compile cannot be combined",
        ),
        (
            "init: imagenet",
            "init: write pretrained: true for timm's ImageNet weights, pretrained: false for random ones",
        ),
        (
            "init: hf-hub:someone/model",
            "init: hf-hub:someone/model has no revision: write hf-hub:OWNER/NAME@REVISION",
        ),
        ("init: timm:a/b", "'a/b' must be the name of a timm network"),
        ("training: {text_layers: 1, text_lora: 8}", "give text_layers or text_lora"),
        ("training: {text_learning_rate: 0.1}", "text_learning_rate has no effect on a frozen text encoder"),
        ("text: lsa-64\ntraining: {text_lora: 8}", "text: lsa-64 has no layers to train: use bert-small"),
        (
            "text: bert-small\ntraining: {text_layers: 1}\nobjective: {name: simclr}",
            "no text encoder to train: objective simclr reads no text",
        ),
        (
            "text: bert-small\ntraining: {text_layers: 1}\nobjective: {identical: one}",
            "objective.identical needs stored text embeddings",
        ),
        ("training: {decay_everything: true, weight_decay: 0}", "decay_everything has no effect"),
        ("model: {image_size: 512}", r"image_size 512 exceeds prepared_size 256"),
        ("model: {levels: [4, 4], keep: [0.1, 0.2]}", r"levels \(4, 4\) contain a level twice"),
        ("model: {heads: 3}", r"heads 3 must divide 256"),
        ("model: {range: [1, 0]}", r"range \(1.0, 0.0\) must increase"),
        *(
            (f"model: {{texts: [{text}]}}", message)
            for text, message in (
                ("{text: findings, branch: findings, weight: 0}", "model.texts.0.weight = 0: .*greater than 0"),
                ("{text: findings, branch: findings, wieght: 1}", "unknown key 'model.texts.0.wieght'; known: branch"),
                ("{text: finding, branch: findings}", "model.texts.0.text = 'finding': Input should be 'findings'"),
                ("{text: findings}", "model.texts.0.branch = .*: Field required"),
                ("{text: findings, branch: findings, draw: 3}", "texts.0: draw has no effect on the text findings"),
                (
                    "{text: sentences, branch: findings}, {text: sentences, branch: impression, draw: 3}",
                    "texts draws different numbers of sentences",
                ),
            )
        ),
        ("model: {texts: sectoins}", "model.texts = 'sectoins': Input should be 'sections', 'swapped'"),
        (
            "model: {aggregation: spatial, texts: [{text: report, branch: impression}]}\nobjective: {grounding: 1}",
            "objective.grounding needs a text of the findings branch",
        ),
        ("model: {text_statistics: section, texts: report}", "needs both sections .*; missing: findings, impression"),
        ("model: {text_statistics: section}\nobjective: {name: clip}", "text_statistics: section needs both sections"),
        ("objective: {learn_temperature: true, temperature_text: 5}", "learned temperature stays between 0.01 and 1"),
        ("objective: {prior_mass: 0.1, identical: positive}", "identical positive cannot be combined with it"),
        ("objective: {views: 1, visual_visual: 5}", "visual_visual compares two views, not 1"),
        ("- a list", r"must hold keys and values"),
        ("a: [", r"not valid YAML"),
    ],
)
def test_each_mistake_is_reported_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(Recipe, write(tmp_path, text))
    assert "\n" not in str(error.value)


NAN, INF = float("nan"), float("inf")
BEYOND: dict[str, tuple[Any, ...]] = {  # below and above; a slip of the keyboard is mostly a power of ten or a sign
    "model.prepared_size": (0, 10**5),
    "model.image_size": (0, 10**5, -1),
    "model.range": ([-1e9, 1], [0, 1e9], [0, NAN]),
    "model.percentiles": ([-1, 99], [1, 101]),
    "model.mean": ([-1e9, 0, 0], [1e9, 0, 0], [NAN, 0, 0]),
    "model.std": ([0, 1, 1], [1e9, 1, 1]),
    "model.levels": ([0], [5]),
    "model.keep": ([0.1, 0.1, 0.1, 0], [0.1, 0.1, 0.1, 1.1]),
    "model.grid": (0, 65),
    "model.slots": (0, 10**8),
    "model.heads": (0, 10**8, -4),
    "model.joint_width": (0, 10**8),
    "model.text_width": (0, 10**8),
    "model.temperature": (0, 70, NAN),
    "model.token_width": (0, 10**6),
    "objective.bias": (-1000, INF),
    "objective.grounding": (-1, 1000),
    "objective.visual_visual": (-1, 1000),
    "objective.prior_mass": (-0.1, 1),
    "objective.kernel_lambda": (-1, 200, INF),
    "objective.prior_weight": (-1, 1000),
    "objective.temperature_text": (0, 70, NAN),
    "objective.temperature_views": (0, 20, NAN),
    "augment.horizontal_flip": (-0.1, 1.1),
    "augment.vertical_flip": (-0.1, 2),
    "augment.autocontrast": (-0.1, 2),
    "augment.rotation": (-1, 181),
    "augment.scale": (-0.1, 1),
    "augment.perspective": (-1, 3),
    "augment.perspective_probability": (-0.1, 2, NAN),
    "training.epochs": (0, 10**6),
    "training.steps": (0, 10**9),
    "training.image_sizes": ([4], [10**5]),
    "training.batch_size": (1, 10**8),
    "training.learning_rate": (0, 2e4, INF, NAN),
    "training.final_learning_rate": (-1e-9, 1e8),
    "training.warmup_steps": (-1, 10**9),
    "training.warmup_fraction": (-0.1, 1, 500),
    "training.backbone_learning_rate": (0, 2e4),
    "training.text_layers": (0, -1, 1000),
    "training.text_lora": (0, -1, 2000),
    "training.text_learning_rate": (0, 2e4),
    "training.layer_decay": (0, 1.1, 75),
    "training.ema_decay": (0.4, 1, 999),
    "training.weight_decay": (-1, 50, NAN),
    "training.clip_gradient": (-1, 1e9, 0),
    "training.chunk": (0, 10**8),
    "training.seed": (-1, 2**32),
    "training.log_every": (0, 10**8),
    "training.checkpoint_every": (0, 10**9),
    "training.validate_every": (0, 10**8),
    "training.snapshot_every": (0, 10**8),
    "training.keep_best": (0, 10**6),
    "training.devices": (0, 10**6, -1, "many"),
    "training.nodes": (0, 10**6),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BEYOND.items() for value in values])
def test_a_value_beyond_its_bounds_names_its_key(tmp_path, key, value):
    with pytest.raises(UserError, match=key.partition(".")[2]) as error:
        load_config(Recipe, write(tmp_path, ""), {key: value})
    assert "\n" not in str(error.value)


def test_every_number_of_a_recipe_has_bounds():
    sections: dict[str, type[Config]] = {
        "model": ImitateConfig,
        "objective": ImitateOptions,
        "augment": AugmentConfig,
        "training": TrainingConfig,
    }
    numbers = {
        f"{name}.{key}"
        for name, kind in sections.items()
        for key, field in kind.model_fields.items()
        if re.search(r"\b(int|float)\b", str(field.annotation))
    }
    assert numbers <= BEYOND.keys()


def test_absent_recipe(tmp_path):
    with pytest.raises(UserError, match="no recipe at"):
        load_config(Recipe, tmp_path / "absent.yaml")


def test_a_recipe_of_the_package_is_found_from_any_folder_after_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = Path("recipes/tiny.yaml")
    assert load_config(Recipe, tiny).model.backbone == load_config(Recipe, shipped(tiny)).model.backbone != "resnet50"
    with pytest.raises(UserError, match="no recipe at recipes/absent.yaml"):
        load_config(Recipe, Path("recipes/absent.yaml"))
    tiny.parent.mkdir()
    tiny.write_text("training: {epochs: 77}")
    assert load_config(Recipe, tiny).training.epochs == 77


def test_overrides_win_over_the_file(tmp_path):
    path = write(tmp_path, "training: {epochs: 3}\nmodel: {backbone: resnet18}")
    recipe = load_config(Recipe, path, {"training.epochs": 5, "objective.views": 1})
    assert (recipe.training.epochs, recipe.objective.views, recipe.model.backbone) == (5, 1, "resnet18")


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("model: {aggregation: pooled, token_width: 64}", []),
        ("model: {aggregation: pooled, feed_forward: true, grid: 8}", ["model.feed_forward", "model.grid"]),
        ("model: {token_width: 64, grid: 8}", ["model.token_width"]),
        ("model: {levels: [4], keep: [0.1]}\nobjective: {name: clip}", ["model.levels", "model.keep"]),
        ("model: {temperature: 0.5}", ["model.temperature"]),
    ],
)
def test_settings_of_the_model_that_nothing_reads_are_named(tmp_path, text, idle):
    assert sorted(load_config(Recipe, write(tmp_path, text)).without_effect()) == sorted(idle)


def test_an_empty_file_is_the_published_setting(tmp_path):
    recipe = load_config(Recipe, write(tmp_path, ""))
    assert recipe.model == ImitateConfig() and recipe.training.batch_size == 128


OLD = """
model: {fit: pad, prepared_size: 64, image_size: 56}
views: {rotation: 5, scale: 0.1}
objective: {temperature_views: 0.3}
"""


def test_the_names_of_an_earlier_version_are_read_and_the_new_ones_are_logged(tmp_path, caplog):
    recipe = load_config(Recipe, write(tmp_path, OLD), {"views.rotation": 7, "model.fit": "squash"})
    assert (recipe.augment.rotation, recipe.augment.scale, recipe.model.resize) == (7, 0.1, "stretch")
    assert isinstance(recipe.objective, ImitateOptions) and recipe.objective.temperature_views == 0.3
    assert "recipe.yaml: views is now called augment" in caplog.text
    assert "setting model.fit: fit is now called resize" in caplog.text
    new = write(tmp_path, "augment: {rotation: 5}\nmodel: {resize: letterbox}")
    caplog.clear()
    assert load_config(Recipe, new, {"augment.scale": 0.2}).augment.scale == 0.2 and not caplog.text
    assert load_config(Recipe, new, {"views.rotation": 9}).augment.rotation == 9
    assert validate(ImitateConfig, {"fit": "pad"}, where="config.json").resize == "letterbox"


def test_old_and_new_names_together_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match="unknown key 'views'"):
        load_config(Recipe, write(tmp_path, "views: {rotation: 5}\naugment: {rotation: 6}"))


def test_a_setting_below_a_value_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="setting text.name: text is 'lsa', which has no keys"):
        load_config(Recipe, write(tmp_path, "text: lsa"), {"text.name": 1})


@pytest.mark.parametrize(
    "given",
    [
        {"backbone": "hf-hub:someone/model"},
        {"backbone": "local-dir:/srv/model"},
        {"backbone": "someone/model"},
        {"backbone_options": {"checkpoint_path": "weights.pth"}},
        {"backbone_options": {"pretrained_cfg": {"file": "weights.pth"}}},
        {"backbone_options": {"pretrained_cfg_overlay": "x"}},
        {"backbone_options": {"cache_dir": "x"}},
        {"backbone_options": {"channels": [64, 10**8]}},
        {"backbone_options": {"depth": 129}},
        {"backbone_options": {"norm_layer": "os.system"}},
        {"backbone_options": {"embed_dim": float("nan")}},
        {"joint_width": 10**8},
        {"text_width": 0},
        {"slots": 10**8},
        {"heads": 0},
        {"heads": 3},
        {"grid": 10**4},
        {"image_size": 0},
        {"prepared_size": 10**6},
        {"temperature": float("nan")},
        {"mean": [float("inf")] * 3},
        {"std": [0.1, 0.0, 0.1]},
    ],
)
def test_a_models_config_names_no_file_or_hub_and_stays_within_bounds(given):
    with pytest.raises(UserError, match=f"config.json: {next(iter(given))}|config.json: std") as reported:
        validate(ImitateConfig, given, where="config.json")
    assert "\n" not in str(reported.value)


def test_options_of_a_backbone_that_change_the_architecture_alone_are_taken():
    given = {"img_size": 64, "channels": [4, 8], "norm_layer": "groupnorm1", "qkv_bias": False, "mlp_ratio": 2.5}
    assert validate(ImitateConfig, {"backbone_options": given}, where="x").backbone_options == given
