"""What a model says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from cdal.inference.sharing.card import (
    Shared,
    hub_metadata,
    model_card,
    named_cases,
    open_shared,
    readme,
)
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import shipped_models
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.recipes import small_recipe


def shared(**values: object) -> Shared:
    header = replace(ModelHeader(small_recipe(), ("background", "a"), 1), **values)
    return Shared(Path("x.safetensors"), header, "x", "")


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [
        ("CC-BY-SA 4.0", "CC-BY-SA-4.0"),
        ("CC BY-NC-SA 4.0 (non-commercial)", "CC-BY-NC-SA-4.0"),
        ("images: public; masks of Shenzhen: CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("Apache License 2.0 or MIT", ""),
        ("MIT", "MIT"),
        ("CC BY 4.0; CC BY-NC 4.0", ""),
        ("CC BY 4.01", ""),
        ("permitted", ""),
        ("", ""),
    ],
)
def test_a_licence_is_recognised_if_it_is_the_only_one(licence: str, identifier: str):
    assert shared(licence=licence).licence == identifier


def test_metadata_are_those_of_the_header():
    model = shared(scores={"a": 0.75}, licence="free for all", data={"name": "My Set"})
    values = hub_metadata(model)
    assert values["library_name"] == "cdal"
    assert values["pipeline_tag"] == "image-segmentation"
    assert (values["license"], values["license_name"]) == ("other", "see-card")
    (result,) = values["model-index"][0]["results"]
    assert result["dataset"]["type"] == "my-set"
    assert result["metrics"][0]["value"] == 0.75
    assert hub_metadata(shared())["license"] == "unknown"


def test_the_card_is_metadata_and_text_that_names_cannot_break():
    model = shared(classes=("background", "a|b\n---\n<script>"), scores={"a|b": 0.5})
    card = model_card(model, "use it")
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == hub_metadata(model)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "a\\|b" in text and "## Use\n\nuse it" in text


def test_the_hubs_own_library_reads_the_cards_of_shipped_models():
    ModelCard = pytest.importorskip("huggingface_hub").ModelCard
    for name in shipped_models():
        model = open_shared(name)
        card = ModelCard(model_card(model, ""))
        assert card.data.license in ("cc-by-sa-4.0", "cc-by-nc-sa-4.0")
        (result,) = card.data.eval_results[:1]
        assert result.metric_type == "dice" and result.metric_value in {
            round(score, 4) for score in model.header.scores.values()
        }


def test_a_card_beside_the_file_is_its_text(tmp_path: Path):
    path = tmp_path / "own.safetensors"
    data = {"train": ["p1", "p2"], "validation": ["p3"], "test": []}
    header = ModelHeader(small_recipe(), ("background", "a"), 1, data=data)
    save_model(path, {"w": torch.zeros(1)}, header)
    assert "# own" in readme(open_shared(path), "")
    (tmp_path / "own.md").write_text("# Mine\n\nwords")
    model = open_shared(path)
    assert readme(model, "so").startswith("# Mine\n\nwords\n\n## Use\n\nso\n\n## Validation")
    assert named_cases(model.header) == 3


def test_a_graph_is_no_model_to_share(tmp_path: Path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(UserError, match=r"\.safetensors"):
        open_shared(tmp_path / "a.onnx")
