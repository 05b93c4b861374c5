import numpy as np
import pytest
from served import calibrated
from uploads import encoded, picture

from imitate.errors import UserError
from imitate.inference.embeddings import embed_images
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.gallery import image_vectors
from imitate.inference.predictor import Predictor
from imitate.serve import scores
from imitate.serve import service as services
from imitate.serve.schema import ClassifyQuestion, HeatmapQuestion, ReportsQuestion
from imitate.serve.scores import Scores
from imitate.serve.service import HELD, Service
from imitate.serve.worker import noting


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


def test_large_images_go_sooner(service, monkeypatch):
    service = Service(service.predictor)
    held = service.read(encoded(picture()))
    monkeypatch.setattr(services, "HELD_BYTES", 2 * held.size)
    first, second, third = (service.keep(held) for _ in range(3))
    assert service.find(first) is None and service.find(second) is service.find(third) is held
    assert service.forget(third) and service.find(third) is None and not service.forget("example-1")


def test_a_class_without_known_words_does_not_take_the_others_with_it(service):
    held = service.read(encoded(picture()))
    prompts = {"Effusion": "left effusion", "x": "qwertz", "y": {"positive": [" "], "negative": ["clear"]}}
    alone, broken, empty = service.classify(held, ClassifyQuestion(prompts=prompts))
    assert [alone] == service.classify(held, ClassifyQuestion(prompts={"Effusion": "left effusion"}))
    assert alone.score is not None and broken.score is broken.percentile is empty.score is None
    assert "knows no word of 'qwertz'" in broken.problem and "one is empty" in empty.problem


def test_results_are_those_of_the_predictor(service):
    held = service.read(encoded(picture()))
    question = ClassifyQuestion(prompts={"Effusion": "left effusion"}, branch="findings", temperature=0.1)
    expected = service.predictor.classify(
        held.radiograph, {"Effusion": "left effusion"}, branch="findings", temperature=0.1
    )
    (score,) = service.classify(held, question)
    assert (score.name, score.score) == ("Effusion", pytest.approx(expected["Effusion"].iloc[0]))
    assert score.probability is None and score.provenance == "uncalibrated"
    for branch in ("both", "findings", "impression"):
        found = service.reports(held, ReportsQuestion(branch=branch, k=3))
        nearest = service.predictor.retrieve(image=held.radiograph, index=service.index, k=3, branch=branch)
        assert [each.image_id for each in found] == nearest["image_id"].tolist()
        assert [each.similarity for each in found] == pytest.approx(nearest["similarity"].tolist())


@pytest.mark.parametrize("branch", ["both", "findings"])
def test_each_sentence_has_its_own_cosine(service, branch):
    held = service.read(encoded(picture()))
    pair = {"positive": ["left effusion", "qwertz"], "negative": ["the lungs are clear"]}
    (score,) = service.classify(held, ClassifyQuestion(prompts={"x": pair}, branch=branch))
    (image,) = service.predictor.embed_images(held.radiograph, branch=branch)
    for found, sentences in [(score.positive, ["left effusion"]), (score.negative, pair["negative"])]:  # known ones
        assert [each.text for each in found] == sentences
        expected = service.predictor.embed_texts(sentences, branch=branch) @ image
        assert [each.cosine for each in found] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("branch", ["both", "impression"])
def test_the_percentile_is_the_part_of_the_index_that_scores_lower(service, branch):
    index, predictor = service.index, service.predictor
    prompts = {"Effusion": "left effusion"}
    scorer = predictor.scorer(prompts, branch=branch)
    rows = np.arange(len(index))
    others = scorer.scores(image_vectors(embed_images(predictor.encoder, index, rows, "cpu"), branch))[:, 0]
    held = service.read(encoded(picture()))
    own = scorer.scores(image_vectors(service.seen(held), branch))[0, 0]
    (score,) = service.classify(held, ClassifyQuestion(prompts=prompts, branch=branch))
    expected = 100 * ((others < own).mean() + (others == own).mean() / 2)
    assert service.about.compared == len(index)
    assert score.percentile == pytest.approx(expected) and 0 < expected < 100


def test_a_large_index_is_compared_with_in_part(service, monkeypatch):
    monkeypatch.setattr(scores, "COMPARED", 7)
    some = Scores(service.predictor, service.index)
    assert some.images == 7
    every = embed_images(service.predictor.encoder, service.index, np.arange(len(service.index)), "cpu")
    for name, vectors in some.compared.items():
        assert np.allclose(vectors[[0, -1]], every[name][[0, -1]], atol=1e-6)  # from its beginning to its end


