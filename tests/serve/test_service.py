import pytest
from uploads import encoded, picture

from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.predictor import Predictor
from imitate.serve.schema import ClassifyQuestion, ReportsQuestion
from imitate.serve.service import HELD, Service


def test_the_oldest_images_go_first(service):
    service = Service(service.predictor)
    held = service.read(encoded(picture()))
    first, second = service.keep(held), service.keep(held)
    for _ in range(HELD - 2):
        service.keep(held)
    assert service.find(first) is held  # asked about, and so no longer the oldest
    service.keep(held)
    assert service.find(first) is held and service.find(second) is None
    assert service.find("example-1") is not None and service.find("../../etc/passwd") is None


def test_who_uploads_most_loses_their_own_images_first(service):
    service = Service(service.predictor)
    held = service.read(encoded(picture()))
    mine = service.keep(held, "10.0.0.1")
    theirs = [service.keep(held, "10.0.0.2") for _ in range(HELD)]
    assert service.find(mine) is held and service.find(theirs[0]) is None and service.find(theirs[1]) is held


def test_a_class_without_known_words_does_not_take_the_others_with_it(service):
    held = service.read(encoded(picture()))
    prompts = {"Effusion": "left effusion", "x": "qwertz", "y": {"positive": [" "], "negative": ["clear"]}}
    alone, broken, empty = service.classify(held, ClassifyQuestion(prompts=prompts))
    assert [alone] == service.classify(held, ClassifyQuestion(prompts={"Effusion": "left effusion"}))
    assert alone.probability is not None and broken.probability is empty.probability is None
    assert "knows no word of 'qwertz'" in broken.problem and "one is empty" in empty.problem


def test_answers_are_those_of_the_predictor(service):
    held = service.read(encoded(picture()))
    question = ClassifyQuestion(prompts={"Effusion": "left effusion"}, branch="findings", temperature=0.1)
    expected = service.predictor.classify(
        held.radiograph, {"Effusion": "left effusion"}, branch="findings", temperature=0.1
    )
    (answer,) = service.classify(held, question)
    assert (answer.name, answer.probability) == ("Effusion", pytest.approx(expected["Effusion"].iloc[0]))
    for branch in ("both", "findings", "impression"):
        found = service.reports(held, ReportsQuestion(branch=branch, k=3))
        nearest = service.predictor.retrieve(image=held.radiograph, index=service.index, k=3, branch=branch)
        assert [each.image_id for each in found] == nearest["image_id"].tolist()
        assert [each.similarity for each in found] == pytest.approx(nearest["similarity"].tolist())


def test_about_names_no_folder_above(service):
    about = service.about
    assert about.model.count("/") == 1 and about.model.endswith("/run")
    assert about.index == "data"
    assert all(each.positive and each.negative for each in about.prompts.values()) and "cardiomegaly" in about.prompts


def test_a_model_of_other_words_starts_without_prompts(service, monkeypatch):
    text = service.predictor.encoder.text
    monkeypatch.setattr(text, "words", lambda text: {"fremd": False})
    assert Service(service.predictor).about.prompts == {}


def test_a_model_without_words_is_refused(service):
    mute = Predictor(ImitateEncoder("mute", service.predictor.encoder.model))
    with pytest.raises(UserError, match="no text encoder"):
        Service(mute)


def test_no_reports_without_an_index(service):
    alone = Service(service.predictor)
    assert alone.about.index is None
    with pytest.raises(UserError, match="--index"):
        alone.reports(alone.read(encoded(picture())), ReportsQuestion())