def test_sentences_are_encoded_once(service, monkeypatch):
    service = Service(service.predictor)
    text, encoded_texts = service.predictor.encoder.text, []
    encode = type(text).encode
    monkeypatch.setattr(type(text), "encode", lambda self, texts: encoded_texts.extend(texts) or encode(self, texts))
    held = service.read(encoded(picture()))
    unknown = {"positive": ["left effusion qwertz"], "negative": ["clear"]}
    noted = [noting(lambda: service.classify(held, ClassifyQuestion(prompts={"x": unknown})))[1] for _ in range(2)]
    assert noted[0] == noted[1] and noted[0][0].endswith("qwertz")  # of words that were seen before, too
    service.classify(held, ClassifyQuestion())
    assert encoded_texts
    encoded_texts.clear()
    for branch in ("both", "findings", "impression"):
        service.classify(service.read(encoded(picture())), ClassifyQuestion(branch=branch))
    assert not encoded_texts


def test_words_of_a_question_are_not_logged_even_where_they_are_read_for_the_first_time(service, caplog):
    held = service.read(encoded(picture()))
    prompts = {"x": {"positive": ["left effusion of zacharias"], "negative": ["clear"]}}
    assert "zacharias" in noting(lambda: service.classify(held, ClassifyQuestion(prompts=prompts)))[1][0]
    assert not caplog.records


def test_what_is_wrong_names_the_model_without_its_path(service, monkeypatch):
    name = service.about.model
    monkeypatch.setattr(service.predictor.encoder, "has_maps", False)
    held = service.read(encoded(picture()))
    with pytest.raises(UserError, match=f"^{name} has no heat-maps"):
        service.heatmap(held, HeatmapQuestion(phrase="left effusion"))
    assert name.count("/") == 1 and not name.startswith("/")


def test_an_image_is_embedded_once(service, monkeypatch):
    embedded = []
    embed = services.embed_pixels
    monkeypatch.setattr(services, "embed_pixels", lambda *given: embedded.append(1) or embed(*given))
    held = service.read(encoded(picture()))
    for branch in ("both", "findings"):
        service.classify(held, ClassifyQuestion(branch=branch))
        service.reports(held, ReportsQuestion(branch=branch))
        service.embed_image(held, branch)
    assert len(embedded) == 1


def test_probabilities_of_a_calibrated_class_are_those_of_the_predictor(service):
    predictor, name = calibrated(service.predictor)
    own = Service(predictor)
    assert own.about.branch == "both" and own.about.calibration.operating[name].at == 0.9
    assert next(iter(own.about.prompts)) == name and "pleural effusion" not in own.about.prompts
    held = own.read(encoded(picture()))
    expected = predictor.classify(held.radiograph, {name: "left effusion"}, decide=True)
    prompts = {name: own.about.prompts[name], "Other": "left effusion"}
    found, other = own.classify(held, ClassifyQuestion(prompts=prompts))
    assert found.probability == pytest.approx(expected[name].iloc[0])
    assert found.above_threshold == expected[f"{name} positive"].iloc[0]
    assert found.threshold == predictor.calibration.threshold_probability(name)
    assert found.provenance == predictor.calibration.about(name)
    assert other.probability is other.threshold is other.above_threshold is None and other.score == found.score
    for changed in ({"branch": "findings"}, {"temperature": 0.5}, {"prompts": {name: "large heart"}}):
        (score,) = own.classify(held, ClassifyQuestion(**{"prompts": {name: own.about.prompts[name]}, **changed}))
        assert score.probability is None and score.score is not None and "uncalibrated" in score.provenance


def test_about_names_no_folder_above(service):
    about = service.about
    assert about.model.count("/") == 1 and about.model.endswith("/run")
    assert about.index == "data"
    assert all(each.positive and each.negative for each in about.prompts.values()) and "cardiomegaly" in about.prompts


def test_a_model_of_other_words_starts_without_prompts(service, monkeypatch):
    text = service.predictor.encoder.text
    monkeypatch.setattr(text, "words", lambda text: {"fremd": False})
    foreign = Service(service.predictor)
    assert foreign.about.prompts == {}
    with pytest.raises(UserError, match="give prompts"):
        foreign.classify(foreign.read(encoded(picture())), ClassifyQuestion())


def test_a_model_without_words_is_refused(service):
    mute = Predictor(ImitateEncoder("mute", service.predictor.encoder.model))
    with pytest.raises(UserError, match="no text encoder"):
        Service(mute)


def test_no_reports_without_an_index(service):
    alone = Service(service.predictor)
    assert alone.about.index is None
    with pytest.raises(UserError, match="--index"):
        alone.reports(alone.read(encoded(picture())), ReportsQuestion())
